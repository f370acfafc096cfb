"""The job of an upload: what the database is told of a file while its bytes come in.

An answer of the database may be lost on its way. So it is kept what has been asked for, beside what is known to be
done: a job that may be complete keeps its objects, and one that may exist is failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import structlog
import trio
from uuid_utils.compat import uuid7

from ingest.admission import JobRows
from ingest.chunk import ChunkCut
from ingest.errors import IngestError, UnavailableError
from ingest.job import JobState, JobView, NewJob
from ingest.spec import LoadSpec

# A job is told how far its upload is at most so often; it is also the upload's sign of life, and how the upload learns
# that the job was cancelled.
TOUCH_S = 1.0

log = structlog.get_logger("ingest.upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A job that was written before its bytes are received; whoever wrote it completes it, or lets it fail.

    `stay` is called every TOUCH_S, and what it raises ends the upload.
    """

    job_id: UUID
    spec: LoadSpec
    stay: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known of a file when all of it is cut."""

    records: int
    sha256: bytes


class UploadJob:
    """The job of one upload, used by its task."""

    def __init__(self, jobs: JobRows, begun: Begun | None) -> None:
        self.id = begun.job_id if begun else uuid7()
        self.exists = begun is not None  # we know that it is in the database
        self.asked_for = False  # we have asked for it, and it may exist although we were not told
        self._jobs = jobs
        self._begun = begun
        self._completing = False  # it may be complete although we were not told
        self._touched_at = trio.current_time()

    async def create(self, new: NewJob) -> None:
        """Write the job; nothing of it can be claimed yet. Raises DatabaseError."""
        self.asked_for = True
        await self._jobs.create(new)
        self.exists = True

    async def receive(self, new: NewJob, chunks: list[ChunkCut], *, sha256: bytes) -> JobView:
        """Write the job of a file that is there already, claimable at once. Raises RequestError (E_DUPLICATE)."""
        self.asked_for = self._completing = True
        return await self._jobs.receive(new, chunks, sha256=sha256)

    async def add(self, chunk: ChunkCut) -> None:
        """Write a chunk whose object is there. Raises RequestError (E_UPLOAD_GONE), DatabaseError."""
        await self._jobs.add_chunk(self.id, chunk)

    async def complete(self, ending: Ending, *, bytes_total: int) -> JobView:
        """Make the job claimable. Raises RequestError (E_DUPLICATE, E_UPLOAD_GONE), DatabaseError."""
        self._completing = True
        return await self._jobs.complete_upload(
            self.id, bytes_total=bytes_total, sha256=ending.sha256, records=ending.records
        )

    async def stay(self) -> None:
        """Look whether the rest of the file is still wanted. Raises RequestError (E_UPLOAD_GONE), DatabaseError."""
        if self.exists:
            with suppress(UnavailableError):  # the next look may get through
                await self._jobs.backlog(self.id)

    async def touch_if_due(self, bytes_received: int) -> None:
        """Say every TOUCH_S that the upload lives, and how far it is. Raises RequestError (E_UPLOAD_GONE)."""
        now = trio.current_time()
        if not self.exists or now - self._touched_at < TOUCH_S:
            return
        self._touched_at = now
        if self._begun is not None:
            await self._begun.stay()
            return
        try:
            await self._jobs.touch(self.id, bytes_received)
        except UnavailableError as error:  # the next one may get through
            log.warning("upload_touch_failed", job_id=str(self.id), error=str(error))

    async def fail(self, error: IngestError) -> None:
        """Fail the job, unless it is complete already. Raises DatabaseError."""
        await self._jobs.fail_upload(self.id, error)

    async def has_failed(self) -> bool:
        """Say whether its objects can go: an answer to `complete` that was lost on its way does not unmake the job."""
        view = await self._jobs.get(self.id) if self._completing else None
        return view is None or view.status in (JobState.FAILED, JobState.CANCELLED)
