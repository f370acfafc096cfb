"""One connection can neither end the process nor hold up its stop."""

from __future__ import annotations

import json
import os
import socket
import struct
from hashlib import sha256

import h2.config
import h2.connection
import pytest
import trio
import trio.testing
from hypercorn.typing import ASGIFramework, ASGIReceiveCallable, ASGISendCallable, Scope

from ingest.errors import SettingsError
from ingest.web import edge
from ingest.web.edge import serve_http
from ingest.web.listening import Address, listen

from .conftest import Web

WEBSOCKET_UPGRADE = (
    b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
PUT = b"PUT /api/v1/csv/upload/a?dataset=t HTTP/1.1\r\nHost: a\r\n"
H2C_UPGRADE = (
    b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n"
)


def h2_request(path: bytes, body: bytes) -> bytes:
    """Return the bytes of a client that speaks HTTP/2 without asking."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
    connection.initiate_connection()
    headers = [(b":method", b"POST"), (b":path", path), (b":scheme", b"http"), (b":authority", b"a")]
    connection.send_headers(1, headers)
    connection.send_data(1, body, end_stream=True)
    sent = connection.data_to_send()
    assert sent is not None
    return sent


ATTACKS = {
    "websocket upgrade and a byte": WEBSOCKET_UPGRADE + b"X",
    "h2c upgrade": H2C_UPGRADE + b"X",
    "h2 by prior knowledge, data after the response": h2_request(b"/nowhere", b"x" * 1000),
    "h2 by prior knowledge, path not ASCII": h2_request("/é".encode(), b""),
    "h2 by prior knowledge, garbage": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(200),
    "query not ASCII": b"GET /?\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
    "path not ASCII": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "percent-encoded path not UTF-8": b"GET /%ff%fe%00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "zeros": b"\x00" * 5000,
    "endless target": b"POST " + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000,
    "noise": os.urandom(3000),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "absolute target": b"GET http://a/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
    "star target": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "connect": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "negative length": b"PUT /api/v1/csv/upload/a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "huge length": PUT + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n",
    "absurd length": PUT + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    "bad chunk": PUT + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "upload path not UTF-8": b"PUT /api/v1/csv/upload/%ff%00?dataset=%ff HTTP/1.1\r\nHost: a\r\n\r\n",
}


async def exchange(web: Web, data: bytes) -> bytes:
    """Send bytes, say that no more come, and return all that is answered."""
    received = b""
    async with await web.connect() as stream:
        try:
            await stream.send_all(data)
            await stream.send_eof()
            with trio.fail_after(10):
                async for piece in stream:
                    received += piece
        except trio.BrokenResourceError:
            pass
    return received


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
async def test_a_hostile_request_costs_its_own_connection_only(web: Web, attack: bytes) -> None:
    """The next request is served, and the attack itself never sees a server error of ours."""
    answer = await exchange(web, attack)
    assert b" 500 " not in answer[:40]
    assert (await web.client.get("/health/live")).status_code == 200


async def test_a_crash_inside_the_protocol_is_contained(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that hypercorn would let end the process is logged and ends the connection."""

    async def crash(self: object, event: object) -> None:
        raise KeyError(1)

    with monkeypatch.context() as patched:
        patched.setattr(edge.Http1, "handle", crash)
        assert await exchange(web, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
    assert (await web.client.get("/health/live")).status_code == 200


async def test_http2_by_prior_knowledge_is_refused_and_an_upgrade_ignored(web: Web) -> None:
    """HTTP/2 gets 505 in HTTP/1.1; an offer of h2c is answered as if it had not been made."""
    assert b"HTTP/1.1 505 " in await exchange(web, h2_request(b"/", b""))
    assert b"HTTP/1.1 200 " in await exchange(web, H2C_UPGRADE)


async def test_a_websocket_is_refused_where_none_is(web: Web) -> None:
    """With a problem, as any other request."""
    async with await web.connect() as stream:
        await stream.send_all(WEBSOCKET_UPGRADE)
        answer = await stream.receive_some()
        assert answer.startswith(b"HTTP/1.1 404 ")


async def test_a_connection_serves_several_requests(web: Web) -> None:
    """Keep-alive works over both the framework and the upload path."""
    get = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    put = b"PUT /api/v1/csv/upload/a.csv?dataset=t HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\n1\n"
    async with await web.connect() as stream:
        for request, status in ((get, b"200"), (put, b"202"), (get, b"200"), (put, b"202")):
            await stream.send_all(request)
            answer = b""
            with trio.fail_after(5):
                while not answer.endswith(b"}\n"):
                    answer += await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("piece", [1, 7, 100, 10_000])
async def test_a_body_arrives_whole_however_it_is_cut(web: Web, piece: int) -> None:
    """Two bodies one after the other, the end of the first in one piece with the beginning of the second request."""
    bodies = [b"a\n" + bytes(range(97, 123)) * 10, b"b\n" + b"1\n" * 200]
    put = b"PUT /api/v1/csv/upload/a.csv?dataset=t HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b"
    sent = b"".join(put % (len(body), body) for body in bodies)
    pieces = [sent[start : start + piece] for start in range(0, len(sent), piece)]
    async with await web.connect() as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in pieces:
            await stream.send_all(data)
            await trio.testing.wait_all_tasks_blocked()
        answer = b""
        with trio.fail_after(5):
            while answer.count(b"}\n") < len(bodies):
                answer += await stream.receive_some()
    assert answer.count(b"HTTP/1.1 202 ") == len(bodies)
    assert [upload.digest.digest() for upload in web.receiving.uploads] == [sha256(body).digest() for body in bodies]


async def test_a_client_that_waits_for_100_continue_is_told_to_go_on(web: Web) -> None:
    """What it then sends is the body."""
    head = b"PUT /api/v1/csv/upload/a.csv?dataset=t HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    async with await web.connect() as stream:
        await stream.send_all(head)
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100 ")
            for data in (b"a", b"\n", b"1", b"\n"):
                await stream.send_all(data)
                await trio.testing.wait_all_tasks_blocked()
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 202 ")
    assert web.receiving.uploads[0].head == b"a\n1\n"


async def test_an_idle_connection_closes_at_once_when_the_server_stops(web: Web) -> None:
    """After a request over the framework, and before any request at all."""
    fresh = await web.connect()
    used = await web.connect()
    await used.send_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
    while not (await used.receive_some()).endswith(b"}\n"):
        pass
    web.shutdown.set()
    with trio.fail_after(1):
        await web.stopped.wait()
        assert await fresh.receive_some() == b""
        assert await used.receive_some() == b""
    await fresh.aclose()
    await used.aclose()


@pytest.mark.parametrize("reset", [False, True])
async def test_requests_sent_in_advance_do_not_hold_up_a_stop(web: Web, reset: bool) -> None:
    """The server reads no further than the request it answers; at the end it must not wait to go on reading."""
    stream = await web.connect()
    await stream.send_all(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
    await stream.receive_some()
    if reset:
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.05)
    web.shutdown.set()
    with trio.fail_after(2):
        await web.stopped.wait()
    await stream.aclose()


async def test_a_connection_that_the_client_closed_is_not_kept(web: Web) -> None:
    """It does not wait for the end of its idle time, during which it would hold a file descriptor."""
    async with await web.connect() as stream:
        await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        while not (await stream.receive_some()).endswith(b"}\n"):
            pass
        await stream.send_eof()
        with trio.fail_after(2):
            assert await stream.receive_some() == b""


async def test_an_idle_connection_is_closed_after_its_time(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The idle timer runs again after each answer of the framework."""
    shutdown = trio.Event()
    monkeypatch.setattr(edge, "KEEP_ALIVE_S", 0.2)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(_serving(web, shutdown))
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
            with trio.fail_after(5):
                while await stream.receive_some():
                    pass
        shutdown.set()


def _serving(web: Web, shutdown: trio.Event, grace_s: float = 5):  # type: ignore[no-untyped-def]
    async def serve(task_status: trio.TaskStatus[Address]) -> None:
        await serve_http(web.app, host="127.0.0.1", port=0, shutdown=shutdown, grace_s=grace_s, task_status=task_status)

    return serve


async def flood(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Send without end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})


async def silent(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Never answer."""
    await trio.sleep_forever()


async def test_a_client_that_does_not_read_is_cut_when_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop takes the stall limit, not the whole grace, and not for ever."""
    monkeypatch.setattr(edge, "STOPPING_STALL_S", 0.2)
    shutdown = trio.Event()
    begun = 0.0
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[Address]) -> None:
                await serve_http(
                    flood, host="127.0.0.1", port=0, shutdown=shutdown, grace_s=30, task_status=task_status
                )

            address = await nursery.start(serve)
            stuck = await trio.open_tcp_stream(address.host, address.port)
            await stuck.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.1)  # the buffers are full
            begun = trio.current_time()
            shutdown.set()
    assert trio.current_time() - begun < 2
    await stuck.aclose()


@pytest.mark.parametrize("app", [silent, flood])
async def test_the_grace_bounds_every_stop(app: ASGIFramework) -> None:
    """A request that never ends is cancelled at the end of the grace."""
    shutdown = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[Address]) -> None:
                await serve_http(app, host="127.0.0.1", port=0, shutdown=shutdown, grace_s=0.2, task_status=task_status)

            address = await nursery.start(serve)
            client = await trio.open_tcp_stream(address.host, address.port)
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            shutdown.set()
    await client.aclose()


async def test_cancelling_the_server_cuts_everything_at_once() -> None:
    """A second signal does not wait for anybody."""
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:

            async def serve(task_status: trio.TaskStatus[Address]) -> None:
                await serve_http(
                    flood, host="127.0.0.1", port=0, shutdown=trio.Event(), grace_s=30, task_status=task_status
                )

            address = await nursery.start(serve)
            client = await trio.open_tcp_stream(address.host, address.port)
            await client.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel(reason="second signal")
    await client.aclose()


async def test_a_port_in_use_is_one_line(web: Web) -> None:
    """The line names both settings and says what to do."""
    with pytest.raises(SettingsError, match=f"HOST=127.0.0.1 PORT={web.address.port}: another process") as caught:
        await serve_http(web.app, host="127.0.0.1", port=web.address.port, shutdown=trio.Event(), grace_s=1)
    assert "\n" not in caught.value.detail


async def test_an_address_of_another_machine_is_one_line(web: Web) -> None:
    """So is a host that does not exist here."""
    with pytest.raises(SettingsError, match="this machine has no such address"):
        await serve_http(web.app, host="192.0.2.1", port=0, shutdown=trio.Event(), grace_s=1)


async def test_an_untried_version_is_refused(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The subclasses reach into hypercorn, so another version is not simply used."""
    monkeypatch.setitem(edge.TRIED_VERSIONS, "hypercorn", "0.17.0")
    with pytest.raises(SettingsError, match=r"only 0\.17\.0 is known to work"):
        await serve_http(web.app, host="127.0.0.1", port=0, shutdown=trio.Event(), grace_s=1)


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no TCP_USER_TIMEOUT")
async def test_accepted_sockets_notice_dead_peers() -> None:
    """The options of the listening socket are those of every connection."""
    (listener,) = await listen("127.0.0.1", 0)
    async with listener:
        client = await trio.open_tcp_stream(*listener.socket.getsockname())
        accepted = await listener.accept()
        assert accepted.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
        await accepted.aclose()
        await client.aclose()


async def test_every_response_carries_the_security_headers(web: Web) -> None:
    """Whoever answers it."""
    for response in (
        await web.client.get("/health"),
        await web.client.get("/nowhere"),
        await web.client.put("/api/v1/csv/upload/a.csv?dataset=t", content=b"a\n1\n"),
        await web.client.put("/api/v1/csv/upload/a.csv", content=b"a\n1\n"),
    ):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["referrer-policy"] == "no-referrer"
        assert "server" not in response.headers
        json.loads(response.content)
