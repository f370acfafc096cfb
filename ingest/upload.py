"""An upload: the byte-receiving side of one job, from its first byte to the moment the job can be claimed.

Bytes are gathered into blocks; each block crosses into a worker thread once, where it is hashed, cut and written. The
caller waits meanwhile, which is the back-pressure that keeps memory flat however slow the disk or the database is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

import structlog
import trio
from uuid_utils.compat import uuid7

from ingest.budget import Budget
from ingest.chunk import ChunkCut
from ingest.compression import Compression, compression_of_name
from ingest.cutter import Cutter, Sink
from ingest.datasets import Dataset
from ingest.dialect import Dialect
from ingest.digests import Digest
from ingest.errors import DatabaseError, FileError, IngestError, RequestError, StorageError, UnavailableError
from ingest.header import SNIFF_BYTES, Header, HeaderReader, with_delimiter_hint
from ingest.intake import Found, Intake
from ingest.job import JobMode, JobState, JobView, Load, NewJob, RequestPart
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.splitter import Splitter
from ingest.storage import Storage, chunk_prefix
from ingest.unpacking import Unpacker

T = TypeVar("T")

# Bytes gathered for one crossing into a worker thread: enough for the crossing itself not to count.
BLOCK_BYTES = 1024 * 1024

# A job is told how far its upload is at most so often; it is also the upload's sign of life.
TOUCH_S = 2.0

# How often it is looked whether the worker has caught up with an upload that waits for it.
CATCH_UP_S = 0.1

# How long it may take to remove what a broken upload leaves; what then remains is the janitor's.
CLEANUP_S = 10.0

log = structlog.get_logger("ingest.upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """What the client said about a file. `bytes_total` is None when it did not say how long the file is.

    `parameters` are the values of the dataset's parameters; `parent_id` is the job whose rejects the file corrects.
    `compression` is what the request says about the body; else the file's name and first bytes tell. `digests` are
    checked at the end, over the bytes as sent. `part` is set for a request with an Idempotency-Key.
    """

    dataset: str
    filename: str
    dialect: Dialect
    priority: int
    bytes_total: int | None
    mode: JobMode = JobMode.BATCHES
    budget: Budget | None = None
    parent_id: UUID | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    load: Load = Load.AFTER_UPLOAD
    refuse_duplicate: bool = False
    compression: Compression | None = None
    digests: tuple[Digest, ...] = ()
    part: RequestPart | None = None


class JobRows(Protocol):
    """The part of `ingest.jobs` that an upload writes to."""

    async def create(self, new: NewJob) -> None: ...

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None: ...

    async def backlog(self, job_id: UUID) -> int: ...

    async def touch(self, job_id: UUID, bytes_received: int) -> None: ...

    async def complete_upload(self, job_id: UUID, *, bytes_total: int, sha256: bytes, records: int) -> JobView: ...

    async def fail_upload(self, job_id: UUID, error: IngestError) -> None: ...

    async def get(self, job_id: UUID) -> JobView | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an upload goes: the dataset, the queue of its job, what becomes of its bytes, and how many it may have."""

    dataset: Dataset
    ready: Callable[[LoadSpec], Awaitable[LoadSpec]]  # raises when the tables of the dataset cannot take its rows
    queue: str
    sink: Callable[[UUID], Sink]
    limit_bytes: int | None


