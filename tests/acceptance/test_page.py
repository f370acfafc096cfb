"""What serves the page, without a browser: the files, their headers, and the session that keeps a key."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.assets import assets
from tests.acceptance.client import BASE
from tests.acceptance.keyed import Keyring, bearer, opened, prefix_of
from tests.conftest import run_psql
from tests.processes import starting

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
            yield Page(http, ring, ring.make("ada", "upload", "read", "control"), ring.make("bob", "read"), shared_dsn)


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
    [text] = page.http.post("/session", headers=bearer(page.key)).headers.get_list("set-cookie")
    page.http.cookies.clear()
    assert text == f"ingest_key={page.key}; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"
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


def test_signing_out_forgets_the_cookie(page: Page) -> None:
    with page.signed_in() as ada:
        answer = ada.delete("/session", headers=SAME)
        assert (answer.status_code, "Max-Age=0" in answer.headers["set-cookie"]) == (204, True)
        assert "ingest_key" not in ada.cookies
        assert ada.get(f"{BASE}/jobs").json()["code"] == "E_UNAUTHENTICATED"


def test_an_old_cookie_does_not_close_the_page(page: Page) -> None:
    """Nor what tells that it is old."""
    key = page.ring.make("eve", "read")
    with page.signed_in(key) as eve:
        run_psql(
            page.dsn, f"update ingest.keys set expires_at = now() - interval '1 day' where prefix = '{prefix_of(key)}'"
        )
        with opened(str(page.http.base_url)) as fresh:
            fresh.cookies.set("ingest_key", page.key[:-4] + "xxxx")
            assert fresh.get("/", headers=HTML).status_code == 200
            assert fresh.get("/session").json() == {"signed_in": False, "owner": None, "scopes": []}
            assert fresh.get("/health").json() == {"status": "ok"}
            assert fresh.get(f"{BASE}/jobs").json()["code"] == "E_KEY"
        assert eve.get("/", headers=HTML).status_code == 200


def test_nobody_signs_in_without_a_key(page: Page) -> None:
    def code(**headers: Any) -> str:
        return str(page.http.post("/session", headers=headers).json()["code"])

    assert code() == "E_UNAUTHENTICATED"
    assert code(Authorization="Bearer ing_wrong") == "E_KEY"
    assert page.http.get("/session").json()["signed_in"] is False
