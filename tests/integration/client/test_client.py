"""The client over real sockets, under Trio and under asyncio: what it sends, what it makes of answers, how it goes on."""

from __future__ import annotations

import io
import socket
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

import anyio
import pytest

from ingest.client import (
    Client,
    ClientError,
    Conflict,
    Forbidden,
    Job,
    NotFound,
    ProblemError,
    Refused,
    ServerFault,
    TooMany,
    Unauthorised,
    Unreachable,
    uploading,
    watching,
)
from tests.integration.client.scripted import BASE, Asked, Handler, Scripted, id_of, job_json, scripted_server

T = TypeVar("T")
DATA = b"a\n" + b"1\n" * 1_000_000
Talk = Callable[[Callable[[Client], Awaitable[Any]]], Any]

pytestmark = pytest.mark.parametrize("backend", ["trio", "asyncio"])


@pytest.fixture
def server() -> Iterator[Scripted]:
    """A server that answers as the test says."""
    with scripted_server() as scripted:
        yield scripted


@pytest.fixture
def talk(server: Scripted, backend: str) -> Talk:
    """Run a conversation with the server on either loop."""

    def run(conversation: Callable[[Client], Awaitable[T]]) -> T:
        async def main() -> T:
            with anyio.fail_after(60):
                async with Client(server.url, api_key="ing_secret") as client:
                    return await conversation(client)

        return anyio.run(main, backend=backend)

    return run


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose no time between tries."""
    for module in (watching, uploading):
        monkeypatch.setattr(module, "FIRST_DELAY_S", 0.01)
        monkeypatch.setattr(module, "LONGEST_DELAY_S", 0.02)
    monkeypatch.setattr(watching, "POLL_S", 0.01)


def fails(talk: Talk, conversation: Callable[[Client], Awaitable[object]]) -> ClientError:
    """What the conversation ends with."""
    with pytest.raises(ClientError) as caught:
        talk(conversation)
    return caught.value


def test_a_job_is_a_typed_value(server: Scripted, talk: Talk) -> None:
    """What a newer server says beside it is in `raw`; the key goes along as a bearer."""
    raw = job_json(status="completed", completed_at="2026-01-02T00:00:05Z")
    server.answer = lambda handler, asked: handler.json(raw)
    job: Job = talk(lambda client: client.job(id_of(raw)))
    assert (job.id, job.ended, job.seconds, job.raw["something_new"]) == (id_of(raw), True, 5.0, 1)
    [asked] = server.asked
    assert (asked.path, asked.headers["authorization"]) == (f"{BASE}/jobs/{raw['id']}", "Bearer ing_secret")


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_a_change_is_a_post(server: Scripted, talk: Talk, action: str) -> None:
    """Answered with the job."""
    raw = job_json()
    server.answer = lambda handler, asked: handler.json(raw, 202)
    assert talk(lambda client: getattr(client, action)(id_of(raw))).id == id_of(raw)
    assert [(asked.method, asked.path) for asked in server.asked] == [("POST", f"{BASE}/jobs/{raw['id']}/{action}")]


def test_priority_and_delete(server: Scripted, talk: Talk) -> None:
    """By PATCH and DELETE."""
    raw = job_json()

    def answer(handler: Handler, asked: Asked) -> None:
        handler.take(asked)
        handler.json(raw, 202) if asked.method == "PATCH" else handler.send(204)

    server.answer = answer
    talk(lambda client: client.prioritise(id_of(raw), 9))
    assert talk(lambda client: client.delete(id_of(raw))) is None
    assert [(asked.method, asked.body) for asked in server.asked] == [("PATCH", b'{"priority":9}'), ("DELETE", b"")]


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, Refused), (401, Unauthorised), (403, Forbidden), (404, NotFound), (409, Conflict), (413, Refused),
     (422, Refused), (429, TooMany), (500, ServerFault), (503, ServerFault)],
)  # fmt: skip
def test_a_problem_is_an_error_of_its_kind(server: Scripted, talk: Talk, status: int, kind: type[ProblemError]) -> None:
    """With its code, its sentence and its facts."""
    server.answer = lambda handler, asked: handler.problem(status, "E_X", state="paused")
    error = fails(talk, lambda client: client.jobs())
    assert type(error) is kind
    assert isinstance(error, ProblemError)
    assert (error.status, error.code, error.detail, error.facts) == (
        status,
        "E_X",
        "detail of E_X",
        {"state": "paused"},
    )
    assert error.retry_after_s == (0.0 if status in (429, 503) else None)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"id": 1}', b""])
def test_what_answers_is_something_else(server: Scripted, talk: Talk, body: bytes) -> None:
    """A page of a proxy, another service: one clear error, whatever it sends."""
    for status in (200, 502):
        server.answer = lambda handler, asked, status=status: handler.send(status, body)  # type: ignore[misc]
        assert fails(talk, lambda client: client.job(id_of(job_json()))).code == "E_ANSWER"


def test_nobody_is_there(backend: str) -> None:
    """The address is named, the key is not."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    async def ask() -> None:
        async with Client(f"http://127.0.0.1:{port}", api_key="ing_secret") as client:
            await client.jobs()

    with pytest.raises(Unreachable) as caught:
        anyio.run(ask, backend=backend)
    assert f"http://127.0.0.1:{port}" in caught.value.detail
    assert "ing_secret" not in caught.value.detail


