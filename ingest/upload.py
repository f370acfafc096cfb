"""An upload: the byte-receiving side of one job, from its first byte to the moment the job can be claimed.

Bytes are gathered into blocks; each block crosses into a worker thread once, where it is hashed, cut and written. The
caller waits meanwhile, which is the back-pressure that keeps memory flat however slow the disk or the database is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar
from uuid import UUID

import structlog
import trio
from uuid_utils.compat import uuid7

from ingest.budget import Budget
from ingest.caller import ANYBODY, Caller
from ingest.chunk import ChunkCut
from ingest.cutter import Cutter, Sink
from ingest.datasets import Dataset
from ingest.dialect import Dialect
from ingest.errors import DatabaseError, FileError, IngestError, RequestError, StorageError, UnavailableError
from ingest.header import Header, HeaderReader, with_delimiter_hint
from ingest.job import JobMode, JobState, JobView, NewJob
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.splitter import Block, Splitter
from ingest.storage import Storage, chunk_prefix

T = TypeVar("T")

# Bytes gathered for one crossing into a worker thread: enough for the crossing itself not to count.
BLOCK_BYTES = 1024 * 1024

# A job is told how far its upload is at most so often; it is also the upload's sign of life.
TOUCH_S = 2.0

# How long it may take to remove what a broken upload leaves; what then remains is the janitor's.
CLEANUP_S = 10.0

log = structlog.get_logger("ingest.upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """What the client said about a file. `bytes_total` is None when it did not say how long the file is.

    `parameters` are the values of the dataset's parameters; `parent_id` is the job whose rejects the file corrects.
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
    caller: Caller = ANYBODY


class JobRows(Protocol):
    """The part of `ingest.jobs` that an upload writes to."""

    async def create(self, new: NewJob) -> None: ...

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None: ...

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
        self._header = HeaderReader(options.dialect, max_record_bytes=settings.max_record_bytes)
        self._digest = hashlib.sha256()
        self._gathered = bytearray()
        self._cutter: Cutter | None = None

    @property
    def job_id(self) -> UUID | None:
        """The job, once the header was accepted and the job is in the database."""
        return self._id if self._job_exists else None

    async def feed(self, data: bytes) -> None:
        """Take the next bytes of the file, any number of them; waits for the thread once in a block.

        Raises RequestError (E_TOO_LARGE) at the byte that crosses the limit, FileError, StorageError, DatabaseError.
        Cancellation waits for the thread; `abandon` must follow.
        """
        self._count(len(data))
        if self._cutter is None:
            self._digest.update(data)
            if header := self._header.feed(data):
                await self._accept(header)
        else:
            self._gathered += data
            if len(self._gathered) >= BLOCK_BYTES:
                await self._flush(self._cutter)
        await self._touch_if_due()

    async def finish(self) -> JobView:
        """End the file and make its job claimable; return it. Raises what `feed` raises, and E_UPLOAD_INCOMPLETE."""
        total = self._options.bytes_total
        if total is not None and total != self.bytes_received:
            text = f"{total} bytes were announced, but {self.bytes_received} came"
            raise RequestError(text, code="E_UPLOAD_INCOMPLETE")
        cutter = self._cutter or await self._accept(self._header.finish())
        await self._flush(cutter)
        await self._add(await self._in_thread(cutter.finish))
        self._completing = True
        view = await self._jobs.complete_upload(
            self._id, bytes_total=self.bytes_received, sha256=self._digest.digest(), records=cutter.records
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

    async def _accept(self, header: Header) -> Cutter:
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
            queue=self._target.queue,
            caller=options.caller,
        )
        if spec.certainty is not None:
            facts = {"dataset": spec.dataset, "platform": spec.platform, "certainty": spec.certainty}
            log.info("dataset_recognised", job_id=str(self._id), **facts)
        self._creating = True
        await self._jobs.create(new)
        self._job_exists = True
        cutter = self._cutter = self._cutter_after(header, single_column=len(spec.columns) == 1)
        await self._add(await self._in_thread(lambda: cutter.take(header.rest)))  # hashed when it was fed
        return cutter

    async def _check_parent(self, dataset: str) -> None:
        parent_id = self._options.parent_id
        if parent_id is None:
            return
        parent = await self._jobs.get(parent_id)
        if parent is None or not self._options.caller.sees(parent.owner):
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

    async def _flush(self, cutter: Cutter) -> None:
        block, self._gathered = self._gathered, bytearray()
        await self._add(await self._in_thread(lambda: self._hash_and_cut(cutter, block)))

    def _hash_and_cut(self, cutter: Cutter, block: Block) -> list[ChunkCut]:
        self._digest.update(block)
        return cutter.take(block)

    async def _add(self, chunks: list[ChunkCut]) -> None:
        for chunk in chunks:
            await self._jobs.add_chunk(self._id, chunk)

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
        if self._cutter is not None:
            await self._try("upload_object_left", self._in_thread(self._cutter.discard))
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
