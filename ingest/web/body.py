"""A request body as a pull: nothing is read from the client before somebody asks for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
from hypercorn.typing import ASGIReceiveCallable

from ingest.errors import RequestError

# How often a silent client is an occasion to look whether its bytes are still wanted.
SILENCE_S = 1.0


class BodyError(RequestError):
    """The body itself is at fault (too long, too slow, cut off, malformed): the rest of the request cannot be used."""


class Body:
    """The body of one request, in the pieces that arrive, counted against `limit_bytes`; used by one task only.

    Back-pressure comes from asking: hypercorn reads a few pieces ahead, then stops reading the socket. That is also
    what overlaps the network with the disk, so no task of ours has to run beside the one that stores the bytes.
    """

    def __init__(self, receive: ASGIReceiveCallable, *, limit_bytes: int, idle_s: float) -> None:
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._idle_s = idle_s
        self.received_bytes = 0
        self.ended = False  # the client has sent all of it
        self.gone = False  # the client has left; there is nobody to answer
        # What is done, again and again, while the client is silent; what it raises ends the waiting.
        self.waiting: Callable[[], Awaitable[None]] | None = None

    async def next(self) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises BodyError: E_TIMEOUT when nothing came for idle_s seconds, E_TOO_LARGE with the byte that crosses the
        limit, E_UPLOAD_INCOMPLETE when the client left; and what `waiting` raises. Cancellation loses no bytes.
        """
        silent_since = trio.current_time()
        while not self.ended:
            left_s = self._idle_s - (trio.current_time() - silent_since)
            if left_s <= 0:
                raise BodyError(f"nothing was received for {self._idle_s:g} s", code="E_TIMEOUT")
            with trio.move_on_after(left_s if self.waiting is None else min(left_s, SILENCE_S)):
                if data := await self._piece():
                    return data
                silent_since = trio.current_time()
                continue
            if self.waiting is not None and left_s > SILENCE_S:
                await self.waiting()
        return b""

    async def discard(self, *, limit_bytes: int, limit_s: float) -> None:
        """Read and drop what the client still sends, until it ends, leaves, or a limit is reached."""
        stop = self.received_bytes + limit_bytes
        with trio.move_on_after(limit_s):
            while not (self.ended or self.gone) and self.received_bytes < stop:
                await self._message()

    async def discard_all(self) -> None:
        """Drop every message until the server says that the connection is over."""
        while not self.gone:
            await self._message()

    async def _piece(self) -> bytes:
        data = await self._message()
        if self.gone:
            raise BodyError("the connection closed before the body was complete", code="E_UPLOAD_INCOMPLETE")
        if self.received_bytes > self._limit_bytes:
            raise too_large(self._limit_bytes)
        return data

    async def _message(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
            return b""
        self.ended = not message.get("more_body", False)
        self.received_bytes += len(message["body"])
        return message["body"]


def too_large(limit_bytes: int) -> BodyError:
    """Return the error for a body over the limit."""
    text = f"the body is larger than the {limit_bytes} bytes that MAX_UPLOAD_BYTES allows"
    return BodyError(text, code="E_TOO_LARGE", max_bytes=limit_bytes)
