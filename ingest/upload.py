"""An upload: the byte-receiving side of one job, from its first byte to the moment the job can be claimed.

Bytes are gathered into blocks; each block crosses into a worker thread once, where it is hashed, cut and written. The
caller waits meanwhile, which is the back-pressure that keeps memory flat however slow the disk or the database is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import structlog
import trio

from ingest.admission import Admission, JobRows, Target, too_large
from ingest.chunk import ChunkCut
from ingest.cutter import Cutter
from ingest.errors import DatabaseError, IngestError, RequestError, StorageError
from ingest.gathering import Gathering
from ingest.header import SNIFF_BYTES, Header
from ingest.intake import WHOLE_BYTES, Found, Intake, is_small
from ingest.job import JobView, Load
from ingest.objectkeys import chunk_prefix
from ingest.settings import Settings
from ingest.storage import Storage
from ingest.uploadjob import Begun, Ending, UploadJob
from ingest.uploadoptions import UploadOptions

T = TypeVar("T")

# Bytes gathered for one crossing into a worker thread: enough for the crossing itself not to count.
BLOCK_BYTES = 1024 * 1024

# How long it may take to remove what a broken upload leaves; what then remains is the janitor's.
CLEANUP_S = 10.0

log = structlog.get_logger("ingest.upload")


class Upload:
    """A file on its way in. One task feeds it; after an error only `abandon` is left to call.

    Of a job that has `begun` it does neither the beginning nor the end: `end` takes the place of `finish`.
    """

    def __init__(
        self,
        options: UploadOptions,
        target: Target,
        *,
        settings: Settings,
        storage: Storage,
        jobs: JobRows,
        limiter: trio.CapacityLimiter,
        begun: Begun | None = None,
    ) -> None:
        self.bytes_received = 0
        self._begun = begun
        self._options = options
        self._target = target
        self._admission = Admission(options=options, target=target, settings=settings, jobs=jobs)
        self._storage = storage
        self._limiter = limiter
        self._job = UploadJob(jobs, begun)
        self._settled = False
        self._gathered = Gathering()
        self._spec = begun.spec if begun else None  # once the header has been accepted by the dataset
        # Whether all bytes are gathered before the first is looked at.
        self._whole = begun is None and is_small(options.bytes_total, chunk_bytes=settings.chunk_bytes)
        self._opening = self._admission.opening(begun.spec if begun else None)
        self._intake = Intake(
            self._opening,
            self._admission.unpacker(),
            options.digests,
            settled=options.load is Load.WHILE_UPLOADING,  # what can be claimed must be there
        )

    @property
    def job_id(self) -> UUID | None:
        """The job, once the header was accepted and the job is in the database."""
        return self._job.id if self._job.exists else None

    async def feed(self, data: bytes) -> None:
        """Take the next bytes of the file, any number of them; waits for the thread once in a block.

        Of a job that is loaded while it is uploaded, it waits while more than MAX_BACKLOG_BYTES are not loaded yet.

        Raises RequestError (E_TOO_LARGE at the byte that crosses the limit, E_DECOMPRESSED_LIMIT, E_UPLOAD_GONE),
        FileError, StorageError, DatabaseError. Cancellation waits for the thread; `abandon` must follow.
        """
        self._count(len(data))
        self._gathered.add(data)
        self._whole = self._whole and self._gathered.size <= WHOLE_BYTES
        if not self._whole and self._gathered.size >= (BLOCK_BYTES if self._intake.begun else SNIFF_BYTES):
            await self._flush()
        await self._touch()

    async def stay(self) -> None:
        """Look whether the rest of the file is still wanted, while its client is silent.

        Raises RequestError (E_UPLOAD_GONE), DatabaseError, and for the first bytes what `feed` raises. Cancellation as
        there.
        """
        if self._whole and self._gathered.size >= SNIFF_BYTES:
            self._whole = False
            await self._flush()
        await self._job.stay()

    async def finish(self) -> JobView:
        """End the file and make its job claimable; return it.

        Raises what `feed` raises, and RequestError (E_UPLOAD_INCOMPLETE, E_DIGEST, E_DUPLICATE).
        """
        self._check_length()
        view = await self._take_whole() if self._whole else None
        view = view or await self._job.complete(await self._take_rest(), bytes_total=self.bytes_received)
        self._settled = True
        return view

    async def end(self) -> Ending:
        """End a file that has `begun`: all its chunks are durable then. Raises what `finish` does but E_DUPLICATE."""
        self._check_length()
        return await self._take_rest()

    async def abandon(self, error: IngestError | None = None) -> None:
        """Fail the job with `error` and remove what was stored, within CLEANUP_S; does nothing after `finish`.

        Of a job that had begun, only the chunk that is not sealed is given up.
        """
        if self._settled:
            return
        self._settled = True
        with trio.move_on_after(CLEANUP_S, shield=True) as scope:
            await self._clean_up(error)
        if scope.cancelled_caught:
            log.warning("upload_cleanup_unfinished", job_id=str(self._job.id))

    async def _take_whole(self) -> JobView | None:
        """Take in what was gathered, which is all there is; None when it is compressed and may be much more."""
        file = self._gathered.joined()
        self._gathered.take()
        chunks = await self._in_thread(lambda: self._intake.take_whole(file, self._cutter_for))
        if chunks is None:
            await self._steps(self._intake.take_piece)
            return None
        assert self._spec is not None
        new = await self._admission.new_job(self._job.id, self._spec, compression=self._intake.compression)
        return await self._job.receive(new, chunks, sha256=self._intake.sha256)

    async def _take_rest(self) -> Ending:
        await self._flush()
        await self._steps(self._intake.end)
        await self._steps(self._intake.end_text)
        if not self._intake.begun:
            await self._accept(self._intake.end_header())
        await self._add(await self._in_thread(self._intake.finish))
        return Ending(records=self._intake.records, sha256=self._intake.sha256)

    def _check_length(self) -> None:
        total = self._options.bytes_total
        if total is not None and total != self.bytes_received:
            text = f"{total} bytes were announced, but {self.bytes_received} came"
            raise RequestError(text, code="E_UPLOAD_INCOMPLETE")

    def _count(self, size: int) -> None:
        limit = self._target.limit_bytes
        self.bytes_received += size
        if limit is not None and self.bytes_received > limit:
            raise too_large(limit)

    async def _accept(self, header: Header) -> None:
        """Check the header, write the job, and cut what came with the header."""
        cutter = self._cutter_for(header)
        if self._begun is None:
            await self._create()
        await self._add(await self._in_thread(lambda: self._intake.begin(header, cutter)))

    def _cutter_for(self, header: Header) -> Cutter:
        """Return what cuts the file behind its header. Raises FileError, RequestError when the dataset refuses it."""
        if self._begun is None:
            self._spec = self._admission.plan(header, self._opening.detected)
        assert self._spec is not None
        return self._admission.cutter(self._job.id, self._spec, file_offset=header.end, line=header.next_line)

    async def _create(self) -> None:
        assert self._spec is not None
        new = await self._admission.new_job(self._job.id, self._spec, compression=self._intake.compression)
        await self._job.create(new)

    async def _flush(self) -> None:
        if blocks := self._gathered.take():
            await self._steps(lambda: self._intake.take(blocks))

    async def _steps(self, first: Callable[[], Found]) -> None:
        """Do a step in the thread, then those that its bytes are good for: a compressed block holds many pieces."""
        await self._step(first)
        while self._intake.more:
            await self._step(self._intake.take_piece)
            await self._touch()

    async def _step(self, work: Callable[[], Found]) -> None:
        found = await self._in_thread(work)
        if isinstance(found, Header):
            await self._accept(found)
        elif found:
            await self._add(found)

    async def _add(self, chunks: list[ChunkCut]) -> None:
        for chunk in chunks:
            await self._job.add(chunk)
            await self._admission.keep_pace(self._job.id, self._touch)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def _touch(self) -> None:
        await self._job.touch_if_due(self.bytes_received)

    async def _clean_up(self, error: IngestError | None) -> None:
        if self._whole:
            await self._make_known()
        await self._try("upload_object_left", self._in_thread(self._intake.discard))
        if self._job.asked_for and error is not None:
            await self._try("upload_job_left", self._job.fail(error))
            await self._try("upload_objects_left", self._remove_objects())

    async def _make_known(self) -> None:
        """Write the job of a file that was gathered and is broken, if its header is there and fits."""
        file = self._gathered.joined()
        with suppress(IngestError):  # the first error is what counts
            if self._spec is None and len(file) >= SNIFF_BYTES:
                found = await self._in_thread(lambda: self._intake.take([file]))
                if isinstance(found, Header):
                    self._spec = self._admission.plan(found, self._opening.detected)
            if self._spec is not None and not self._job.asked_for:
                await self._create()

    async def _remove_objects(self) -> None:
        if await self._job.has_failed():
            await self._storage.remove_all(chunk_prefix(self._job.id))

    async def _try(self, event: str, step: Awaitable[None]) -> None:
        """Do a step of the clean-up; what storage or database refuse is logged, since the first error matters more."""
        try:
            await step
        except (StorageError, DatabaseError) as error:
            log.warning(event, job_id=str(self._job.id), error=str(error))