@pytest.mark.parametrize("server_url", ["", "localhost:8000", "ftp://x", "http://", "http://a:b@x", "http://x?y=1"])
def test_an_address_that_is_none(backend: str, server_url: str) -> None:
    """Is refused before anything is sent."""
    with pytest.raises(ClientError) as caught:
        Client(server_url)
    assert caught.value.code == "E_OPTION"


@pytest.mark.parametrize("key", ["a b", "ä", "a\r\nX: y"])
def test_a_key_that_is_none(backend: str, key: str) -> None:
    """It would forge a header."""
    with pytest.raises(ClientError) as caught:
        Client(api_key=key)
    assert key not in caught.value.detail


def test_a_file_is_put(server: Scripted, talk: Talk) -> None:
    """With its length and its options, its name escaped; progress is told on the way."""
    raw, told = job_json(), list[int]()

    def answer(handler: Handler, asked: Asked) -> None:
        handler.take(asked)
        handler.json(raw, 202)

    server.answer = answer
    send = lambda client: client.upload(  # noqa: E731
        io.BytesIO(DATA), dataset="public.t", filename="ä/b.csv", options={"null": "NA"}, on_progress=told.append
    )
    assert talk(send).id == id_of(raw)
    [asked] = server.asked
    assert (asked.method, asked.path) == ("PUT", f"{BASE}/upload/%C3%A4%2Fb.csv?dataset=public.t&null=NA")
    assert (asked.body, asked.headers["content-length"]) == (DATA, str(len(DATA)))
    assert told[-1] == len(DATA)
    assert told == sorted(told)


def test_a_refusal_in_the_middle_of_a_file_is_heard(server: Scripted, talk: Talk) -> None:
    """Although the server stops reading."""

    def answer(handler: Handler, asked: Asked) -> None:
        handler.take(asked, 1000)
        handler.problem(422, "E_HEADER_MISMATCH", missing=["b"])
        handler.close_connection = True
        while handler.rfile.read1(1 << 20):  # type: ignore[attr-defined]
            pass

    server.answer = answer
    error = fails(talk, lambda client: client.upload(io.BytesIO(DATA * 20), dataset="d", filename="f.csv"))
    assert (error.code, error.facts) == ("E_HEADER_MISMATCH", {"missing": ["b"]})


class Tus:
    """What a tus server does with one upload; connections break after some bytes, as often as asked."""

    def __init__(self, breaks: int, at: int = 700_000, *, away: int = 0) -> None:
        self.raw = job_json()
        self.got = b""
        self.breaks = breaks
        self.at = at
        self.away = away

    def __call__(self, handler: Handler, asked: Asked) -> None:
        job = {"Ingest_Job": f"{BASE}/jobs/{self.raw['id']}"} if self.got == DATA else {}
        if asked.method == "OPTIONS":
            handler.send(204, Tus_Version="1.0.0")
        elif asked.method == "POST":
            handler.send(201, Location=f"{BASE}/files/1")
        elif asked.method == "HEAD":
            if self.away:
                self.away -= 1
                handler.send(503)
            else:
                handler.send(200, Upload_Offset=str(len(self.got)), **job)
        elif asked.method == "PATCH":
            self.patch(handler, asked)
        else:
            handler.json(self.raw)

    def patch(self, handler: Handler, asked: Asked) -> None:
        """Take bytes."""
        if int(asked.headers["upload-offset"]) != len(self.got):
            handler.problem(409, "E_UPLOAD_OFFSET")
        elif self.breaks:
            self.breaks -= 1
            handler.take(asked, self.at)
            self.got += asked.body
            handler.drop()
        else:
            handler.take(asked)
            self.got += asked.body
            handler.send(204, Upload_Offset=str(len(self.got)), Ingest_Job=f"{BASE}/jobs/{self.raw['id']}")


