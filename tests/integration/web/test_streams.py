"""Live progress over real sockets: what is told, to whom, and what a client can do to it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, WebSocketConnection

from ingest import watching
from ingest.errors import UnavailableError
from ingest.job import JobState, JobView
from ingest.settings import Settings
from ingest.web import auth, edge, protocol, standing, stream
from ingest.web.app import create_app

from .conftest import Web
from .fakes import job_view, parts
from .streams import Event, messages, reading
from .test_guard import key_of

BASE = "/api/v1/csv"
PATIENCE_S = 30.0

JOB = partial(job_view, status=JobState.PROCESSING)


def show(web: Web, view: JobView) -> None:
    """Let the database hold this job in this state, and say so."""
    web.jobs.views = [view]
    web.watching.hear(str(view.id))


async def until(condition: Any) -> None:
    """Wait until something is true, which other tasks must make it."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event
            await trio.sleep(0.01)


def upgrade(path: str, *headers: str) -> bytes:
    """The first bytes of a WebSocket by hand."""
    lines = (
        f"GET {path} HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", *headers,
    )  # fmt: skip
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def received(client: trio.SocketStream) -> bytes:
    """Everything until the server closes."""
    got = b""
    with trio.fail_after(PATIENCE_S):
        try:
            async for piece in client:
                got += piece
        except trio.BrokenResourceError:
            pass
    return got


