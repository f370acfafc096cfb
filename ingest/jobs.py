"""Jobs: their life while they are received, and how they are read. Workers' side of the same tables: `ingest.queue`.

Every state change is a function in sql/; nothing here decides what a state may become.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ingest.chunk import ChunkCut
from ingest.database import Database, Record
from ingest.errors import IngestError, RequestError
from ingest.job import FINAL, JobMode, JobState, JobView, NewJob
from ingest.statements import statement

# Nothing is wrong with the load, but perhaps with the export.
NO_ROWS = {"code": "W_NO_ROWS", "message": "the file holds a header and no records"}


class Jobs:
    """The jobs in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: NewJob) -> None:
        """Write a job that is being received; nothing of it can be claimed yet.

        Raises RequestError (E_QUOTA) when the caller's key may not have another job now.
        """
        refusal = await self._database.value(
            statement("create_job"),
            new.id, new.spec.dataset, new.filename, new.priority, new.queue, new.spec.to_json(), new.bytes_total,
            new.mode, new.parent_id, new.budget and new.budget.rejects, new.budget and new.budget.percent,
            new.spec.plan is not None and new.spec.keyed, new.max_stored_rejects, new.caller.owner, new.caller.key_id,
        )  # fmt: skip
        if refusal is not None:
            raise too_many_jobs(refusal)

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None:
        """Write a stored chunk of a job that is being received. Raises RequestError when the job no longer is."""
        added = await self._database.value(
            statement("add_chunk"),
            job_id, cut.ordinal, cut.object_key, cut.object_offset, cut.length_bytes, cut.file_offset, cut.first_line,
            sum(cut.records), list(cut.ends), list(cut.records), list(cut.lines), list(cut.blank_lines),
        )  # fmt: skip
        if added is None:
            raise _no_longer_receiving()

    async def touch(self, job_id: UUID, bytes_received: int) -> None:
        """Note how far an upload is; also its sign of life."""
        await self._database.execute(statement("touch_upload"), job_id, bytes_received)

    async def complete_upload(self, job_id: UUID, *, bytes_total: int, sha256: bytes, records: int) -> JobView:
        """Make the job and its chunks claimable, in one transaction; a job without records is completed at once."""
        done = await self._database.value(statement("complete_upload"), job_id, bytes_total, sha256, records)
        view = await self.get(job_id)
        if not done or view is None:
            raise _no_longer_receiving()
        return view

    async def fail_upload(self, job_id: UUID, error: IngestError) -> None:
        """End a job whose upload broke; its chunk rows are removed. Does nothing when it is no longer receiving."""
        await self._database.value(statement("fail_upload"), job_id, error.code, error.detail)

    async def get(self, job_id: UUID) -> JobView | None:
        """Return a job as the API shows it, or None."""
        views = await self._views([job_id])
        return views[0] if views else None

    async def page(
        self,
        *,
        page: int,
        limit: int,
        status: str | None = None,
        dataset: str | None = None,
        owner: str | None = None,
    ) -> tuple[list[JobView], int]:
        """Return a page of jobs, newest first, and how many there are; of all owners when `owner` is None."""
        rows = await self._database.fetch(
            statement("page_of_job_ids"), limit, (page - 1) * limit, status, dataset, owner
        )
        total = await self._database.value(statement("count_jobs"), status, dataset, owner)
        return await self._views([row["id"] for row in rows]), total

    async def chunks(self, job_id: UUID, *, page: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return a page of a job's chunks in file order, and how many there are."""
        rows = await self._database.fetch(statement("page_of_chunks"), job_id, limit, (page - 1) * limit)
        return [_chunk_from(row) for row in rows], await self._database.value(statement("count_chunks"), job_id)

    async def _views(self, ids: Sequence[UUID]) -> list[JobView]:
        rows = await self._database.fetch(statement("jobs_by_id"), list(ids)) if ids else []
        found = {row["id"]: view_from(row) for row in rows}
        return [found[job_id] for job_id in ids if job_id in found]


def _no_longer_receiving() -> RequestError:
    return RequestError("the job no longer takes data: it was cancelled or timed out", code="E_UPLOAD_GONE")


def too_many_jobs(limit: str) -> RequestError:
    """Return the refusal of a job that exceeds a limit of its key: `open_jobs` or `jobs_per_second`."""
    if limit == "open_jobs":
        text, retry_after_s = "the key has as many jobs as it may have that have not ended: wait for one", 10
    else:
        text, retry_after_s = "the key makes more jobs a second than it may", 1
    return RequestError(text, code="E_QUOTA", limit=limit, retry_after_s=retry_after_s)


def _chunk_from(row: Record) -> dict[str, Any]:
    chunk = dict(row)
    code, message = chunk.pop("error_code"), chunk.pop("error_message")
    return {**chunk, "error": {"code": code, "message": message} if code else None}


def view_from(row: Record) -> JobView:
    """Build the API's view of a job from a row of the statement `jobs_by_id`."""
    state = JobState(row["state"])
    final = state in FINAL
    suffix = "" if final else "_now"
    counts = {name: row[name + suffix] for name in ("inserted", "updated", "unchanged", "skipped", "rejected")}
    processed = counts["inserted"] + counts["updated"] + counts["unchanged"]
    speed, eta_s = _pace(row, final)
    return JobView(
        id=row["id"],
        dataset=row["dataset"],
        filename=row["filename"],
        status=state,
        mode=row["mode"],
        priority=row["priority"],
        bytes_total=row["bytes_total"],
        bytes_received=row["bytes_received"],
        bytes_processed=row["bytes_total"] if state is JobState.COMPLETED else _bytes_done(row),
        total_rows=row["records"],
        processed_rows=processed,
        inserted_rows=counts["inserted"],
        updated_rows=counts["updated"],
        unchanged_rows=counts["unchanged"],
        skipped_rows=counts["skipped"],
        failed_rows=counts["rejected"],
        resolved_rows=row["resolved"],
        progress=_progress(row, state),
        rows_per_second=speed,
        eta_seconds=eta_s,
        chunks={name: row[f"chunks_{name}"] for name in ("pending", "processing", "completed", "failed")},
        error={"code": row["error_code"], "message": row["error_message"]} if row["error_code"] else None,
        warnings=[NO_ROWS] if state is JobState.COMPLETED and not row["records"] else [],
        parent_id=row["parent_id"],
        sha256=row["sha256"].hex() if row["sha256"] else None,
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["finished_at"],
        updated_at=row["updated_at"],
        owner=row["owner"],
    )


def _progress(row: Record, state: JobState) -> float:
    """Return the loaded share of the file's bytes; 0 while it is received, since its end is not known."""
    if state is JobState.COMPLETED:
        return 1.0
    if state is JobState.RECEIVING or not row["bytes_to_load"]:
        return 0.0
    return float(round(min(_bytes_done(row) / row["bytes_to_load"], 1.0), 4))


def _bytes_done(row: Record) -> int:
    """Return the bytes of committed batches, or of those a load as a whole has tried."""
    return int(row["bytes_loaded"] if row["mode"] == JobMode.BATCHES else row["bytes_tried"])


def _pace(row: Record, final: bool) -> tuple[float | None, float | None]:
    """Return rows per second since the first claim and, for a running job, the seconds that are left at that pace."""
    if row["started_at"] is None:
        return None, None
    elapsed_s = max(((row["finished_at"] or row["read_at"]) - row["started_at"]).total_seconds(), 0.001)
    rows = row["inserted_now"] + row["updated_now"] + row["unchanged_now"] + row["skipped_now"] + row["rejected_now"]
    done = _bytes_done(row)
    eta_s = None if final or not done else round((row["bytes_to_load"] - done) * elapsed_s / done, 1)
    return round(rows / elapsed_s, 1), eta_s
