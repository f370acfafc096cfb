"""The retry of a failed job: its failed chunks run again, and only them."""

from __future__ import annotations

from uuid import UUID

import structlog

from ingest.database import Database
from ingest.errors import RequestError, StorageError
from ingest.job import JobState, JobView
from ingest.jobs import Jobs, too_many_jobs
from ingest.receiving import DEFAULT_QUEUE
from ingest.statements import statement
from ingest.storage import Storage

AGAIN = "send the file again"

log = structlog.get_logger("ingest.jobs")


class Retrying:
    """Lets failed chunks run again. What they have committed is in the ledger and is not loaded twice."""

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._jobs = Jobs(database)

    async def retry(self, job_id: UUID, actor: str | None = None) -> JobView:
        """Make the failed chunks of a failed job claimable and return the job; `actor` is whose key it was.

        Raises RequestError: E_NOT_FOUND, E_STATE when it is not failed or nothing of it can run again, or E_QUOTA when
        the key that it was sent with has its `open_jobs`. Cancellation leaves the job failed or retried.
        """
        view = await self._found(job_id)
        if view.status is not JobState.FAILED:
            raise _refused(view, f"the job is {view.status}; only a failed job can be tried again")
        if view.error and view.error["code"] == "E_TOO_MANY_REJECTS":
            raise _refused(
                view, f"the job was stopped for its rejects: correct the file or raise max_rejects, and {AGAIN}"
            )
        chunks = await self._retriable(view)
        count = await self._database.value(statement("retry_job"), job_id, chunks, actor)
        if count is None:
            raise too_many_jobs("open_jobs")
        view = await self._found(job_id)
        if not count:
            raise _refused(view, f"the job is {view.status}; somebody else was faster")
        log.info("job_changed", action="retry", job_id=str(job_id), actor=actor, chunks=count)
        return view

    async def _retriable(self, view: JobView) -> list[int]:
        """Return the failed chunks whose bytes are still there."""
        rows = await self._database.fetch(statement("failed_chunks"), view.id)
        if not rows:
            raise _refused(view, f"the job has no failed chunk to run again: {AGAIN}")
        if rows[0]["queue"] != DEFAULT_QUEUE:
            raise _refused(view, "the job belongs to an `ingest load` command: give that command again")
        found = [row["id"] for row in rows if await self._is_there(row["object_key"])]
        # Of a file that is loaded in order, or as a whole, nothing behind a gap would ever have its turn.
        if not found or (rows[0]["needs_all"] and len(found) < len(rows)):
            raise _refused(view, f"the bytes of the job's failed chunks are no longer stored: {AGAIN}")
        return found

    async def _is_there(self, key: str) -> bool:
        try:
            async with self._storage.open(key):
                return True
        except StorageError:
            return False

    async def _found(self, job_id: UUID) -> JobView:
        view = await self._jobs.get(job_id)
        if view is None:
            raise RequestError(f"there is no job {str(job_id)!r}", code="E_NOT_FOUND")
        return view


def _refused(view: JobView, text: str) -> RequestError:
    return RequestError(text, code="E_STATE", state=view.status)
