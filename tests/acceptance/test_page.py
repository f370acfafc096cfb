"""What serves the page, without a browser: the files, their headers, and the session that a key begins."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.assets import assets
from tests.acceptance.client import BASE, until
from tests.acceptance.keyed import Keyring, bearer, opened, prefix_of
from tests.conftest import run_psql
from tests.processes import Starter, starting

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Of all files together, as they travel.
MOST_BYTES = 60_000
SAME, OTHER = {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "cross-site"}


@dataclass
class Page:
    """A service that asks for keys, a client without one, and two keys."""

    http: httpx.Client
    ring: Keyring
    service: Starter
    key: str
    reader: str
    dsn: str

    @contextmanager
    def signed_in(self, key: str | None = None) -> Iterator[httpx.Client]:
        """A client that has nothing but the cookie."""
        with opened(str(self.http.base_url)) as client:
            answer = client.post("/session", headers=bearer(key or self.key) | SAME)
            assert answer.status_code == 200, answer.text
            yield client


@pytest.fixture(scope="module")
def page(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    environment = {"DATABASE_URL": shared_dsn, "INGEST_HOME": str(folder / "home"), "INGEST_AUTH": "required"}
    with starting(Path(folder), environment) as service:
        process, ring = service(), Keyring(service)
        with opened(process.url) as http:
            yield Page(
                http, ring, service, ring.make("ada", "upload", "read", "control"), ring.make("bob", "read"), shared_dsn
            )


def test_browsers_get_the_page_and_others_the_links(page: Page) -> None:
    answer = page.http.get("/", headers=HTML)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["content-security-policy"] == POLICY
    assert "Accept" in answer.headers["vary"]
    for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
        found = page.http.get("/", headers=accept)
        assert (found.headers["content-type"], found.json()["service"]) == ("application/json", "ingest")
        assert "script-src" not in found.headers["content-security-policy"]


def test_a_page_that_has_not_changed_keeps_its_policy(page: Page) -> None:
    """A browser takes the headers of a 304 for those of the page that it has kept."""
    first = page.http.get("/", headers=HTML)
    again = page.http.get("/", headers=HTML | {"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == POLICY


def test_the_files_are_small_and_there_are_no_others(page: Page) -> None:
    sizes = {}
    for name, asset in assets().items():
        packed = page.http.get(f"/page/{name}", headers={"Accept-Encoding": "gzip"})
        plain = page.http.get(f"/page/{name}", headers={"Accept-Encoding": "identity"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.content == plain.content == asset.body
        assert packed.headers["content-type"] == asset.media_type
        assert packed.headers["etag"] != plain.headers["etag"]
        sizes[name] = int(packed.headers["content-length"])
        assert sizes[name] == len(gzip.compress(asset.body, mtime=0))
    assert {"index.html", "app.css", "main.js"} <= sizes.keys()
    assert sum(sizes.values()) < MOST_BYTES
    for name in ("x.js", "..%2fpages.py", "main.py", "."):
        assert page.http.get(f"/page/{name}").status_code == 404


def test_no_file_has_code_or_style_in_the_markup_or_comes_from_elsewhere() -> None:
    html = assets()["index.html"].body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    for name, asset in assets().items():
        text = asset.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), name
        if name.endswith(".js"):
            assert text.startswith("// "), f"{name} does not say what it is for"


def test_a_cookie_opens_what_its_key_opens(page: Page) -> None:
    with page.signed_in() as ada, page.signed_in(page.reader) as bob:
        assert ada.get("/session").json() == {
            "signed_in": True,
            "owner": "ada",
            "scopes": ["control", "read", "upload"],
        }
        assert ada.get(f"{BASE}/jobs").status_code == 200
        refused = bob.post(f"{BASE}/preview", content=b"a\n1\n", headers=SAME)
        assert (refused.status_code, refused.json()["code"]) == (403, "E_SCOPE")
        assert ada.post(f"{BASE}/preview", content=b"email\na@b.cc\n", headers=SAME).status_code == 200


def test_the_cookie_is_for_the_browser_alone(page: Page) -> None:
    """It holds a token that says nothing of the key, and of which the database has a hash alone."""
    [text] = page.http.post("/session", headers=bearer(page.key)).headers.get_list("set-cookie")
    page.http.cookies.clear()
    token = re.fullmatch(r"ingest_session=([A-Za-z0-9_-]{43}); Path=/; Max-Age=43200; HttpOnly; SameSite=Strict", text)
    assert token
    assert not set(token[1].split("_")) & set(page.key.split("_"))
    digest = hashlib.sha256(token[1].encode()).hexdigest()
    found = run_psql(
        page.dsn,
        "select prefix, round(extract(epoch from s.expires_at - now()) / 60) from ingest.sessions s"
        f" join ingest.keys k on k.id = key_id where token_sha256 = '\\x{digest}'",
    )
    assert found == f"{prefix_of(page.key)}|720"
    origin = {"Origin": "https://ingest.example"}  # behind a proxy that ends TLS
    assert page.http.post("/session", headers=bearer(page.key) | origin).headers["set-cookie"].endswith("; Secure")
    page.http.cookies.clear()


@pytest.mark.parametrize(
    "headers",
    [OTHER, {"Sec-Fetch-Site": "same-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=str,
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{BASE}/upload?dataset=customers"), ("POST", f"{BASE}/files"), ("POST", "/session"),
     ("POST", f"{BASE}/jobs/0195f2b0-0000-7000-8000-000000000000/cancel"), ("DELETE", f"{BASE}/jobs/0195f2b0-0000-7000-8000-000000000000")],
)  # fmt: skip
def test_other_sites_cannot_use_the_cookie(page: Page, method: str, path: str, headers: dict[str, str]) -> None:
    with page.signed_in() as ada:
        answer = ada.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "E_CROSS_SITE")


def test_a_key_in_the_header_is_what_counts(page: Page) -> None:
    with page.signed_in() as ada:
        assert ada.get("/session", headers=bearer(page.reader)).json()["owner"] == "bob"
        assert ada.get(f"{BASE}/jobs", headers=bearer("ing_wrong")).json()["code"] == "E_KEY"
        assert ada.post(f"{BASE}/preview", content=b"email\n", headers=bearer(page.key) | OTHER).status_code == 200


def code_of(client: httpx.Client, path: str = f"{BASE}/jobs") -> str:
    """The code of the refusal, or nothing."""
    return str(client.get(path).json().get("code", ""))


def test_signing_out_ends_the_session(page: Page) -> None:
    """Not only in the browser: its token is good for nothing any more. Other sessions of the key go on."""
    with page.signed_in() as ada, page.signed_in() as other:
        token = ada.cookies["ingest_session"]
        answer = ada.delete("/session", headers=SAME)
        assert (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"]) == (204, True)
        assert "ingest_session" not in ada.cookies
        assert code_of(ada) == "E_UNAUTHENTICATED"
        ada.cookies.set("ingest_session", token)
        refused = ada.get(f"{BASE}/jobs")
        assert (refused.status_code, refused.json()["code"]) == (401, "E_KEY")
        assert "session has ended" in refused.json()["detail"]
        assert ada.delete("/session", headers=SAME).status_code == 204
        assert code_of(other) == ""


def test_signing_in_again_ends_the_session_before(page: Page) -> None:
    with page.signed_in() as ada, opened(str(page.http.base_url)) as old:
        old.cookies.set("ingest_session", ada.cookies["ingest_session"])
        assert old.get("/session").json()["owner"] == "ada"
        ada.post("/session", headers=bearer(page.reader) | SAME)
        assert ada.get("/session").json()["owner"] == "bob"
        assert old.get("/session").json()["signed_in"] is False


def test_a_session_is_known_to_every_process(page: Page) -> None:
    """And to the next one after a restart; what ends it in one ends it in all."""
    other = page.service("api")
    with page.signed_in() as ada, opened(other.url) as there:
        there.cookies.set("ingest_session", ada.cookies["ingest_session"])
        assert there.get("/session").json()["owner"] == "ada"
        ada.delete("/session", headers=SAME)
        until(lambda: code_of(there) == "E_KEY", "the session has ended there")
    other.terminate()


@pytest.mark.parametrize(
    "change",
    [
        "update ingest.keys set revoked_at = now() where prefix = '{}'",
        "update ingest.keys set expires_at = now() where prefix = '{}'",
        "update ingest.sessions set expires_at = now() where key_id = (select id from ingest.keys where prefix = '{}')",
    ],
    ids=["revoked", "expired", "session"],
)
def test_a_session_ends_with_its_key_or_in_its_time(page: Page, change: str) -> None:
    key = page.ring.make("eve", "read")
    with page.signed_in(key) as eve:
        assert code_of(eve) == ""
        run_psql(page.dsn, change.format(prefix_of(key)))
        until(lambda: code_of(eve) == "E_KEY", "the session has ended")


def test_a_key_has_so_many_sessions_at_most(page: Page) -> None:
    """Whoever signs in again and again fills nothing; those begun last go on."""
    key = page.ring.make("eve", "read")
    with page.signed_in(key) as first, opened(str(page.http.base_url)) as client:
        for _ in range(100):
            client.post("/session", headers=bearer(key))
            last = client.cookies["ingest_session"]
            client.cookies.clear()
        count = f"select count(*) from ingest.sessions where key_id = (select id from ingest.keys where prefix = '{prefix_of(key)}')"
        assert run_psql(page.dsn, count) == "100"
        client.cookies.set("ingest_session", last)
        assert code_of(client) == ""
        assert code_of(first) == "E_KEY"


def test_an_old_cookie_does_not_close_the_page(page: Page) -> None:
    """Nor what tells that it is old."""
    key = page.ring.make("eve", "read")
    with page.signed_in(key) as eve:
        run_psql(
            page.dsn, f"update ingest.keys set expires_at = now() - interval '1 day' where prefix = '{prefix_of(key)}'"
        )
        with opened(str(page.http.base_url)) as fresh:
            fresh.cookies.set("ingest_session", "x" * 43)
            assert fresh.get("/", headers=HTML).status_code == 200
            assert fresh.get("/session").json() == {"signed_in": False, "owner": None, "scopes": []}
            assert fresh.get("/health").json() == {"status": "ok"}
            assert code_of(fresh) == "E_KEY"
            fresh.cookies.set("ingest_session", page.key)  # a key is no token
            assert code_of(fresh) == "E_KEY"
        assert eve.get("/", headers=HTML).status_code == 200


def test_nobody_signs_in_without_a_key(page: Page) -> None:
    def code(**headers: Any) -> str:
        return str(page.http.post("/session", headers=headers).json()["code"])

    assert code() == "E_UNAUTHENTICATED"
    assert code(Authorization="Bearer ing_wrong") == "E_KEY"
    assert page.http.get("/session").json()["signed_in"] is False
