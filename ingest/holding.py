"""Who holds a resumable upload: one request, or whoever finishes it. The next request asks the holder to let go.

It asks through memory in the same process, through the database in another one; the lock on the spool says when the
holder has let go, or has died.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TypeVar
from uuid import UUID, uuid4

import trio

from ingest.errors import DatabaseError, RequestError, StorageError
from ingest.held import Held
from ingest.objectkeys import spool_key
from ingest.spool import Spool
from ingest.storage import Storage
from ingest.uploadrows import UploadRow, UploadRows, taken_over

T = TypeVar("T")

# A holder of this process lets go at once; after so long it is taken for one in another process, and asked there.
ASK_AFTER_S = 0.5
# A holder that has not let go by then hangs in its disk.
TAKE_OVER_S = 15.0
LOOK_S = 0.02
# No request comes after whoever finishes an upload.
LAST_TURN = sys.maxsize


class Holders:
    """Those of this process, and how an upload is taken over from whoever has it."""

    def __init__(self, storage: Storage, rows: UploadRows, limiter: trio.CapacityLimiter) -> None:
        self._storage = storage
        self._rows = rows
        self._limiter = limiter
        self._held: dict[UUID, Held] = {}
        self._turns = count(1)
        self._stopping = False
        self._ended_bytes = 0  # of holders that have let go

    def __len__(self) -> int:
        """How many uploads are held."""
        return len(self._held)

    @property
    def taken_bytes(self) -> int:
        """How many bytes all holders of this process have taken so far, acknowledged or not."""
        return self._ended_bytes + sum(held.taken_bytes for held in self._held.values())

    def next_turn(self) -> int:
        """Return the turn of a request, which takes over from those with an earlier one."""
        return next(self._turns)

    @contextmanager
    def entered(self, held: Held, turn: int) -> Iterator[None]:
        """Let others ask a holder to let go. It has the lock on the spool."""
        held.turn = turn
        self._held[held.row.id] = held
        if self._stopping:
            held.let_go(draining())
        try:
            yield
        finally:
            del self._held[held.row.id]
            self._ended_bytes += held.taken_bytes

    def let_go(self, upload_id: UUID) -> None:
        """Ask whoever holds an upload here to let go; it has ended."""
        if held := self._held.get(upload_id):
            held.let_go(taken_over())

    def stop(self) -> None:
        """Ask all holders to let go, and those that come after this."""
        self._stopping = True
        for held in self._held.values():
            held.let_go(draining())

    async def let_go_of_taken(self) -> None:
        """Ask those to let go whose upload another process has taken, or that has ended."""
        held = dict(self._held)
        if not held:
            return
        try:
            gone = await self._rows.taken({upload_id: each.holder for upload_id, each in held.items()})
        except DatabaseError:
            return  # the next look may get through
        for upload_id in gone:
            held[upload_id].let_go(taken_over())

    async def lock(self, row: UploadRow, turn: int) -> Spool:
        """Open the spool and wait until nobody else holds it.

        Raises RequestError: E_UPLOAD_TAKEN when a later request was faster or the upload is being finished,
        E_UPLOAD_BUSY; StorageError, DatabaseError.
        """
        spool = await self._open(row)
        try:
            await self._await_lock(row, spool, turn)
        except BaseException:
            spool.close()
            raise
        return spool

    async def lock_if_free(self, row: UploadRow) -> Spool | None:
        """Open the spool unless somebody holds it. Raises StorageError, DatabaseError, RequestError."""
        spool = await self._open(row)
        try:
            if await self._in_thread(spool.lock):
                return spool
        except BaseException:
            spool.close()
            raise
        spool.close()
        return None

    async def _open(self, row: UploadRow) -> Spool:
        try:
            return await self._in_thread(lambda: self._storage.open_spool(spool_key(row.job_id)))
        except StorageError:
            if (await self._rows.find(row.id)).completed:
                raise taken_over() from None  # since we looked; its job may have been loaded
            raise

    async def _await_lock(self, row: UploadRow, spool: Spool, turn: int) -> None:
        begun, asked = trio.current_time(), False
        while not await self._in_thread(spool.lock):
            if held := self._held.get(row.id):
                if held.turn > turn:
                    raise taken_over()  # by a request that came after this one
                held.let_go(taken_over())
            waited_s = trio.current_time() - begun
            if waited_s > TAKE_OVER_S:
                raise RequestError("another request does not let go of this upload", code="E_UPLOAD_BUSY")
            if waited_s > ASK_AFTER_S and not asked:
                if (await self._rows.find(row.id)).whole:
                    raise taken_over()  # it is being finished
                asked = await self._rows.hold(row.id, uuid4())
            await trio.sleep(LOOK_S)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def draining() -> RequestError:
    """Return what a request is told when the service stops."""
    return RequestError("the service is stopping; go on in a moment", code="E_DRAINING")
