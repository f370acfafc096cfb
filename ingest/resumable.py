"""Resumable uploads: files whose bytes come in any number of requests, over restarts of the client and of the service.

Bytes are written to the upload's spool, flushed to the disk, and only then acknowledged in the database; what is
acknowledged is cut in place by a follower. An upload is held by one request at a time (`holding`); when all bytes are
there no request holds it any more: it is finished beside them (`finishing`), and they wait for that.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar
from uuid import UUID, uuid4

import structlog
import trio
from uuid_utils.compat import uuid7

from ingest.admission import Admission, JobRows, Target, too_large
from ingest.caller import Caller
from ingest.cutter import InPlaceSink
from ingest.errors import FileError, IngestError, RequestError, StorageError, UnavailableError
from ingest.finishing import Finisher
from ingest.follower import Follower
from ingest.held import Held
from ingest.holding import LAST_TURN, Holders
from ingest.objectkeys import chunk_prefix, spool_key
from ingest.receiving import DEFAULT_QUEUE, THREADS, DatasetSource, ReceivingStatistics
from ingest.settings import Settings
from ingest.spool import Spool
from ingest.storage import Storage
from ingest.uploadoptions import UploadOptions
from ingest.uploadrows import UploadRow, UploadRows, no_upload, taken_over

T = TypeVar("T")

# Followers of uploads that nobody sends to just now. One more is made again from the database.
MOST_IDLE_FOLLOWERS = 64
# How often it is looked whether another process wants an upload that we hold.
WATCH_S = 1.0

log = structlog.get_logger("ingest.upload")


class Resumable:
    """The resumable uploads of this process; `run` must run beside it."""

    def __init__(
        self, settings: Settings, storage: Storage, jobs: JobRows, datasets: DatasetSource, rows: UploadRows
    ) -> None:
        self._settings = settings
        self._storage = storage
        self._jobs = jobs
        self._datasets = datasets
        self._rows = rows
        self._limiter = trio.CapacityLimiter(THREADS)
        self._followers: OrderedDict[UUID, Follower] = OrderedDict()
        self._holders = Holders(storage, rows, self._limiter)
        self._finisher = Finisher(settings, storage, rows, self._hold_whole)

    async def run(self, stop: trio.Event) -> None:
        """Finish uploads; let go of those that another process has taken, and of all when the service stops."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._finisher.run, stop)
            while not stop.is_set():
                with trio.move_on_after(WATCH_S):
                    await stop.wait()
                await self._holders.let_go_of_taken()
            self._holders.stop()

    def statistics(self) -> ReceivingStatistics:
        """Return the uploads that requests hold now, and the bytes that requests have brought since the start."""
        return ReceivingStatistics(uploads=len(self._holders), bytes_received=self._holders.taken_bytes)

    async def create(self, options: UploadOptions, length: int | None, metadata: str) -> UploadRow:
        """Begin an upload; `metadata` is given back as it is.

        Raises RequestError (E_DATASET_UNKNOWN, E_OPTION, E_TOO_LARGE, E_TOO_MANY_UPLOADS).
        """
        if length is not None and length > self._settings.max_upload_bytes:
            raise too_large(self._settings.max_upload_bytes)
        dataset = await self._datasets.find(options.dataset, options.caller)
        dataset.check_parameters(options.parameters)
        job_id = uuid7()
        await self._in_thread(lambda: self._storage.make_spool(spool_key(job_id)))
        try:
            # Not uuid7: whoever knows the id may write to the upload, so it must not be guessed.
            return await self._rows.create(uuid4(), job_id, length, options, metadata)
        except IngestError as error:
            # An answer that was lost may have been a yes: then the object has a row and the janitor must decide.
            if not isinstance(error, UnavailableError):
                await self._storage.remove_all(chunk_prefix(job_id))
            raise

    async def find(self, upload_id: UUID, caller: Caller) -> UploadRow:
        """Return an upload of the caller's. Raises RequestError (E_NOT_FOUND, E_UPLOAD_ENDED)."""
        row = await self._rows.find(upload_id)
        if not caller.sees(row.options.caller.owner):
            raise no_upload(upload_id)
        return row

    async def remove(self, upload_id: UUID, caller: Caller) -> None:
        """End an upload and remove its bytes; a complete one is only forgotten, its job goes on.

        Raises RequestError (E_NOT_FOUND, E_UPLOAD_ENDED).
        """
        row = await self.find(upload_id, caller)
        left = await self._rows.remove(upload_id)
        self._holders.let_go(upload_id)
        self._followers.pop(upload_id, None)
        if left:
            await self._storage.remove_all(chunk_prefix(row.job_id))

    @asynccontextmanager
    async def hold(self, upload_id: UUID, caller: Caller) -> AsyncIterator[Held]:
        """Take an upload over from whoever has it, and hold it. One that is whole takes no bytes, and is not held.

        A file that cannot be loaded ends the upload and its job. Raises RequestError: E_NOT_FOUND, E_UPLOAD_ENDED,
        E_UPLOAD_TAKEN when a still newer request was faster, E_UPLOAD_BUSY.
        """
        turn = self._holders.next_turn()
        row = await self.find(upload_id, caller)
        if row.whole:
            yield Held(row, uuid4(), self._rows, None, None, self._limiter)
            return
        spool = await self._holders.lock(row, turn)
        try:
            async with self._holding(row, spool, turn) as held:
                yield held
        finally:
            spool.close()

    async def settle(self, row: UploadRow) -> UploadRow:
        """Wait for the end of an upload that is whole, but not longer than a request should; see `Finisher.settle`."""
        return await self._finisher.settle(row)

    @asynccontextmanager
    async def _hold_whole(self, upload_id: UUID) -> AsyncIterator[Held | None]:
        """Hold an upload to finish it, which no request interrupts; None when it is held, or not to be finished."""
        row = await self._rows.find(upload_id)
        spool = await self._holders.lock_if_free(row) if row.whole and not row.completed else None
        if spool is None:
            yield None
            return
        try:
            async with self._holding(row, spool, LAST_TURN) as held:
                yield held
        finally:
            spool.close()

    @asynccontextmanager
    async def _holding(self, row: UploadRow, spool: Spool, turn: int) -> AsyncIterator[Held]:
        holder = uuid4()
        if not await self._rows.hold(row.id, holder):
            raise taken_over()
        held = Held(await self._rows.find(row.id), holder, self._rows, spool, None, self._limiter)
        try:
            with self._holders.entered(held, turn):
                held.follower = await self._follower(held.row)
                yield held
        except IngestError as error:
            if not _is_final(error) or not await self._refuse(held, error):
                self._keep(held)
            raise
        else:
            self._keep(held)

    def _keep(self, held: Held) -> None:
        """Keep the follower for the next request, unless something came between its steps or it has done its part."""
        if held.follower is None or held.following or held.row.completed or not held.follower.in_place:
            return
        self._followers[held.row.id] = held.follower
        if len(self._followers) > MOST_IDLE_FOLLOWERS:
            self._followers.popitem(last=False)

    async def _refuse(self, held: Held, error: IngestError) -> bool:
        refused = await self._rows.refuse(held.row.id, held.holder, error)
        if refused:
            try:
                await self._storage.remove_all(chunk_prefix(held.row.job_id))
            except StorageError as left:
                log.warning("upload_objects_left", job_id=str(held.row.job_id), error=str(left))
        return refused

    async def _follower(self, row: UploadRow) -> Follower:
        so_far = await self._rows.cut_so_far(row.job_id)
        kept = self._followers.pop(row.id, None)
        if kept is not None and kept.agrees_with(so_far):
            return kept
        dataset = await self._datasets.find(row.options.dataset, row.options.caller)
        key = spool_key(row.job_id)
        target = Target(
            dataset=dataset,
            ready=self._datasets.ready,
            queue=DEFAULT_QUEUE,
            sink=lambda job_id, as_sent: InPlaceSink(key),
            limit_bytes=self._settings.max_upload_bytes,
        )
        options = replace(row.options, bytes_total=row.length)
        admission = Admission(options=options, target=target, settings=self._settings, jobs=self._jobs)
        return Follower(row.job_id, admission, so_far, self._limiter)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


# Refusals of a request that the same bytes would meet again.
FINAL = frozenset({
    "E_UPLOAD_GONE", "E_UPLOAD_ENDED", "E_PARENT", "E_DATASET_TABLE", "E_DATASET_UNKNOWN", "E_DATASET_FORBIDDEN",
    "E_OPTION", "E_DECOMPRESSED_LIMIT", "E_DUPLICATE",
})  # fmt: skip


def _is_final(error: IngestError) -> bool:
    """Say whether the same bytes would be refused again."""
    return isinstance(error, FileError) or (isinstance(error, RequestError) and error.code in FINAL)
