"""The end of resumable uploads: a file of which all bytes are there becomes a job that can be claimed.

That may take long (a compressed file is unpacked only now), so no request does it: a task of the service does, whether
somebody waits for it or not, and whoever finds an upload that a dead process has left whole begins anew. The lock on
the spool says who is at it, and the one commit at its end happens once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from uuid import UUID

import structlog
import trio

from ingest.errors import DatabaseError, IngestError, RequestError, StorageError
from ingest.follower import Follower
from ingest.held import Held
from ingest.job import Load
from ingest.objectkeys import chunk_prefix, spool_key
from ingest.receiving import THREADS, object_sink
from ingest.settings import Settings
from ingest.spool import Spool
from ingest.storage import Storage
from ingest.upload import BLOCK_BYTES, Upload
from ingest.uploadjob import Ending
from ingest.uploadrows import UploadRow, UploadRows

# How long a request waits for the end of its upload; proxies in between give up after a minute.
WAIT_S = 20.0
# How often it is looked for uploads that nobody finishes, how many at once, and when one that failed is tried again.
SWEEP_S = 5.0
SWEPT = 100
RETRY_S = 10.0
LOOK_S = 0.1
# Files that are unpacked at once: each has its window and its blocks, and keeps a processor busy.
UNPACKED_AT_ONCE = 4

log = structlog.get_logger("ingest.upload")

# Holds an upload that is whole; None while somebody else does, or when it has ended.
Hold = Callable[[UUID], AbstractAsyncContextManager[Held | None]]


@dataclass(slots=True)
class Try:
    """A try to finish an upload; `error` is why it did not succeed."""

    done: trio.Event = field(default_factory=trio.Event)
    error: IngestError | None = None
    ended_at: float = 0.0

    @property
    def counts(self) -> bool:
        """Whether another try would say nothing else now."""
        return not self.done.is_set() or trio.current_time() - self.ended_at < RETRY_S


class Finisher:
    """Finishes the uploads of this process, and those that no other process finishes; `run` must run beside it."""

    def __init__(self, settings: Settings, storage: Storage, rows: UploadRows, hold: Hold) -> None:
        self._settings = settings
        self._storage = storage
        self._rows = rows
        self._hold = hold
        self._limiter = trio.CapacityLimiter(THREADS)
        self._unpacking = trio.CapacityLimiter(UNPACKED_AT_ONCE)
        self._tries: dict[UUID, Try] = {}
        self._nursery: trio.Nursery | None = None

    async def run(self, stop: trio.Event) -> None:
        """Finish uploads until the service stops; those being finished then end as soon as they are told."""
        async with trio.open_nursery() as self._nursery:
            try:
                while not stop.is_set():
                    await self._sweep()
                    with trio.move_on_after(SWEEP_S):
                        await stop.wait()
            finally:
                self._nursery = None

    async def settle(self, row: UploadRow) -> UploadRow:
        """Wait until an upload that is whole is complete, at most WAIT_S; return it as it is then.

        Raises why it cannot be completed: what `Held.finish` raises, E_NOT_FOUND, E_UPLOAD_ENDED, E_DRAINING. Harmless
        to cancel: it is finished all the same.
        """
        deadline = trio.current_time() + WAIT_S
        while not row.completed and trio.current_time() < deadline:
            tried = self._begin(row.id)
            with trio.move_on_at(deadline):
                await tried.done.wait()
            if tried.error is not None:
                raise tried.error
            row = await self._rows.find(row.id)
            if not row.completed:
                await trio.sleep(LOOK_S)  # another process is at it, or a request that is about to let go
        return row

    async def _sweep(self) -> None:
        self._tries = {upload_id: tried for upload_id, tried in self._tries.items() if tried.counts}
        try:
            left = await self._rows.whole(SWEPT)
        except DatabaseError as error:
            log.warning("whole_uploads_unknown", code=error.code)  # the next look may get through
            return
        for upload_id in left:
            self._begin(upload_id)

    def _begin(self, upload_id: UUID) -> Try:
        """Return the try that is under way, or has just failed; else a new one."""
        if self._nursery is None:
            raise RequestError("the service is stopping; ask again in a moment", code="E_DRAINING")
        tried = self._tries.get(upload_id)
        if tried is None or not tried.counts:
            tried = self._tries[upload_id] = Try()
            self._nursery.start_soon(self._try, upload_id, tried)
        return tried

    async def _try(self, upload_id: UUID, tried: Try) -> None:
        try:
            async with self._hold(upload_id) as held:
                if held is not None:
                    await self._finish(held)
        except IngestError as error:
            tried.error = None if error.code == "E_UPLOAD_TAKEN" else error  # then somebody else says what became of it
            log.info("upload_not_finished", code=error.code)
        except Exception:  # a bug must cost its own upload only, and leave its traceback in the log
            tried.error = IngestError("the upload could not be finished")
            log.exception("upload_finishing_crashed")
        finally:
            tried.ended_at = trio.current_time()
            tried.done.set()
            if tried.error is None:
                self._tries.pop(upload_id, None)

    async def _finish(self, held: Held) -> None:
        job_id = held.row.job_id
        try:
            await held.finish(self._unpack)
            if held.follower is not None and not held.follower.in_place:
                await self._storage.remove(spool_key(job_id))
        except StorageError as error:
            if not held.row.completed:
                raise
            log.warning("upload_spool_left", job_id=str(job_id), code=error.code)  # the janitor will remove it
        except IngestError:
            # Of an upload that was ended meanwhile nobody else removes what was written since.
            if not await self._rows.is_needed(job_id):
                await self._storage.remove_all(chunk_prefix(job_id))
            raise

    async def _unpack(self, held: Held, follower: Follower, spool: Spool) -> Ending:
        """Receive the file once more, from its spool and as any other, into objects of its chunks."""
        async with self._unpacking:
            await held.stay()
            await self._rows.cut_anew(held.row.id, held.holder)
            await self._storage.remove_all(chunk_prefix(held.row.job_id), but=spool_key(held.row.job_id))
            return await self._receive(follower, spool, held.row.received)

    async def _receive(self, follower: Follower, spool: Spool, length: int) -> Ending:
        admission = follower.admission
        upload = Upload(
            replace(admission.options, load=Load.AFTER_UPLOAD),
            replace(admission.target, sink=object_sink(self._settings, self._storage)),
            settings=self._settings,
            storage=self._storage,
            jobs=admission.jobs,
            limiter=self._limiter,
            begun=follower.begun(),
        )
        try:
            for start in range(0, length, BLOCK_BYTES):
                size = min(BLOCK_BYTES, length - start)
                await upload.feed(await trio.to_thread.run_sync(spool.read, start, size, limiter=self._limiter))
            return await upload.end()
        finally:
            await upload.abandon()
