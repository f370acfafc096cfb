"""What people do to a job: cancel, pause, resume, change its priority, delete. The SQL functions hold the rules.

Each call is one conditional transaction with a line in the audit, so of two that exclude each other one happens and the
other is told the state it has found. A worker that runs the job hears of it by NOTIFY, by its next heartbeat, or by the
fence of its next batch, whichever comes first; from the commit on it can commit nothing any more.
"""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

import structlog
import trio

from ingest.database import Database
from ingest.errors import ConflictError, RequestError, StorageError
from ingest.job import JobView
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_prefix
from ingest.statements import statement
from ingest.storage import Storage

# A batch or a claim may be in the way of the locks for a moment.
TRIES = 5
DELAY_S = 0.05

# The newest lines that `audit` returns.
AUDIT_LINES = 100

# What each action asks of a job's state, for whoever asked too early or too late.
WANTED = {
    "cancel": "only one that has not ended can be cancelled",
    "pause": "only one that is pending or processing can be paused",
    "resume": "only one that is paused can be resumed",
    "prioritise": "only one that has not ended has a priority to change",
    "delete": "only one that has ended can be deleted; cancel it first",
}

log = structlog.get_logger("ingest.jobs")


class Control:
    """The control of jobs. Every method raises DatabaseError, and RequestError: E_NOT_FOUND, E_STATE with `state`.

    Cancelled, a method leaves the job changed or not, never halfway. `actor` is whose key it was, for the audit.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage
        self._jobs = Jobs(database)

    async def cancel(self, job_id: UUID, actor: str | None = None) -> JobView:
        """End a job that has not ended, an upload too; what was committed stays in the table. Return the job."""
        await self._change("cancel", statement("cancel_job"), job_id, actor)
        view = await self._view(job_id)
        await self._remove_objects(view)
        return view

    async def pause(self, job_id: UUID, actor: str | None = None) -> JobView:
        """Let a job rest until it is resumed and return it; batches that are open are rolled back."""
        await self._change("pause", statement("pause_job"), job_id, actor)
        return await self._view(job_id)

    async def resume(self, job_id: UUID, actor: str | None = None) -> JobView:
        """Go on with a paused job from where its ledger ends, and return it; a load as a whole begins anew."""
        await self._change("resume", statement("resume_job"), job_id, actor)
        return await self._view(job_id)

    async def prioritise(self, job_id: UUID, priority: int, actor: str | None = None) -> JobView:
        """Give a job another priority (0 to 9; 9 runs first) and return it; chunks that run are not interrupted."""
        await self._change("prioritise", statement("prioritise_job"), job_id, actor, priority)
        return await self._view(job_id)

    async def delete(self, job_id: UUID, actor: str | None = None) -> None:
        """Forget a job that has ended, with its rejects and objects; rows in the table stay."""
        view = await self._view(job_id)
        await self._change("delete", statement("delete_job"), job_id, actor)
        await self._remove_objects(view)

    async def audit(self, job_id: UUID) -> list[dict[str, Any]]:
        """Return what was done to a job, the latest first, at most AUDIT_LINES."""
        return [dict(row) for row in await self._database.fetch(statement("audit_of_job"), job_id, AUDIT_LINES)]

    async def _change(self, action: str, sql: str, job_id: UUID, actor: str | None, *values: object) -> None:
        outcome = await self._ask(sql, job_id, actor, *values)
        if outcome is None:
            raise _not_found(job_id)
        if outcome != "done":
            raise RequestError(f"the job is {outcome}; {WANTED[action]}", code="E_STATE", state=outcome)
        log.info("job_changed", action=action, job_id=str(job_id), actor=actor)

    async def _ask(self, sql: str, *values: object) -> str | None:
        for left in reversed(range(TRIES)):
            try:
                found = await self._database.value(sql, *values)
                return None if found is None else str(found)
            except ConflictError:
                if not left:
                    raise
            await trio.sleep(DELAY_S * random.uniform(0.5, 1.5))
        raise AssertionError("the last try has returned or raised")

    async def _remove_objects(self, view: JobView) -> None:
        if view.total_rows is None:
            return  # of an upload that has not ended well: it removes them itself, as soon as it hears of it
        try:
            await self._storage.remove_all(chunk_prefix(view.id))
        except StorageError as error:
            log.warning("objects_not_removed", job_id=str(view.id), code=error.code)  # the janitor will

    async def _view(self, job_id: UUID) -> JobView:
        view = await self._jobs.get(job_id)
        if view is None:  # deleted the moment after
            raise _not_found(job_id)
        return view


def _not_found(job_id: UUID) -> RequestError:
    return RequestError(f"there is no job {str(job_id)!r}", code="E_NOT_FOUND")