@pytest.mark.parametrize("resumable", [True, None])
@pytest.mark.parametrize(("breaks", "away"), [(0, 0), (2, 0), (2, 3)])
def test_a_resumable_upload_goes_on_after_breaks(
    server: Scripted, talk: Talk, breaks: int, away: int, resumable: bool | None
) -> None:
    """From where the server is; each byte arrives once, and progress never claims more than that in the end."""
    tus, told = Tus(breaks, away=away), list[int]()
    server.answer = tus
    send = lambda client: client.upload(  # noqa: E731
        io.BytesIO(DATA), dataset="d", filename="ä.csv", resumable=resumable, on_progress=told.append
    )
    assert talk(send).id == id_of(tus.raw)
    assert tus.got == DATA
    assert told[-1] == len(DATA)
    post = next(asked for asked in server.asked if asked.method == "POST")
    pairs = dict(pair.split() for pair in post.headers["upload-metadata"].split(","))
    assert {name: b64decode(value).decode() for name, value in pairs.items()} == {"filename": "ä.csv", "dataset": "d"}
    assert (post.headers["upload-length"], post.headers["tus-resumable"]) == (str(len(DATA)), "1.0.0")


def test_a_resumable_upload_has_an_end(server: Scripted, talk: Talk) -> None:
    """When nothing gets through any more."""
    server.answer = Tus(10**9, at=0)
    error = fails(talk, lambda client: client.upload(io.BytesIO(DATA), dataset="d", filename="f", resumable=True))
    assert isinstance(error, Unreachable)


@pytest.mark.parametrize(("code", "status"), [("E_UPLOAD_GONE", 409), ("E_UPLOAD_ENDED", 410), ("E_TOO_LARGE", 413)])
def test_a_resumable_upload_that_is_refused(server: Scripted, talk: Talk, code: str, status: int) -> None:
    """At once, whatever is left of the tries; a misunderstanding about the offset is no refusal."""
    tus = Tus(0)
    answers = [(409, "E_UPLOAD_OFFSET"), (423, "E_UPLOAD_BUSY"), (status, code)]

    def answer(handler: Handler, asked: Asked) -> None:
        if asked.method != "PATCH":
            tus(handler, asked)
            return
        handler.take(asked)
        handler.problem(*answers.pop(0))

    server.answer = answer
    error = fails(talk, lambda client: client.upload(io.BytesIO(DATA), dataset="d", filename="f", resumable=True))
    assert (error.code, answers) == (code, [])


def test_a_server_without_tus_gets_a_put(server: Scripted, talk: Talk) -> None:
    """When either will do."""

    def answer(handler: Handler, asked: Asked) -> None:
        handler.take(asked)
        handler.problem(404, "E_NOT_FOUND") if asked.method == "OPTIONS" else handler.json(job_json(), 202)

    server.answer = answer
    talk(lambda client: client.upload(io.BytesIO(DATA), dataset="d", filename="f", resumable=None))
    assert [asked.method for asked in server.asked] == ["OPTIONS", "PUT"]


async def changes(client: Client, raw: dict[str, Any]) -> list[tuple[str, int]]:
    """What a watch of the job tells."""
    async with client.watch(id_of(raw)) as found:
        return [(job.status, job.processed_rows) async for job in found]


def test_a_stream_is_joined_again_until_the_end(server: Scripted, talk: Talk) -> None:
    """After a break, a goodbye, a refusal for the moment and a silence that ends; behind the last event that was seen."""
    raw = job_json()
    steps: list[Callable[[Handler], None]] = [
        lambda h: (h.begin_stream(), h.event("progress", 1, raw | {"processed_rows": 1}), h.drop()),  # type: ignore[list-item]
        lambda h: h.problem(503, "E_DRAINING"),
        lambda h: (h.begin_stream(), h.wfile.write(b": heartbeat\n\nretry: 5\n\n"),
                   h.event("progress", 7, raw | {"processed_rows": 2}),
                   h.wfile.write(b'event: goodbye\ndata: {"retry_ms": 1}\n\n'), h.drop()),  # type: ignore[list-item]
        lambda h: h.drop(),
        lambda h: (h.begin_stream(), h.event("completed", 9, raw | {"status": "completed", "processed_rows": 3}),
                   h.drop()),  # type: ignore[list-item]
    ]  # fmt: skip
    left = iter(steps)
    server.answer = lambda handler, asked: next(left)(handler)
    assert talk(lambda client: changes(client, raw)) == [("processing", 1), ("processing", 2), ("completed", 3)]
    assert [asked.headers.get("last-event-id") for asked in server.asked] == [None, "1", "1", "7", "7"]
    assert {asked.path for asked in server.asked} == {f"{BASE}/jobs/{raw['id']}/stream"}


