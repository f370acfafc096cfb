"""Two ways to tell a client of a job: server-sent events, and messages over a WebSocket."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable

from ingest.job import FINAL
from ingest.watching import Tidings
from ingest.web.answering import respond
from ingest.web.answers import Answer, encode, job_body
from ingest.web.atonce import AtOnce
from ingest.web.body import Body

# Closed at the end: a client that comes back should get a new connection, to a process that does not stop.
STREAM_HEADERS = (("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no"), ("Connection", "close"))
# How long a client should wait before it comes back, in milliseconds.
RETRY_MS = 1000

# Why a WebSocket is closed (RFC 6455, 7.4): all is said; the key is not good any more; come back, the service restarts.
ALL_SAID, NOT_ALLOWED, RESTARTING = 1000, 1008, 1012
# How long a client may take to answer the close; without its answer the last message could be lost on its way.
CLOSE_S = 0.5

# One encoding serves all readers of a job, who read it at about the same time.
ENCODED = 256


class Teller(Protocol):
    """What a stream needs of a client. Sending waits for the client; cancellation breaks the connection off."""

    async def begin(self) -> None:
        """Accept the client."""

    async def refuse(self, answer: Answer) -> None:
        """Give the client an answer instead of a stream."""

    async def tell(self, tidings: Tidings, number: int) -> None:
        """Tell how the job stands, under a number that grows."""

    def tell_at_once(self, tidings: Tidings, number: int) -> bool:
        """Tell the same without waiting; False where that cannot be, which may have told it in part."""

    async def heartbeat(self) -> None:
        """Show that the connection lives."""

    async def goodbye(self) -> None:
        """Tell the client to come back."""

    async def dismiss(self) -> None:
        """Tell the client that it may not read on; should it come back, the answer says why."""

    async def end(self) -> None:
        """End the stream; nothing more is told."""

    async def wait_gone(self) -> None:
        """Wait until the client has left, dropping what it sends."""


def event_name(tidings: Tidings) -> str:
    """Return what an event about a job is called: `progress`, or how the job has ended."""
    if tidings.view is None:
        return "deleted"
    return tidings.view.status.value if tidings.view.status in FINAL else "progress"


@lru_cache(maxsize=ENCODED)
def event_data(tidings: Tidings) -> bytes:
    """Return JOB as one line of JSON; null for a job that is no longer there."""
    return encode(None if tidings.view is None else job_body(tidings.view)).rstrip(b"\n")


class EventStream:
    """Server-sent events, as `EventSource` reads them."""

    def __init__(self, body: Body, send: ASGISendCallable, send_at_once: AtOnce | None = None) -> None:
        self._body = body
        self._send = send
        self._send_at_once = send_at_once
        self._preface = b"retry: %d\n\n" % RETRY_MS  # goes with what is told first: each send costs a system call

    async def begin(self) -> None:
        """Begin the answer."""
        headers = [(name.encode(), value.encode()) for name, value in STREAM_HEADERS]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def refuse(self, answer: Answer) -> None:
        """Give another answer."""
        await respond(answer, self._body, self._send)

    async def tell(self, tidings: Tidings, number: int) -> None:
        """Send an event with JOB as its data."""
        await self._write(_event(tidings, number))

    def tell_at_once(self, tidings: Tidings, number: int) -> bool:
        """Send the same where the connection can; what went in part goes on with the next, and is told again."""
        return self._send_at_once is not None and self._send_at_once(_event(tidings, number))

    async def heartbeat(self) -> None:
        """Send a comment, which clients drop."""
        await self._write(b": heartbeat\n\n")

    async def goodbye(self) -> None:
        """Send a last event, which has no id: the last one that counts is that of a state."""
        await self._write(b'event: goodbye\ndata: {"retry_ms": %d}\n\n' % RETRY_MS)

    async def dismiss(self) -> None:
        """Send the same: the answer to the next request is a problem, which ends an `EventSource`."""
        await self.goodbye()

    async def end(self) -> None:
        """End the answer."""
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def wait_gone(self) -> None:
        """Wait until the client has left; what it sends is no part of its request."""
        await self._body.discard_all()

    async def _write(self, data: bytes) -> None:
        preface, self._preface = self._preface, b""
        await self._send({"type": "http.response.body", "body": preface + data, "more_body": True})


def _event(tidings: Tidings, number: int) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (event_name(tidings).encode(), number, event_data(tidings))


class Socket:
    """A WebSocket: each message is a JSON object with `event` and, where there is one, `id` and `data`."""

    def __init__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        self._receive = receive
        self._send: Any = send
        self._gone = trio.Event()
        self._code = ALL_SAID

    async def begin(self) -> None:
        """Accept the WebSocket."""
        await self._send({"type": "websocket.accept", "subprotocol": None, "headers": []})

    async def refuse(self, answer: Answer) -> None:
        """Answer the request for a WebSocket by HTTP."""
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
        await self._send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
        await self._send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})

    async def tell(self, tidings: Tidings, number: int) -> None:
        """Send a message with JOB as its data."""
        data = event_data(tidings).decode()
        await self._write(f'{{"event": "{event_name(tidings)}", "id": {number}, "data": {data}}}')

    def tell_at_once(self, tidings: Tidings, number: int) -> bool:
        """Do nothing: a message goes through the protocol's own machinery."""
        return False

    async def heartbeat(self) -> None:
        """Send a message that says nothing: pages cannot see pings."""
        await self._write('{"event": "heartbeat"}')

    async def goodbye(self) -> None:
        """Send a last message; the code of the close says the same."""
        await self._part(RESTARTING)

    async def dismiss(self) -> None:
        """Send the same with another code."""
        await self._part(NOT_ALLOWED)

    async def _part(self, code: int) -> None:
        self._code = code
        await self._write(f'{{"event": "goodbye", "data": {{"retry_ms": {RETRY_MS}}}}}')

    async def end(self) -> None:
        """Close, and wait a moment for the client to agree. `wait_gone` must be running."""
        await self._send({"type": "websocket.close", "code": self._code, "reason": None})
        with trio.move_on_after(CLOSE_S):
            await self._gone.wait()

    async def wait_gone(self) -> None:
        """Wait until the client has left; its messages are not for anybody."""
        while (await self._receive())["type"] != "websocket.disconnect":
            pass
        self._gone.set()

    async def _write(self, text: str) -> None:
        await self._send({"type": "websocket.send", "bytes": None, "text": text})
