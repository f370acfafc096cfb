"""Jobs: their life while they are received, and how they are read. Workers' side of the same tables: `ingest.queue`.

Every state change is a function in sql/; nothing here decides what a state may become.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from ingest.chunk import ChunkCut
from ingest.database import Database, Record, Session
from ingest.dialect import Dialect
from ingest.encodings import UTF_8
from ingest.errors import IngestError, RequestError, UnavailableError
from ingest.job import FINAL, JobMode, JobState, JobView, NewJob
from ingest.statements import statement
from ingest.statistics import Statistics

# Nothing is wrong with the load, but perhaps with the export.
NO_ROWS = {"code": "W_NO_ROWS", "message": "the file holds a header and no records"}

# Progress is shown in ten-thousandths.
PROGRESS_STEPS = 10_000
# A job that began and ended at the same moment still had some time.
SHORTEST_S = 0.001


class Jobs:
    """The jobs in the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statistics = Statistics(database)

    async def create(self, new: NewJob) -> None:
        """Write a job that is being received; nothing of it can be claimed yet.

        Raises RequestError (E_QUOTA) when the caller's key may not have another job now.
        """
        refusal = await self._database.value(
            statement("create_job"),
            new.id, new.spec.dataset, new.filename, new.priority, new.queue, new.spec.to_json(), new.bytes_total,
            new.mode, new.parent_id, new.budget and new.budget.rejects, new.budget and new.budget.percent,
            new.spec.plan is not None and new.spec.keyed, new.max_stored_rejects, new.load, new.compression,
            new.refuse_duplicate, new.part and new.part.key_id, new.part and new.part.number,
            new.part and new.part.fingerprint, new.caller.owner, new.caller.key_id,
        )  # fmt: skip
        if refusal is not None:
            raise too_many_jobs(refusal)

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None:
        """Write a stored chunk of a job that is being received; loaded while it is uploaded, it may be claimed at once.

        Raises RequestError (E_UPLOAD_GONE) when the job is no longer received.
        """
        added = await self._database.value(
            statement("add_chunk"),
            job_id, cut.ordinal, cut.object_key, cut.object_offset, cut.length_bytes, cut.file_offset, cut.first_line,
            sum(cut.records), list(cut.ends), list(cut.records), list(cut.lines), list(cut.blank_lines),
            list(cut.offsets),
        )  # fmt: skip
        if added is None:
            raise _no_longer_receiving(await self.get(job_id))

    async def backlog(self, job_id: UUID) -> int:
        """Return how many stored bytes of a job that is loaded while it is uploaded are not loaded yet.

        Raises RequestError (E_UPLOAD_GONE) when it takes no more data, or waits for a chunk that has failed.
        """
        rows = await self._database.fetch(statement("upload_backlog"), job_id)
        if not rows:
            raise _no_longer_receiving(await self.get(job_id))
        if rows[0]["failure"] is not None:
            text = f"a part of the file could not be loaded: {rows[0]['failure']}"
            raise RequestError(text, code="E_UPLOAD_GONE", job=job_id)
        return int(rows[0]["bytes"])

    async def touch(self, job_id: UUID, bytes_received: int) -> None:
        """Note how far an upload is; also its sign of life. Raises RequestError when the job no longer takes data."""
        if await self._database.value(statement("touch_upload"), job_id, bytes_received) is None:
            raise _no_longer_receiving(await self.get(job_id))

    async def complete_upload(self, job_id: UUID, *, bytes_total: int, sha256: bytes, records: int) -> JobView:
        """Make the job and its chunks claimable, in one transaction; a job without records is completed at once.

        Raises RequestError: E_UPLOAD_GONE, or E_DUPLICATE for bytes that were loaded before and are not wanted twice;
        UnavailableError when the database has crashed since it was told of the chunks, and has forgotten some.
        """
        (row,) = await self._database.fetch(statement("complete_upload"), job_id, bytes_total, sha256, records)
        view = await self.get(job_id)
        if row["outcome"] == "duplicate":
            text = f"job {row['duplicate']} has brought the same file to this dataset before (on_duplicate=refuse)"
            raise RequestError(text, code="E_DUPLICATE", duplicate_of=row["duplicate"])
        if row["outcome"] == "incomplete":
            raise UnavailableError("the database crashed and has forgotten parts of the file; send it again")
        if row["outcome"] != "complete" or view is None:
            raise _no_longer_receiving(view)
        return view

    async def fail_upload(self, job_id: UUID, error: IngestError) -> None:
        """End a job whose upload broke; nothing of it can be claimed any more. Does nothing when it is not received."""
        await self._database.value(statement("fail_upload"), job_id, error.code, error.detail)

    async def get(self, job_id: UUID) -> JobView | None:
        """Return a job as the API shows it, or None."""
        views = await self.many([job_id])
        return views[0] if views else None

    async def many(self, ids: Sequence[UUID]) -> list[JobView]:
        """Return those of these jobs that exist, in the given order: one query."""
        return await self._database.run(lambda session: _many(session, ids))

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
        skipped = (page - 1) * limit

        async def read(session: Session) -> tuple[list[JobView], int]:
            rows = await session.fetch(statement("page_of_job_ids"), limit, skipped, status, dataset, owner)
            views = await _many(session, [row["id"] for row in rows])
            if 0 < len(rows) < limit:  # the last page tells by itself
                return views, skipped + len(rows)
            return views, await session.value(statement("count_jobs"), status, dataset, owner)

        return await self._database.run(read)

    async def chunks(self, job_id: UUID, *, page: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return a page of a job's chunks in file order, and how many there are."""
        rows = await self._database.fetch(statement("page_of_chunks"), job_id, limit, (page - 1) * limit)
        return [_chunk_from(row) for row in rows], await self._database.value(statement("count_chunks"), job_id)

    async def statistics(self) -> dict[str, Any]:
        """Return what all jobs come to."""
        return await self._statistics.read()


async def _many(session: Session, ids: Sequence[UUID]) -> list[JobView]:
    rows = await session.fetch(statement("jobs_by_id"), list(ids)) if ids else []
    found = {row["id"]: view_from(row) for row in rows}
    return [found[job_id] for job_id in ids if job_id in found]


def _no_longer_receiving(view: JobView | None) -> RequestError:
    why = view.error["message"] if view is not None and view.error else "it was cancelled or timed out"
    return RequestError(f"the job no longer takes data: {why}", code="E_UPLOAD_GONE", job=view and view.id)


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
    speed, eta_s = _pace(row, state)
    return JobView(
        id=row["id"],
        dataset=row["dataset"],
        filename=row["filename"],
        status=state,
        mode=row["mode"],
        priority=row["priority"],
        bytes_total=row["bytes_total"],
        bytes_received=row["bytes_received"],
        bytes_processed=_bytes_processed(row, state),
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
        duplicate_of=row["duplicate_of"],
        compression=row["compression"],
        load=row["load"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["finished_at"],
        updated_at=row["updated_at"],
        owner=row["owner"],
        dialect=_dialect_of(row),
    )


def _dialect_of(row: Record) -> dict[str, Any]:
    """Return how the file is read, why, and the options that say so."""
    spec = row["spec"]
    shown = Dialect(**spec["dialect"]).to_json()
    return {**shown, "evidence": spec.get("evidence", []), "options": spec.get("pinned_by", "")}


def _progress(row: Record, state: JobState) -> float:
    """Return the loaded share of the file's bytes, rounded down: 1 is said of a completed job only.

    While bytes still arrive it is the share of what the client announced, and 0 when it announced nothing: a share of
    what has arrived so far would fall whenever more arrives.
    """
    if state is JobState.COMPLETED:
        return 1.0
    whole = _bytes_in_all(row, state)
    return min(_bytes_done(row) * PROGRESS_STEPS // whole, PROGRESS_STEPS - 1) / PROGRESS_STEPS if whole else 0.0


def _bytes_in_all(row: Record, state: JobState) -> int | None:
    """Return the bytes there are to load; None while nobody can know."""
    if state is not JobState.RECEIVING:
        return int(row["bytes_to_load"])
    announced = None if row["compression"] else row["bytes_total"]
    return announced if announced is not None and announced >= row["bytes_to_load"] else None


def _bytes_processed(row: Record, state: JobState) -> int:
    """Return the bytes of the file, as it was sent, that stand for what is loaded."""
    if state is JobState.COMPLETED:
        return int(row["bytes_total"])
    if row["compression"] or row["spec"]["dialect"].get("encoding", UTF_8) != UTF_8:
        return int(_progress(row, state) * (row["bytes_total"] or 0))
    return _bytes_done(row)


def _bytes_done(row: Record) -> int:
    """Return the bytes of committed batches, or of those a load as a whole has tried."""
    return int(row["bytes_loaded"] if row["mode"] == JobMode.BATCHES else row["bytes_tried"])


def _pace(row: Record, state: JobState) -> tuple[float | None, float | None]:
    """Return the rows per second and, for a job at work, the seconds that are left at the pace of its bytes.

    The pace of a job at work is that of the last half minute, of one that has ended that from its first claim to its
    end. A job that waits has none. A load as a whole tells only how many bytes it has read.
    """
    if row["started_at"] is None:
        return None, None
    if state in FINAL:
        return round(_rows_done(row) / _seconds((row["finished_at"] or row["read_at"]) - row["started_at"]), 1), None
    if row["recent_s"] is None:
        return None, None
    window_s, recent_bytes = max(row["recent_s"], SHORTEST_S), row["recent_bytes"]
    if row["mode"] != JobMode.BATCHES:
        window_s, recent_bytes = _seconds(row["read_at"] - row["started_at"]), row["bytes_tried"]
    whole = _bytes_in_all(row, state)
    eta_s = round((whole - _bytes_done(row)) * window_s / recent_bytes, 1) if whole and recent_bytes else None
    return round(row["recent_rows"] / window_s, 1) if row["mode"] == JobMode.BATCHES else None, eta_s


def _rows_done(row: Record) -> int:
    return sum(row[f"{name}_now"] for name in ("inserted", "updated", "unchanged", "skipped", "rejected"))


def _seconds(span: timedelta) -> float:
    return max(span.total_seconds(), SHORTEST_S)