def test_without_a_stream_the_job_is_looked_at(server: Scripted, talk: Talk) -> None:
    """Until it has ended."""
    raw = job_json()
    states = iter(["pending", "processing", "cancelled"])

    def answer(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("/stream"):
            handler.problem(404, "E_NOT_FOUND")
        else:
            handler.json(raw | {"status": next(states)})

    server.answer = answer
    assert talk(lambda client: changes(client, raw)) == [("pending", 1), ("processing", 1), ("cancelled", 1)]


def test_a_watched_job_that_is_deleted(server: Scripted, talk: Talk) -> None:
    """The stream says so and ends; then there is no such job."""
    raw = job_json()
    steps: list[Callable[[Handler], Any]] = [
        lambda h: (h.begin_stream(), h.event("progress", 1, raw), h.event("deleted", 2, None), h.drop())
    ]
    server.answer = lambda handler, asked: steps.pop()(handler) if steps else handler.problem(404, "E_NOT_FOUND")
    assert isinstance(fails(talk, lambda client: changes(client, raw)), NotFound)


def test_patience_has_an_end(server: Scripted, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not come back is given up."""
    monkeypatch.setattr(watching, "PATIENCE_S", 0.1)
    server.answer = lambda handler, asked: handler.drop()
    assert isinstance(fails(talk, lambda client: changes(client, job_json())), Unreachable)


def test_a_watch_that_is_left_early_closes_its_connection(server: Scripted, talk: Talk) -> None:
    """The server notices."""
    raw, noticed = job_json(), SimpleQueue[bool]()

    def answer(handler: Handler, asked: Asked) -> None:
        handler.begin_stream()
        handler.event("progress", 1, raw)
        noticed.put(handler.connection.recv(1) == b"")

    server.answer = answer

    async def look(client: Client) -> str:
        async with client.watch(id_of(raw)) as found:
            return (await anext(found)).status

    assert talk(look) == "processing"
    assert noticed.get(timeout=60)


def test_rejects_come_in_pages_and_as_a_file(server: Scripted, talk: Talk) -> None:
    """The cursor of a page is the way to the next."""
    raw = job_json()
    one = {"id": 1, "line": 2, "byte_offset": 3, "column": "a", "value": "x", "code": "E_TYPE", "sqlstate": "22P02",
           "message": "m", "raw": "x", "truncated": False, "resolved_by": None}  # fmt: skip

    def answer(handler: Handler, asked: Asked) -> None:
        if asked.path.endswith("rejects.csv"):
            handler.send(200, b"a,_line\n" * 10_000)
        elif "after=" in asked.path:
            handler.json({"rejects": [one | {"line": 3}], "total": 2, "next": None})
        else:
            handler.json({"rejects": [one], "total": 2, "next": f"{BASE}/jobs/{raw['id']}/rejects?limit=1&after=x"})

    server.answer = answer
    first = talk(lambda client: client.rejects(id_of(raw), limit=1, code="E_TYPE"))
    second = talk(lambda client: client.rejects(id_of(raw), after=first.next))
    assert [reject.line for page in (first, second) for reject in page.items] == [2, 3]
    assert (first.total, second.next) == (2, None)
    assert "limit=1&code=E_TYPE" in server.asked[0].path
    pieces: list[bytes] = []
    talk(lambda client: client.rejects_csv(id_of(raw), pieces.append))
    assert b"".join(pieces) == b"a,_line\n" * 10_000


def test_a_file_of_rejects_that_cannot_be_written(server: Scripted, talk: Talk) -> None:
    """The reading ends with the writer's error, and leaves nothing behind."""
    server.answer = lambda handler, asked: handler.send(200, b"a,_line\n" * 1_000_000)

    def full(piece: bytes) -> None:
        raise OSError(28, "no space left")

    with pytest.raises(OSError, match="no space left"):
        talk(lambda client: client.rejects_csv(id_of(job_json()), full))
