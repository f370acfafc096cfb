"""A resumable upload in one pair of hands: a request's, to write, acknowledge and follow, or those that finish it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import trio

from ingest.errors import IngestError, RequestError, UnavailableError
from ingest.follower import Follower
from ingest.spool import Spool
from ingest.upload import BLOCK_BYTES
from ingest.uploadjob import Ending
from ingest.uploadrows import UploadRow, UploadRows

T = TypeVar("T")

# Bytes are made safe at least so often: what a crash or a hanging connection can cost a client to send again.
ACKNOWLEDGE_BYTES = 16 * BLOCK_BYTES
ACKNOWLEDGE_S = 1.0
# How long the bytes of a client that is silent may take to become safe; meanwhile nobody can take the upload over.
SAFE_S = 10.0
# How often an upload that is being worked on is kept from expiring.
RENEW_S = 1.0


# What makes objects of a file whose chunks cannot lie in the spool.
Unpack = Callable[["Held", Follower, Spool], Awaitable[Ending]]


class Held:
    """An upload that is held. `row` is what is acknowledged; used by one task, but for `let_go`.

    `spool` is None for an upload that is whole and takes nothing any more.
    """

    def __init__(
        self,
        row: UploadRow,
        holder: UUID,
        rows: UploadRows,
        spool: Spool | None,
        follower: Follower | None,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self.row = row
        self.holder = holder
        self.follower = follower
        self.turn = 0  # which request of this process it is; a later one takes over from an earlier one
        self.following = False  # the follower is between two states; cancelled there, it cannot be used again
        self._rows = rows
        self._spool = spool
        self._limiter = limiter
        self._gathered = bytearray()
        self._start = row.received
        self._written = row.received  # bytes in the spool, acknowledged or not
        self._acknowledged_at = trio.current_time()
        self._renewed_at = trio.current_time()
        self._ended: IngestError | None = None  # why the request must let go
        self._waiting = trio.CancelScope()

    @property
    def offset(self) -> int:
        """The file offset of the next byte that is taken."""
        return self._written + len(self._gathered)

    @property
    def taken_bytes(self) -> int:
        """How many bytes its request has brought so far, acknowledged or not."""
        return self.offset - self._start

    @property
    def job_id(self) -> UUID | None:
        """The job, once the header was accepted."""
        has_job = self.row.has_job or self.row.completed or (self.follower is not None and self.follower.has_job)
        return self.row.job_id if has_job else None

    @property
    def due(self) -> bool:
        """Whether so much has come, or so much time has passed, that bytes should be made safe."""
        unsafe = self.offset - self.row.received
        return unsafe >= ACKNOWLEDGE_BYTES or (
            unsafe > 0 and trio.current_time() - self._acknowledged_at >= ACKNOWLEDGE_S
        )

    def let_go(self, error: IngestError) -> None:
        """Make `next` raise `error`, now or when it is called again."""
        if self._ended is None:
            self._ended = error
            self._waiting.cancel(reason="the upload was taken over")

    async def next(self, pull: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the client's next bytes. Raises what `pull` raises, and the error given to `let_go`."""
        if self._ended is None:
            with trio.CancelScope() as self._waiting:
                return await pull()
        assert self._ended is not None
        raise self._ended

    async def stay(self) -> None:
        """Raise the error given to `let_go`, if there is one; while work goes on without bytes, let the upload live on.

        Raises DatabaseError, RequestError (E_UPLOAD_TAKEN).
        """
        if self._ended is not None:
            raise self._ended
        if trio.current_time() - self._renewed_at < RENEW_S:
            await trio.lowlevel.checkpoint()
            return
        self._renewed_at = trio.current_time()
        with suppress(UnavailableError):  # the next time may get through
            await self._rows.renew(self.row.id, self.holder)

    async def set_length(self, length: int) -> None:
        """Note the length that was deferred. Raises RequestError (E_UPLOAD_LENGTH) when it is another one already."""
        if self.row.length == length:
            return
        if self.row.length is not None or not await self._rows.set_length(self.row.id, self.holder, length):
            raise RequestError(
                f"Upload-Length cannot be {length}: it is known already, or less than what has come",
                code="E_UPLOAD_LENGTH",
            )
        self.row = replace(self.row, length=length)

    async def write(self, data: bytes) -> None:
        """Take the next bytes; nothing is promised about them before `acknowledge`. Raises StorageError."""
        self._gathered += data
        if len(self._gathered) >= BLOCK_BYTES:
            await self._write_out()

    async def acknowledge(self) -> None:
        """Make all bytes taken safe, then say so in the database.

        Raises StorageError, DatabaseError, RequestError (E_UPLOAD_TAKEN). After an error the request must end: a second
        flush may call pages safe that the first one has lost.
        """
        await self._write_out()
        start, end = self.row.received, self._written
        if self._spool is None or end == start:
            return
        await self._in_thread(self._spool.flush)
        expires_at = await self._rows.advance(self.row.id, self.holder, start, end)
        self.row = replace(self.row, received=end, expires_at=expires_at)
        self._acknowledged_at = trio.current_time()

    async def keep_safe(self) -> None:
        """Acknowledge what a client has sent that is silent now, if it is due; for `next` to call while it waits.

        Raises what `acknowledge` raises, and UnavailableError when that takes longer than SAFE_S.
        """
        if not self.due:
            return
        # `let_go` ends the waiting for bytes, and not this: half of it, and nobody would know what is safe.
        with trio.move_on_after(SAFE_S, shield=True) as scope:
            await self.acknowledge()
        if scope.cancelled_caught:
            raise UnavailableError("the bytes that have come could not be made safe in time")

    async def follow(self, *, patient: bool = True) -> None:
        """Cut what is acknowledged of a file that is not whole yet.

        A file that is loaded while it is uploaded waits for the worker if `patient`, and raises the error given to
        `let_go` then. Raises FileError or RequestError when the file cannot be loaded, StorageError, DatabaseError.
        """
        if self._spool is None or self.follower is None or self.row.whole:
            return
        self.following = True
        self.follower.waiting = self.stay if patient else None
        await self.follower.follow(self._spool, self.row.received)
        self.following = False

    async def finish(self, unpack: Unpack) -> None:
        """Cut a file that is whole to its end, if need be by `unpack`, and make its job claimable.

        Raises what `follow` raises, E_DUPLICATE, and the error given to `let_go`.
        """
        assert self._spool is not None
        assert self.follower is not None
        spool, follower, length = self._spool, self.follower, self.row.received
        self.following, follower.waiting = True, self.stay
        await self.stay()
        await self._in_thread(lambda: spool.seal(length))
        ending = await follower.finish(spool, length) or await unpack(self, follower, spool)
        await self._rows.finish(self.row.id, self.holder, length=length, sha256=ending.sha256, records=ending.records)
        self.row = replace(self.row, completed=True)
        await self._in_thread(spool.protect)

    async def _write_out(self) -> None:
        if self._spool is None or not self._gathered:
            return
        spool, data, offset = self._spool, self._gathered, self._written
        self._gathered = bytearray()
        await self._in_thread(lambda: spool.write(data, offset))
        self._written = offset + len(data)  # only now: what could not be written must not be acknowledged

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
