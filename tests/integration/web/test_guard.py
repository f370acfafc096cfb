"""The guard over a real socket: request ids, headers, origins, hosts, bytes of a day; and that no route escapes it."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import httpx
import pytest
import structlog
from quart_trio import QuartTrio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from ingest.apikey import new_key
from ingest.caller import Scope
from ingest.errors import UnavailableError
from ingest.keys import KeyRow
from ingest.settings import Settings
from ingest.web import guard, metering
from ingest.web.access import ROUTES, find_route
from ingest.web.answers import BASE

from .conftest import Web

UPLOAD = f"{BASE}/upload/f.csv?dataset=t"
EVERYTHING = frozenset({Scope.UPLOAD, Scope.READ, Scope.CONTROL})

Rules = list[tuple[str, frozenset[str]]]


@pytest.fixture
def rules(monkeypatch: pytest.MonkeyPatch) -> Rules:
    """The routes of the framework, as the application registers them."""
    found: Rules = []
    register = QuartTrio.add_url_rule

    def noting(
        self: QuartTrio, rule: str, *arguments: object, methods: list[str] | None = None, **more: object
    ) -> None:
        found.append((rule, frozenset(methods or ["GET"])))
        register(self, rule, *arguments, methods=methods, **more)

    monkeypatch.setattr(QuartTrio, "add_url_rule", noting)
    return found


def key_of(web: Web, owner: str = "ada", scopes: frozenset[Scope] = EVERYTHING, **limits: int) -> dict[str, str]:
    """Enter a key; returns the header that carries it."""
    key = new_key()
    web.keys.rows[key.prefix] = KeyRow(
        id=uuid4(), prefix=key.prefix, secret_sha256=key.digest, owner=owner, scopes=scopes, **limits
    )
    return {"Authorization": f"Bearer {key.text}"}


async def test_every_route_is_in_the_table(rules: Rules, web: Web) -> None:
    """One that is not would not be reachable."""
    assert len(rules) >= 10
    for rule, methods in rules:
        for method in methods:
            path = rule.replace("<job_id>", str(UUID(int=1))).replace("<name>", "n")
            assert "<" not in path, rule
            template = rule.replace("<", "{").replace(">", "}")
            assert find_route(ROUTES, method, path).route.path == template


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> str:
    """A path that has a handler and is not in the table."""
    path = f"{BASE}/datasets"
    monkeypatch.setattr(guard, "ROUTES", tuple(route for route in ROUTES if route.path != path))
    return path


async def test_a_route_that_is_not_in_the_table_is_not_served(forgotten: str, web: Web) -> None:
    """To nobody, though there is somebody who would."""
    assert (await web.client.get(forgotten)).status_code == 404
    assert (await web.client.get(f"{forgotten}/public.t")).status_code == 200


async def test_a_mistake_of_the_guard_lets_nobody_in(web: Web) -> None:
    web.keys.failure = ZeroDivisionError("canary")  # type: ignore[assignment]
    with capture_logs() as lines:
        response = await web.client.put(UPLOAD, content=b"a\n1\n", headers=key_of(web))
        await wait_all_tasks_blocked()
    assert (response.status_code, response.json()["code"]) == (500, "E_INTERNAL")
    assert "canary" not in response.text
    assert [line["log_level"] for line in lines if line["event"] == "guard_crashed"] == ["error"]
    assert web.receiving.uploads == []


@pytest.mark.parametrize("sent", ["0123456789abcdef", "a.b-c_d~e", "A" * 128])
async def test_a_sane_request_id_is_kept(web: Web, sent: str) -> None:
    response = await web.client.get("/nowhere", headers={"X-Request-Id": sent})
    assert response.headers["x-request-id"] == response.json()["request_id"] == sent


@pytest.mark.parametrize(
    "sent", ["", "short", "with space in it", "a" * 129, "{0123456789}", "-0123456789", "0123456\t89"]
)
async def test_another_request_id_is_replaced(web: Web, sent: str) -> None:
    response = await web.client.get("/nowhere", headers={"X-Request-Id": sent})
    assert str(UUID(response.headers["x-request-id"])) == response.json()["request_id"] != sent


async def test_every_request_has_an_id_of_its_own_and_logs_it(web: Web) -> None:
    structlog.contextvars.clear_contextvars()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        answers = [await web.client.put(UPLOAD, content=b"wrong\n") for _ in range(3)]
        await wait_all_tasks_blocked()  # the line is written after the answer
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert len(set(ids)) == 3
    assert [line["request_id"] for line in lines if line["event"] == "http_request"] == ids
    assert [line["request_id"] for line in lines if line["event"] == "upload_refused"] == ids


async def test_the_access_log_has_neither_query_nor_key(web: Web) -> None:
    headers = key_of(web)
    with capture_logs() as lines:
        await web.client.get(f"{BASE}/jobs?dataset=canary", headers=headers)
        await web.client.get(f"{BASE}/jobs?dataset=canary", headers={"Authorization": "Bearer canary"})
        await wait_all_tasks_blocked()
    [first, second] = [line for line in lines if line["event"] == "http_request"]
    assert (first["path"], first["status"], first["owner"]) == (f"{BASE}/jobs", 200, "ada")
    assert (second["status"], second["owner"]) == (401, None)
    assert "canary" not in str(lines)
    assert headers["Authorization"].split("_")[-1] not in str(lines)


async def test_answers_may_not_run_be_framed_or_be_kept(web: Web) -> None:
    """A snapshot: what is taken away here is noticed."""
    for response in (await web.client.get("/health"), await web.client.get("/nowhere"), await web.client.put(UPLOAD)):
        headers = {name: response.headers.get(name) for name in (
            "content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy",
            "cross-origin-resource-policy", "cache-control", "server", "access-control-allow-origin",
        )}  # fmt: skip
        assert headers == {
            "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
            "server": None,
            "access-control-allow-origin": None,
        }


CROSS_SITE = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    {"Sec-Fetch-Site": "same-site"},  # a page of another port of this machine
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": ""},
    {"Origin": "http://localhost.evil.example"},
]


@pytest.mark.parametrize("headers", CROSS_SITE)
async def test_a_page_of_another_origin_changes_nothing(web: Web, headers: dict[str, str]) -> None:
    form = {"file": ("f.csv", b"a\n1\n")}
    for response in (
        await web.client.post(f"{BASE}/upload?dataset=t", files=form, headers=headers),
        await web.client.put(UPLOAD, content=b"a\n1\n", headers=headers),
        await web.client.post(f"{BASE}/jobs/{uuid4()}/retry", headers=headers),
    ):
        assert (response.status_code, response.json()["code"]) == (403, "E_CROSS_SITE")
    assert web.receiving.uploads == []
    assert (await web.client.get(f"{BASE}/jobs", headers=headers)).status_code == 200  # whose answer it cannot read


async def test_our_own_page_and_what_is_no_browser_may(web: Web) -> None:
    own = f"http://{web.address.host}:{web.address.port}"
    for headers in ({}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": own}):
        assert (await web.client.put(UPLOAD, content=b"a\n1\n", headers=headers)).status_code == 202


async def test_a_key_vouches_for_a_page(web: Web) -> None:
    """No browser adds it by itself."""
    response = await web.client.put(UPLOAD, content=b"a\n1\n", headers={**key_of(web), **CROSS_SITE[0]})
    assert response.status_code == 202


@pytest.mark.parametrize("headers", [CROSS_SITE[0], CROSS_SITE[2]])
async def test_a_page_of_another_origin_gets_no_websocket(web: Web, headers: dict[str, str]) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    response = await web.client.get(f"{BASE}/jobs/{uuid4()}/ws", headers={**upgrade, **key, **headers})
    assert (response.status_code, response.json()["code"]) == (403, "E_CROSS_SITE")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "EVIL.example", "[::1", "[x]:1", "127.0.0.1.evil.example", "a.local."]
)
async def test_a_foreign_name_is_not_answered_on_loopback(web: Web, host: str) -> None:
    response = await web.client.get("/health", headers={"Host": host})
    assert (response.status_code, response.json()["code"]) == (421, "E_HOST")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:1", "a.localhost", "127.0.0.1", "[::1]:80", "api", "127.9.9.9"]
)
async def test_names_that_nobody_can_bend_are_answered(web: Web, host: str) -> None:
    assert (await web.client.get("/health", headers={"Host": host})).status_code == 200


async def test_the_owner_and_the_dataset_go_with_the_upload(web: Web) -> None:
    assert (await web.client.put(UPLOAD, content=b"a\n1\n", headers=key_of(web, "ada"))).status_code == 202
    form = {"file": ("f.csv", b"a\n1\n")}
    assert (
        await web.client.post(f"{BASE}/upload?dataset=t", files=form, headers=key_of(web, "grace"))
    ).status_code == 202
    assert [upload.options.caller.owner for upload in web.receiving.uploads] == ["ada", "grace"]


async def test_the_list_of_jobs_asks_for_the_owner(web: Web) -> None:
    await web.client.get(f"{BASE}/jobs", headers=key_of(web))
    assert web.jobs.asked["owner"] == "ada"
    await web.client.get(f"{BASE}/jobs", headers=key_of(web, scopes=frozenset({Scope.ADMIN})))
    assert web.jobs.asked["owner"] is None


async def test_bytes_are_stopped_where_they_cross_the_limit(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "FIRST_SLICE_BYTES", 50_000)
    web.keys.left = 1_000_000
    headers = key_of(web)

    async def body(size: int):  # type: ignore[no-untyped-def]
        for _ in range(size // 10_000):
            yield b"a" * 9_999 + b"\n"

    assert (await web.client.put(UPLOAD, content=body(600_000), headers=headers)).status_code == 202
    await wait_all_tasks_blocked()
    assert (web.keys.used, web.keys.left) == (600_000, 400_000)
    response = await web.client.put(UPLOAD, content=body(600_000), headers=headers)
    assert (response.status_code, response.json()["code"]) == (429, "E_QUOTA")
    assert response.headers["retry-after"] == "60"
    assert response.json()["limit"] == "bytes_per_day"
    assert web.receiving.uploads[1].size <= 400_000
    assert not web.receiving.uploads[1].finished
    assert web.keys.used <= 1_000_000


async def test_an_announced_body_that_cannot_fit_is_not_read(web: Web) -> None:
    web.keys.left = 1_000_000
    response = await web.client.put(UPLOAD, content=b"a\n" * 600_000, headers=key_of(web))
    assert (response.status_code, response.json()["code"]) == (429, "E_QUOTA")
    assert all(upload.size == 0 for upload in web.receiving.uploads)
    await wait_all_tasks_blocked()  # given back after the answer
    assert web.keys.left == 1_000_000


async def test_a_form_stops_at_the_limit_and_names_the_jobs_before(web: Web) -> None:
    web.keys.left = 3_000
    form = [("file", ("a.csv", b"a\n" * 500)), ("file", ("b.csv", b"a\n" * 100_000))]
    request = web.client.build_request("POST", f"{BASE}/upload?dataset=t", files=form, headers=key_of(web))
    content = request.read()

    async def pieces():  # type: ignore[no-untyped-def]
        for start in range(0, len(content), 500):
            yield content[start : start + 500]

    headers = {**key_of(web), "Content-Type": request.headers["content-type"]}
    response = await web.client.post(f"{BASE}/upload?dataset=t", content=pieces(), headers=headers)
    assert (response.status_code, response.json()["code"]) == (429, "E_QUOTA")
    assert len(response.json()["jobs"]) == sum(upload.finished for upload in web.receiving.uploads)


async def test_without_a_database_no_key_is_good_and_the_answer_says_when_to_come_back(web: Web) -> None:
    headers = key_of(web)
    web.keys.failure = UnavailableError("the database is away")
    response = await web.client.get(f"{BASE}/jobs", headers=headers)
    assert (response.status_code, response.json()["code"]) == (503, "E_DATABASE_UNAVAILABLE")
    assert "retry-after" in response.headers


async def test_a_refused_request_leaves_its_connection_usable(web: Web) -> None:
    """Unless it has a body that nobody reads."""
    headers = key_of(web, scopes=frozenset({Scope.METRICS}))
    for _ in range(3):
        response = await web.client.get(f"{BASE}/jobs", headers=headers)
        assert (response.status_code, response.headers.get("connection")) == (403, None)
    response = await web.client.put(UPLOAD, content=b"a\n1\n" * 1_000_000, headers=headers)
    assert (response.status_code, response.headers["connection"]) == (403, "close")


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"this is not HTTP\r\n\r\n", 400, "E_REQUEST"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "E_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000, 431, "E_HEADERS_TOO_LARGE"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "E_REQUEST"),
        (b"GET / HTTP/1.9\r\nHost: a\r\n\r\n", 505, "E_HTTP_VERSION"),
    ],
)
async def test_what_is_no_request_gets_a_problem(web: Web, sent: bytes, status: int, code: str) -> None:
    answer = b""
    async with await web.connect() as stream:
        await stream.send_all(sent)
        async for piece in stream:
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0].startswith(f"http/1.1 {status} ")
    assert {"content-type: application/problem+json", "x-content-type-options: nosniff", "connection: close"} <= set(
        lines
    )
    problem = json.loads(body)
    assert (problem["code"], problem["status"]) == (code, status)
    assert f"x-request-id: {problem['request_id']}" in lines


async def test_a_form_is_not_put(web: Web) -> None:
    response = await web.client.put(UPLOAD, files={"file": b"a\n1\n"})
    assert (response.status_code, response.json()["code"]) == (415, "E_MEDIA_TYPE")


class TestWithoutKeys:
    """The same service behind a proxy that authenticates."""

    @pytest.fixture
    def settings(self) -> Settings:
        """Keys are no concern of ours."""
        return Settings.from_environment({"INGEST_AUTH": "off", "HOST": "0.0.0.0"})

    async def test_names_and_credentials_are_the_affair_of_the_proxy(self, web: Web) -> None:
        headers = {"Host": "data.example.org", "Authorization": "Basic YWRhOmFkYQ=="}
        response = await web.client.put(UPLOAD, content=b"a\n1\n", headers=headers)
        assert (response.status_code, web.keys.calls) == (202, [])

    async def test_pages_of_other_origins_are_still_refused(self, web: Web) -> None:
        response = await web.client.put(UPLOAD, content=b"a\n1\n", headers=CROSS_SITE[0])
        assert (response.status_code, response.json()["code"]) == (403, "E_CROSS_SITE")


class TestWithKeysRequired:
    """The same service when it asks for keys."""

    @pytest.fixture
    def settings(self) -> Settings:
        """Keys are required."""
        return Settings.from_environment({"INGEST_AUTH": "required", "UPLOAD_IDLE_TIMEOUT": "1"})

    async def test_a_stranger_costs_no_query(self, web: Web) -> None:
        response = await web.client.put(UPLOAD, content=b"a\n1\n")
        assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="ingest"')
        assert (web.keys.calls, web.receiving.uploads) == ([], [])

    async def test_two_keys_are_none(self, web: Web) -> None:
        headers = [("Authorization", value) for _ in range(2) for value in key_of(web).values()]
        async with httpx.AsyncClient(base_url=web.address.url) as client:
            response = await client.get(f"{BASE}/jobs", headers=headers)
        assert (response.status_code, response.json()["code"]) == (401, "E_KEY")

    async def test_a_job_in_another_spelling_is_the_same_job(self, web: Web) -> None:
        job_id = uuid4()
        web.keys.owners[job_id] = "grace"
        for spelling in (str(job_id), str(job_id).upper(), f"%{ord(str(job_id)[0]):x}{str(job_id)[1:]}"):
            response = await web.client.get(f"{BASE}/jobs/{spelling}/chunks", headers=key_of(web))
            assert (response.status_code, web.jobs.asked) == (404, {})