async def refusal(web: Web, path: str, *headers: str) -> tuple[int, str]:
    """Ask for a WebSocket and get none: the status and the code of the problem."""
    async with await web.connect() as client:
        await client.send_all(upgrade(path, *headers))
        head, _, body = (await received(client)).partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    assert b"nosniff" in head
    return int(head.split()[1]), json.loads(body)["code"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut clients that do not read soon; to be had before the server."""
    monkeypatch.setattr(edge, "SEND_STALL_S", 0.5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often."""
    monkeypatch.setattr(watching, "LEAST_GAP_S", 0.001)
    monkeypatch.setattr(watching, "TICK_S", 0.01)


@pytest.mark.parametrize("state", [JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED])
async def test_a_stream_follows_a_job_to_its_end(web: Web, state: JobState) -> None:
    """The state at once, each change, the last one by its own name; ids grow; then the stream ends."""
    view = JOB(progress=0.1)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            seen = [await anext(events)]
            show(web, replace(view, progress=0.5))
            seen.append(await anext(events))
            show(web, replace(view, progress=0.9, status=state))
            seen += [event async for event in events]
    assert [event.name for event in seen] == ["progress", "progress", state.value]
    assert [event.job["progress"] for event in seen] == [0.1, 0.5, 0.9]
    assert seen[2].job == (await web.client.get(f"{BASE}/jobs/{view.id}")).json()
    ids = [int(event.id) for event in seen]
    assert ids == sorted(set(ids))


async def test_what_does_not_change_is_not_told_again(web: Web, quick: None) -> None:
    """However often it is looked at."""
    view = JOB(progress=0.1)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            looks = web.watching.looks
            await until(lambda: web.watching.looks > looks + 5)
            show(web, replace(view, status=JobState.COMPLETED))
            assert (await anext(events)).name == "completed"


async def test_a_client_that_comes_back_goes_on_from_there(web: Web) -> None:
    """It gets the state at once under a greater id; one that has seen the end gets it again."""
    view = JOB(progress=0.1)
    show(web, view)
    path = f"{BASE}/jobs/{view.id}/stream"
    with trio.fail_after(PATIENCE_S):
        async with reading(web.address.url + path) as events:
            first = await anext(events)
        show(web, replace(view, progress=0.7))
        async with reading(web.address.url + path, first.id) as events:
            second = await anext(events)
            show(web, replace(view, status=JobState.COMPLETED))
            last = await anext(events)
        async with reading(web.address.url + path, last.id) as events:
            again = [event async for event in events]
        # A server whose clock is behind must not go back either; what is no number of ours is no harm.
        async with reading(web.address.url + path, "9" * 18) as events:
            ahead = await anext(events)
        async with reading(web.address.url + path, "x" * 1000) as events:
            assert (await anext(events)).name == "completed"
    assert (second.job["progress"], int(second.id) > int(first.id)) == (0.7, True)
    assert [(event.name, event.data) for event in again] == [("completed", last.data)]
    assert int(again[0].id) > int(last.id)
    assert int(ahead.id) == 10**18


async def test_a_quiet_stream_has_a_heartbeat(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment, and over a WebSocket a message without anything in it."""
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    view = JOB()
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            assert [(await anext(events)).name for _ in range(3)] == ["progress", "", ""]
        async with messages(f"{web.address.url}{BASE}/jobs/{view.id}/ws") as socket:
            assert [json.loads(await socket.get_message())["event"] for _ in range(2)] == ["progress", "heartbeat"]


async def test_a_websocket_says_the_same(web: Web) -> None:
    """As JSON messages, and closes with 1000; messages of the client change nothing."""
    view = JOB(progress=0.1)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with messages(f"{web.address.url}{BASE}/jobs/{view.id}/ws") as socket:
            first = json.loads(await socket.get_message())
            for _ in range(50):
                await socket.send_message("hello")
            show(web, replace(view, progress=1.0, status=JobState.COMPLETED))
            last = json.loads(await socket.get_message())
            with pytest.raises(ConnectionClosed) as closed:
                await socket.get_message()
    assert (first["event"], first["data"]["progress"]) == ("progress", 0.1)
    assert (last["event"], last["data"]) == ("completed", (await web.client.get(f"{BASE}/jobs/{view.id}")).json())
    assert last["id"] > first["id"]
    assert closed.value.reason.code == 1000


async def test_a_job_that_is_deleted_ends_its_stream(web: Web) -> None:
    """There is nothing more to tell."""
    view = JOB()
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            web.jobs.views = []
            web.watching.hear("")
            assert [(event.name, event.data) async for event in events] == [("deleted", "null")]


async def test_a_stop_says_goodbye(web: Web) -> None:
    """Then the stream ends, and the service with it; a WebSocket is told by its code too."""
    view = JOB()
    show(web, view)
    url = f"{web.address.url}{BASE}/jobs/{view.id}/ws"
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events, messages(url) as socket:
            await anext(events)
            await socket.get_message()
            web.draining.set()
            web.shutdown.set()
            stopping = trio.current_time()
            assert [event.name async for event in events] == ["goodbye"]
            assert json.loads(await socket.get_message())["event"] == "goodbye"
            with pytest.raises(ConnectionClosed) as closed:
                await socket.get_message()
            await web.stopped.wait()
    assert closed.value.reason.code == 1012
    assert trio.current_time() - stopping < 2


async def test_who_comes_while_the_service_stops_is_told_the_state_first(web: Web) -> None:
    """An EventSource gives up for ever after anything but 200."""
    view = JOB(progress=0.3)
    show(web, view)
    web.draining.set()
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            assert [event.name async for event in events] == ["progress", "goodbye"]


async def stalled(web: Web, view: JobView, path: str = "stream") -> trio.SocketStream:
    """Open a stream and read nothing of it, with next to no room in between."""
    sock = trio.socket.socket()
    sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 2048)
    await sock.connect((web.address.host, web.address.port))
    client = trio.SocketStream(sock)
    await client.send_all(f"GET {BASE}/jobs/{view.id}/{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client


async def test_a_slow_reader_slows_nobody_and_is_cut(impatient: None, web: Web, quick: None) -> None:
    """Others are told everything meanwhile; what it does not read is not kept, and it is cut when it has stalled."""
    view = JOB(filename="x" * 100_000)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events, await stalled(web, view):
            await until(lambda: web.watching.readers == 2)
            await anext(events)
            told = 0
            while web.watching.readers == 2:
                told += 1
                show(web, replace(view, progress=told))
                assert (await anext(events)).job["progress"] == told
            show(web, replace(view, status=JobState.COMPLETED))
            assert (await anext(events)).name == "completed"
    assert told > 5


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each event could be sent without its reader's task, in their order."""
    found: list[bool] = []
    send = edge.Connection.send_at_once

    def noted(connection: edge.Connection, data: bytes) -> bool:
        found.append(send(connection, data))
        return found[-1]

    monkeypatch.setattr(edge.Connection, "send_at_once", noted)
    return found


async def test_readers_that_wait_are_told_without_their_tasks(at_once: list[bool], web: Web) -> None:
    """All but the first event and the last."""
    view = JOB(progress=0.0)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            for told in range(1, 4):
                await trio.testing.wait_all_tasks_blocked()
                show(web, replace(view, progress=told / 10))
                assert (await anext(events)).job["progress"] == told / 10
            show(web, replace(view, status=JobState.COMPLETED))
            assert [event.name async for event in events] == ["completed"]
    assert at_once == [True] * 3


async def test_what_goes_out_in_part_goes_on_before_all_else(
    at_once: list[bool], web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that has room for a half: the event comes whole, and once more."""
    view, write = JOB(progress=0.0), os.write

    def half(fd: int, data: bytes) -> int:
        return write(fd, data[: len(data) // 2] if b'"progress": 0.1' in data and len(at_once) == 0 else data)

    monkeypatch.setattr(edge.os, "write", half)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            await trio.testing.wait_all_tasks_blocked()
            show(web, replace(view, progress=0.1))
            seen = [await anext(events), await anext(events)]
            show(web, replace(view, status=JobState.COMPLETED))
            seen += [event async for event in events]
    assert [event.job["progress"] for event in seen[:2]] == [0.1, 0.1]
    assert [event.name for event in seen] == ["progress", "progress", "completed"]
    assert int(seen[0].id) < int(seen[1].id)
    assert at_once == [False]


async def test_a_stalled_reader_does_not_hold_up_the_stop(web: Web, quick: None) -> None:
    """It had its moment for the goodbye."""
    view = JOB(filename="x" * 1_000_000)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with await stalled(web, view):
            await until(lambda: web.watching.readers == 1)
            for number in range(20):  # more than the system keeps for it
                looks = web.watching.looks
                show(web, replace(view, progress=number))
                await until(lambda before=looks: web.watching.looks > before)
            stopping = trio.current_time()
            web.draining.set()
            web.shutdown.set()
            await web.stopped.wait()
    assert trio.current_time() - stopping < 2


async def test_readers_of_one_job_share_its_looks_and_its_words(web: Web, quick: None) -> None:
    """One query a tick, for two jobs too, and one event encoded, whoever reads it."""
    views = [JOB(), JOB()]
    web.jobs.views = list(views)
    last: list[Event] = []

    async def read(view: JobView) -> None:
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            last.append([event async for event in events][-1])

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(read, views[number % 2])
            await until(lambda: web.watching.readers == 60)
            looks, asked = web.watching.looks, []
            ask = web.jobs.many

            async def many(ids: Any) -> list[JobView]:
                asked.append(set(ids))
                return await ask(ids)

            web.jobs.many = many  # type: ignore[method-assign]
            await until(lambda: web.watching.looks > looks + 5)
            assert asked
            assert all(ids == {view.id for view in views} for ids in asked)
            web.jobs.views = [replace(view, status=JobState.COMPLETED) for view in views]
    assert [event.name for event in last] == ["completed"] * 60
    assert len({event.data for event in last}) == 2
    await until(lambda: web.watching.readers == 0)


async def test_those_who_come_at_once_cost_one_look(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is such a job is asked once for all of them; of one that is not there nobody gets a stream."""
    view, missing = JOB(), uuid4()
    web.jobs.views = [view]
    monkeypatch.setattr(web.jobs, "get", None)  # nobody asks for themselves
    refused: list[int] = []

    async def ask() -> None:
        refused.append((await web.client.get(f"{BASE}/jobs/{missing}/stream")).status_code)

    async def read() -> None:
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            assert (await anext(events)).job["id"] == str(view.id)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(read)
                nursery.start_soon(ask)
    assert refused == [404] * 20
    assert web.watching.looks < 10
    await until(lambda: web.watching.readers == 0)


async def ending(socket: WebSocketConnection) -> tuple[list[str], int]:
    """Read a WebSocket to its end: the names of what was told, and the code of the close."""
    names: list[str] = []
    try:
        while True:
            names.append(json.loads(await socket.get_message())["event"])
    except ConnectionClosed as closed:
        return names, closed.reason.code


@pytest.mark.parametrize("ended", [{"revoked": True}, {"expires_in_s": 0.0}])
async def test_a_key_that_ends_ends_its_streams(
    web: Web, monkeypatch: pytest.MonkeyPatch, ended: dict[str, Any]
) -> None:
    """With a goodbye; those of other keys stay, and a key that is only busy is as good as before."""
    for module, name in ((standing, "RECHECK_S"), (auth, "FRESH_S"), (stream, "HEARTBEAT_S")):
        monkeypatch.setattr(module, name, 0.02)
    view = JOB(owner="ada")
    show(web, view)
    web.keys.owners[view.id] = "ada"
    mine, other = key_of(web, requests_per_second=1), key_of(web)
    authorization = [(b"Authorization", mine["Authorization"].encode())]
    url = f"{web.address.url}{BASE}/jobs/{view.id}"
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{url}/stream", headers=other) as kept, messages(f"{url}/ws", authorization) as socket:
            assert (await web.client.get(f"{BASE}/jobs/{view.id}", headers=mine)).status_code == 429
            asked = web.keys.calls.count("find")
            await until(lambda: web.keys.calls.count("find") > asked + 10)
            prefix = next(iter(web.keys.rows))
            web.keys.rows[prefix] = replace(web.keys.rows[prefix], **ended)
            names, code = await ending(socket)
            await anext(kept)
            show(web, replace(view, status=JobState.COMPLETED))
            assert [event.name async for event in kept if event.name][-1] == "completed"
    assert (names[0], names[-1], code) == ("progress", "goodbye", 1008)
    assert set(names[1:-1]) <= {"heartbeat"}
    assert (await web.client.get(f"{BASE}/jobs/{view.id}/stream", headers=mine)).status_code == 401


async def test_a_client_that_leaves_is_forgotten(web: Web) -> None:
    """With its last reader a job is no longer looked at."""
    view = JOB()
    show(web, view)
    url = f"{web.address.url}{BASE}/jobs/{view.id}/ws"
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events, messages(url) as socket:
            await anext(events)
            await socket.get_message()
            assert web.watching.readers == 2
        await until(lambda: web.watching.readers == 0)


async def test_a_database_that_does_not_answer_only_delays(
    web: Web, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked again."""
    monkeypatch.setattr(watching, "LOOK_S", 0.05)
    view, ask, hangs = JOB(progress=0.1), web.jobs.many, False
    show(web, view)

    async def many(ids: Any) -> list[JobView]:
        if hangs:
            await trio.sleep_forever()
        return await ask(ids)

    web.jobs.many = many  # type: ignore[method-assign]
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            hangs = True
            looks = web.watching.looks
            await until(lambda: web.watching.looks > looks + 3)
            hangs = False
            show(web, replace(view, progress=0.2))
            assert (await anext(events)).job["progress"] == 0.2


async def test_a_worker_of_its_own_has_no_streams(settings: Settings) -> None:
    """It answers probes."""
    app = create_app(parts(settings), health_only=True)
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    await app(
        {"type": "websocket", "path": "/", "raw_path": b"/", "headers": [], "state": {}, "client": None},
        trio.sleep_forever,
        send,
    )  # type: ignore[typeddict-item, arg-type]
    assert [message.get("status") for message in said] == [404, None]


async def test_a_database_that_is_away_only_delays(web: Web, quick: None) -> None:
    """The stream stays, and goes on when it is back."""
    view = JOB(progress=0.1)
    show(web, view)
    with trio.fail_after(PATIENCE_S):
        async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
            await anext(events)
            web.jobs.failure = UnavailableError("the database does not answer")
            looks = web.watching.looks
            await until(lambda: web.watching.looks > looks + 3)
            web.jobs.failure = None
            show(web, replace(view, status=JobState.COMPLETED))
            assert (await anext(events)).name == "completed"


@pytest.mark.parametrize(("job_id", "query", "status", "code"), [
    ("01a20000-0000-7000-8000-000000000000", "", 404, "E_NOT_FOUND"), ("x", "", 404, "E_NOT_FOUND"), ("%00", "", 404, "E_NOT_FOUND"), ("", "?x=1", 400, "E_OPTION"),
])  # fmt: skip
async def test_a_stream_of_nothing_is_refused(web: Web, job_id: str, query: str, status: int, code: str) -> None:
    """By both ways, with a problem."""
    view = JOB()
    show(web, view)
    path = f"{BASE}/jobs/{job_id or view.id}"
    answer = await web.client.get(f"{path}/stream{query}")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert await refusal(web, f"{path}/ws{query}") == (status, code)


async def test_a_database_that_is_away_at_the_beginning_is_503(web: Web) -> None:
    """With the time to wait."""
    web.jobs.failure = UnavailableError("the database does not answer")
    answer = await web.client.get(f"{BASE}/jobs/{uuid4()}/stream")
    assert (answer.status_code, answer.json()["code"]) == (503, "E_DATABASE_UNAVAILABLE")
    assert "retry-after" in answer.headers


async def test_readers_are_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told to come back."""
    monkeypatch.setattr(stream, "MAX_STREAMS", 1)
    view = JOB()
    show(web, view)
    async with reading(f"{web.address.url}{BASE}/jobs/{view.id}/stream") as events:
        await anext(events)
        answer = await web.client.get(f"{BASE}/jobs/{view.id}/stream")
        assert (answer.status_code, answer.json()["code"]) == (503, "E_TOO_MANY_STREAMS")
        assert "retry-after" in answer.headers


async def test_methods_of_a_stream(web: Web) -> None:
    """HEAD has the headers, OPTIONS says what there is, others are 405; GET of a WebSocket is 426."""
    view = JOB()
    show(web, view)
    path = f"{BASE}/jobs/{view.id}/stream"
    head, choice = await web.client.head(path), await web.client.options(path)
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "text/event-stream", b"")
    assert (choice.status_code, choice.headers["allow"], choice.content) == (200, "GET, HEAD, OPTIONS", b"")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = await web.client.request(method, path, content=b"x" * 100_000)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    answer = await web.client.get(f"{BASE}/jobs/{view.id}/ws")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")


@pytest.mark.parametrize(("origin", "status"), [("http://evil.example", 403), ("null", 403), ("http://{host}", 101)])
async def test_pages_of_other_sites_cannot_read_along(web: Web, origin: str, status: int) -> None:
    """A browser lets any page open a WebSocket to anywhere, and says which page it is."""
    view = JOB()
    show(web, view)
    origin = origin.format(host=f"{web.address.host}:{web.address.port}")
    path = f"{BASE}/jobs/{view.id}/ws"
    if status == 101:
        async with messages(f"{web.address.url}{path}", [(b"Origin", origin.encode())]) as socket:
            assert json.loads(await socket.get_message())["event"] == "progress"
    else:
        assert await refusal(web, path, f"Origin: {origin}") == (403, "E_CROSS_SITE")


async def test_frames_that_do_not_wait_for_the_answer_are_read_after_it(web: Web) -> None:
    """Nothing is answered twice."""
    view = JOB()
    show(web, view)
    async with await web.connect() as client:
        await client.send_all(upgrade(f"{BASE}/jobs/{view.id}/ws") + b"\x88\x80\0\0\0\0")
        answer = await received(client)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.count(b"HTTP/1.1") == 1
    await until(lambda: web.watching.readers == 0)


async def test_frames_behind_a_refused_request_are_not_read(web: Web) -> None:
    """The refusal is the last that is said."""
    async with await web.connect() as client:
        await client.send_all(upgrade(f"{BASE}/jobs/{uuid4()}/ws") + b"\x88\x80\0\0\0\0" * 100)
        answer = await received(client)
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_handshake_that_is_none_ends_the_connection(web: Web) -> None:
    """The client need not close."""
    async with await web.connect() as client:
        await client.send_all(upgrade(f"{BASE}/jobs/{uuid4()}/ws").replace(b"-Version: 13", b"-Version: 7"))
        assert (await received(client)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("frame", [
    b"\x82\xfe\x20\x00" + b"\0" * 4 + b"x" * 0x2000,  # a message of 8 KiB
    b"\x02\xfe\x0f\xff" + b"\0" * 4 + b"x" * 0xFFF + b"\x00\xfe\x0f\xff" + b"\0" * 4 + b"x" * 0xFFF,  # in two pieces
    b"\xff\xff\xff\xff\xff", b"\x81\x01a", b"\x88\x80\0\0\0\0",
], ids=["too large", "too large in pieces", "garbage", "not masked", "close"])  # fmt: skip
async def test_a_hostile_frame_ends_the_connection(web: Web, frame: bytes) -> None:
    """And costs nobody else anything."""
    view = JOB()
    show(web, view)
    async with await web.connect() as client:
        await client.send_all(upgrade(f"{BASE}/jobs/{view.id}/ws"))
        await until(lambda: web.watching.readers == 1)
        await client.send_all(frame)
        assert (await received(client)).startswith(b"HTTP/1.1 101 ")
    await until(lambda: web.watching.readers == 0)
    assert protocol.MESSAGE_BYTES < 0x2000


async def test_frames_are_not_compressed(web: Web) -> None:
    """A few KB could unpack to gigabytes, and each connection would cost 300 KB."""
    view = JOB()
    show(web, view)
    async with await web.connect() as client:
        await client.send_all(upgrade(f"{BASE}/jobs/{view.id}/ws", "Sec-WebSocket-Extensions: permessage-deflate"))
        await until(lambda: web.watching.readers == 1)
        answer = bytes(await client.receive_some()).lower()
    assert answer.startswith(b"http/1.1 101 ")
    assert b"extensions" not in answer


async def test_what_is_sent_behind_the_request_is_dropped(web: Web) -> None:
    """Neither a body nor further requests keep the stream from ending."""
    view = JOB()
    show(web, view)
    request = f"GET {BASE}/jobs/{view.id}/stream HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n".encode()
    async with await web.connect() as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, request + b"x" * 3_000_000)
        await until(lambda: web.watching.readers == 1)
        show(web, replace(view, status=JobState.COMPLETED))
        assert b"event: completed" in await received(client)
        nursery.cancel_scope.cancel()
