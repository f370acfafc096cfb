"""A multipart form read part by part from a request body; holds no more than the bytes that arrived last."""

from __future__ import annotations

from collections import deque

from ingest.web.body import Body, BodyError
from ingest.web.multipart import Event, MultipartReader, PartBegin, PartData

MAX_FIELD_BYTES = 8192  # an option; no option is longer


class Form:
    """The parts of a form, in order; used by one task only.

    Every method raises BodyError (see Body.next; E_MULTIPART for a malformed or unfinished form). Cancellation in the
    middle leaves the form where it was.
    """

    def __init__(self, body: Body, boundary: bytes) -> None:
        self._body = body
        self._reader = MultipartReader(boundary)
        self._events: deque[Event] = deque()
        self._in_part = False

    async def next_part(self) -> PartBegin | None:
        """Return the next part, dropping what was not read of the one before; None after the last."""
        await self.skip()
        event = await self._event()
        if isinstance(event, PartBegin):
            self._in_part = True
            return event
        return None

    async def next(self) -> bytes:
        """Return the next bytes of the current part, b"" at its end."""
        if self._in_part:
            event = await self._event()
            if isinstance(event, PartData):
                return event.data
            self._in_part = False
        return b""

    async def text(self) -> str:
        """Return the whole value of the current part as text; for plain fields, at most MAX_FIELD_BYTES."""
        value = bytearray()
        while data := await self.next():
            value += data
            if len(value) > MAX_FIELD_BYTES:
                raise BodyError(f"a field of the form is longer than {MAX_FIELD_BYTES} bytes", code="E_MULTIPART")
        return value.decode("utf-8", "replace")

    async def skip(self) -> None:
        """Drop the rest of the current part."""
        while await self.next():
            pass

    async def _event(self) -> Event | None:
        while not self._events:
            data = await self._body.next()
            if not data:
                self._check_end()
                return None
            self._events.extend(self._reader.feed(data))
        return self._events.popleft()

    def _check_end(self) -> None:
        if not self._reader.ended:
            raise BodyError("the form ends before its closing boundary", code="E_MULTIPART")
