"""The bytes a key may send in a day, counted while they arrive.

They are taken from the database in slices before they are used, so all processes together never let a byte more
through than there is; what a request leaves of its last slice is given back. A process that is killed in between has
used up a slice of each request that it was serving.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Protocol
from uuid import UUID

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGIReceiveEvent

from ingest.errors import DatabaseError
from ingest.keys import Grant
from ingest.web.body import BodyError

# Small at first, so that of several files near the limit none takes what another needs; then twice as much each time.
FIRST_SLICE_BYTES = 256 * 1024
MOST_SLICE_BYTES = 8 * 1024 * 1024
# How long the giving back may take.
CLEANUP_S = 2.0

log = structlog.get_logger("ingest.access")


class Allowances(Protocol):
    """Where bytes are taken from. Everything raises DatabaseError."""

    async def take_bytes(self, key_id: UUID, want: int) -> Grant: ...

    async def give_back_bytes(self, key_id: UUID, day: date, unused: int) -> None: ...


@asynccontextmanager
async def metered(
    receive: ASGIReceiveCallable, allowances: Allowances, key_id: UUID, announced_bytes: int
) -> AsyncIterator[ASGIReceiveCallable]:
    """Count what comes in through `receive` against the key's bytes of the day.

    The returned `receive` raises BodyError (E_QUOTA) once, instead of the piece with the byte that crosses the limit
    (or at once, when more is announced than there is); from then on pieces come without their bytes.
    """
    meter = Meter(receive, allowances, key_id, announced_bytes)
    try:
        yield meter
    finally:
        with trio.move_on_after(CLEANUP_S, shield=True):
            await meter.give_back()


class Meter:
    """Stands between the server and whoever reads the body; used by one task."""

    def __init__(
        self, receive: ASGIReceiveCallable, allowances: Allowances, key_id: UUID, announced_bytes: int
    ) -> None:
        self._receive = receive
        self._allowances = allowances
        self._key_id = key_id
        self._announced = announced_bytes
        self._allowed = 0
        self._slice = FIRST_SLICE_BYTES
        self._grant: Grant | None = None
        self._crossed = False

    async def __call__(self) -> ASGIReceiveEvent:
        """Return the next message. Raises BodyError (E_QUOTA), DatabaseError."""
        if self._grant is None and self._announced:
            await self._take(min(self._announced, FIRST_SLICE_BYTES))
            self._check_announced()
        message = await self._receive()
        if message["type"] != "http.request":
            return message
        if not self._crossed:
            await self._spend(len(message["body"]))
            return message
        return {**message, "body": b""}

    async def give_back(self) -> None:
        """Give back what is left of the last slice; a database that cannot be reached keeps it."""
        if self._grant is None or not self._allowed:
            return
        try:
            await self._allowances.give_back_bytes(self._key_id, self._grant.day, self._allowed)
        except DatabaseError as error:
            log.warning("bytes_not_given_back", bytes=self._allowed, code=error.code)

    async def _spend(self, size: int) -> None:
        if size > self._allowed:
            self._slice = min(self._slice * 2, MOST_SLICE_BYTES)
            await self._take(max(size - self._allowed, self._slice))
        if size > self._allowed:
            self._cross()
        self._allowed -= size

    async def _take(self, want: int) -> None:
        self._grant = await self._allowances.take_bytes(self._key_id, want)
        self._allowed += self._grant.granted

    def _check_announced(self) -> None:
        grant = self._grant
        if grant is not None and grant.remaining is not None and self._announced > grant.granted + grant.remaining:
            self._cross()

    def _cross(self) -> None:
        self._crossed = True
        retry_after_s = 1 if self._grant is None else self._grant.resets_in_s
        text = "the key has sent the bytes that it may send in a day; the next day begins at midnight UTC"
        raise BodyError(text, code="E_QUOTA", limit="bytes_per_day", retry_after_s=retry_after_s)