class Upload:
    """A file on its way in. One task feeds it; after an error only `abandon` is left to call."""

    def __init__(
        self,
        options: UploadOptions,
        target: Target,
        *,
        settings: Settings,
        storage: Storage,
        jobs: JobRows,
        limiter: trio.CapacityLimiter,
    ) -> None:
        self.bytes_received = 0
        self._options = options
        self._target = target
        self._settings = settings
        self._storage = storage
        self._jobs = jobs
        self._limiter = limiter
        self._id = uuid7()
        self._creating = False  # the job may exist although we were not told
        self._job_exists = False
        self._completing = False  # the job may be complete although we were not told
        self._settled = False
        self._touched_at = trio.current_time()
        self._gathered = bytearray()
        self._intake = Intake(
            HeaderReader(options.dialect, max_record_bytes=settings.max_record_bytes),
            Unpacker(
                options.compression or compression_of_name(options.filename),
                max_bytes=target.limit_bytes,
                max_ratio=None if target.limit_bytes is None else settings.max_compression_ratio,
            ),
            options.digests,
            settled=options.load is Load.WHILE_UPLOADING,  # what can be claimed must be there
        )

    @property
    def job_id(self) -> UUID | None:
        """The job, once the header was accepted and the job is in the database."""
        return self._id if self._job_exists else None

    async def feed(self, data: bytes) -> None:
        """Take the next bytes of the file, any number of them; waits for the thread once in a block.

        Of a job that is loaded while it is uploaded, it waits while more than MAX_BACKLOG_BYTES are not loaded yet.

        Raises RequestError (E_TOO_LARGE at the byte that crosses the limit, E_DECOMPRESSED_LIMIT, E_UPLOAD_GONE),
        FileError, StorageError, DatabaseError. Cancellation waits for the thread; `abandon` must follow.
        """
        self._count(len(data))
        self._gathered += data
        if len(self._gathered) >= (BLOCK_BYTES if self._intake.begun else SNIFF_BYTES):
            await self._flush()
        await self._touch_if_due()

    async def finish(self) -> JobView:
        """End the file and make its job claimable; return it.

        Raises what `feed` raises, and RequestError (E_UPLOAD_INCOMPLETE, E_DIGEST, E_DUPLICATE).
        """
        total = self._options.bytes_total
        if total is not None and total != self.bytes_received:
            text = f"{total} bytes were announced, but {self.bytes_received} came"
            raise RequestError(text, code="E_UPLOAD_INCOMPLETE")
        await self._flush()
        await self._steps(self._intake.end)
        if not self._intake.begun:
            await self._accept(self._intake.end_header())
        await self._add(await self._in_thread(self._intake.finish))
        self._completing = True
        view = await self._jobs.complete_upload(
            self._id, bytes_total=self.bytes_received, sha256=self._intake.sha256, records=self._intake.records
        )
        self._settled = True
        return view

    async def abandon(self, error: IngestError) -> None:
        """Fail the job with `error` and remove what was stored, within CLEANUP_S; does nothing after `finish`."""
        if self._settled:
            return
        self._settled = True
        with trio.move_on_after(CLEANUP_S, shield=True) as scope:
            await self._clean_up(error)
        if scope.cancelled_caught:
            log.warning("upload_cleanup_unfinished", job_id=str(self._id))

    def _count(self, size: int) -> None:
        limit = self._target.limit_bytes
        self.bytes_received += size
        if limit is not None and self.bytes_received > limit:
            raise too_large(limit)

    async def _accept(self, header: Header) -> None:
        """Check the header, write the job, and cut what came with the header."""
        options = self._options
        spec = await self._target.ready(self._plan(header))
        await self._check_parent(spec.dataset)
        new = NewJob(
            id=self._id,
            filename=options.filename,
            spec=spec,
            priority=options.priority,
            bytes_total=options.bytes_total,
            mode=options.mode,
            budget=options.budget or (Budget.parse(spec.max_rejects) if spec.max_rejects else None),
            parent_id=options.parent_id,
            max_stored_rejects=self._settings.max_stored_rejects,
            load=options.load,
            refuse_duplicate=options.refuse_duplicate,
            compression=self._intake.compression,
            part=options.part,
            queue=self._target.queue,
        )
        if spec.certainty is not None:
            facts = {"dataset": spec.dataset, "platform": spec.platform, "certainty": spec.certainty}
            log.info("dataset_recognised", job_id=str(self._id), **facts)
        self._creating = True
        await self._jobs.create(new)
        self._job_exists = True
        cutter = self._cutter_after(header, single_column=len(spec.columns) == 1)
        await self._add(await self._in_thread(lambda: self._intake.begin(header, cutter)))

    async def _check_parent(self, dataset: str) -> None:
        parent_id = self._options.parent_id
        if parent_id is None:
            return
        parent = await self._jobs.get(parent_id)
        if parent is None:
            raise RequestError(f"parent: there is no job {parent_id}", code="E_PARENT", option="parent")
        if parent.dataset != dataset:
            text = f"parent: job {parent_id} loaded dataset {parent.dataset!r}, but this file is for {dataset!r}"
            raise RequestError(text, code="E_PARENT", option="parent")

    def _plan(self, header: Header) -> LoadSpec:
        dataset, options = self._target.dataset, self._options
        try:
            return dataset.spec(
                header.names,
                dialect=options.dialect,
                parameters=options.parameters,
                resubmission=options.parent_id is not None,
            )
        except FileError as error:
            raise with_delimiter_hint(error, header.names, options.dialect) from error

    def _cutter_after(self, header: Header, *, single_column: bool) -> Cutter:
        splitter = Splitter(
            self._options.dialect,
            first_line=header.next_line,
            single_column=single_column,
            batch_records=self._settings.batch_records,
            batch_bytes=self._settings.batch_bytes,
            max_record_bytes=self._settings.max_record_bytes,
        )
        return Cutter(
            splitter,
            self._target.sink(self._id),
            chunk_bytes=self._settings.chunk_bytes,
            file_offset=header.end,
            first_line=header.next_line,
        )

    async def _flush(self) -> None:
        block, self._gathered = self._gathered, bytearray()
        await self._steps(lambda: self._intake.take(block))

    async def _steps(self, first: Callable[[], Found]) -> None:
        """Do a step in the thread, then those that its bytes are good for: a compressed block holds many pieces."""
        await self._step(first)
        while self._intake.more:
            await self._step(self._intake.take_piece)
            await self._touch_if_due()

    async def _step(self, work: Callable[[], Found]) -> None:
        found = await self._in_thread(work)
        if isinstance(found, Header):
            await self._accept(found)
        elif found:
            await self._add(found)

    async def _add(self, chunks: list[ChunkCut]) -> None:
        for chunk in chunks:
            await self._jobs.add_chunk(self._id, chunk)
            if self._options.load is Load.WHILE_UPLOADING:
                await self._wait_for_the_worker()

    async def _wait_for_the_worker(self) -> None:
        while await self._jobs.backlog(self._id) > self._settings.max_backlog_bytes:
            await trio.sleep(CATCH_UP_S)
            await self._touch_if_due()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def _touch_if_due(self) -> None:
        now = trio.current_time()
        if not self._job_exists or now - self._touched_at < TOUCH_S:
            return
        self._touched_at = now
        try:
            await self._jobs.touch(self._id, self.bytes_received)
        except UnavailableError as error:
            log.warning("upload_touch_failed", job_id=str(self._id), error=str(error))  # the next one may get through

    async def _clean_up(self, error: IngestError) -> None:
        await self._try("upload_object_left", self._in_thread(self._intake.discard))
        if self._creating:
            await self._try("upload_job_left", self._jobs.fail_upload(self._id, error))
            await self._try("upload_objects_left", self._remove_objects())

    async def _remove_objects(self) -> None:
        # A reply to `complete_upload` that was lost on its way does not unmake the job: its objects must stay.
        view = await self._jobs.get(self._id) if self._completing else None
        if not self._completing or (view is not None and view.status in (JobState.FAILED, JobState.CANCELLED)):
            await self._storage.remove_all(chunk_prefix(self._id))

    async def _try(self, event: str, step: Awaitable[None]) -> None:
        """Do a step of the clean-up; what storage or database refuse is logged, since the first error matters more."""
        try:
            await step
        except (StorageError, DatabaseError) as error:
            log.warning(event, job_id=str(self._id), error=str(error))


def too_large(limit_bytes: int) -> RequestError:
    """Return the refusal of a file with more than `limit_bytes`."""
    text = f"the file is larger than {limit_bytes} bytes (MAX_UPLOAD_BYTES)"
    return RequestError(text, code="E_TOO_LARGE", limit_bytes=limit_bytes)
