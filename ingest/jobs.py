"""Jobs: their life while they are received, and how they are read. Workers' side of the same tables: `ingest.queue`.

Every state change is a function in sql/; nothing here decides what a state may become.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ingest.announcing import Announcer
from ingest.chunk import ChunkCut
from ingest.database import Database, Record, Session
from ingest.errors import IngestError, RequestError, UnavailableError
from ingest.job import JobView, NewJob
from ingest.jobviews import view_from, view_of_received
from ingest.statements import statement
from ingest.statistics import Statistics


class Jobs:
    """The jobs in the database."""

    def __init__(self, database: Database, announcer: Announcer | None = None) -> None:
        """Give the `announcer` that runs in this process where whole files are received."""
        self._database = database
        self._announcer = announcer or Announcer(database)
        self._statistics = Statistics(database)

    async def create(self, new: NewJob) -> None:
        """Write a job that is being received; nothing of it can be claimed yet.

        Raises RequestError (E_QUOTA) when the caller's key may not have another job now.
        """
        refusal = await self._database.value(statement("create_job"), *_values(new))
        if refusal is not None:
            raise too_many_jobs(refusal)

    async def receive(self, new: NewJob, cuts: Sequence[ChunkCut], *, sha256: bytes) -> JobView:
        """Write a job whose file is all there: `create`, `add_chunk` and `complete_upload` in one.

        A job of one chunk takes one statement. Raises what these raise.
        """
        records = sum(sum(cut.records) for cut in cuts)
        if len(cuts) != 1 or new.bytes_total is None:
            await self.create(new)
            for cut in cuts:
                await self.add_chunk(new.id, cut)
            return await self.complete_upload(new.id, bytes_total=new.bytes_total or 0, sha256=sha256, records=records)
        sql = statement("receive_job")
        [row] = await self._database.fetch(sql, *_values(new), *_values_of_chunk(cuts[0]), sha256)
        if row["refusal"] is not None:
            raise too_many_jobs(row["refusal"])
        if row["outcome"] == "duplicate":
            raise duplicate_file(row["duplicate"])
        if row["outcome"] != "complete":
            raise _no_longer_receiving(await self.get(new.id))
        self._announcer.tell(new.id, queue=new.queue)
        return view_of_received(new, sha256, records, row)

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None:
        """Write a stored chunk of a job that is being received; loaded while it is uploaded, it may be claimed at once.

        Raises RequestError (E_UPLOAD_GONE) when the job is no longer received.
        """
        added = await self._database.value(statement("add_chunk"), job_id, *_values_of_chunk(cut))
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
            raise duplicate_file(row["duplicate"])
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
        filename: str | None = None,
    ) -> tuple[list[JobView], int]:
        """Return a page of jobs, newest first, and how many there are; of all owners when `owner` is None.

        `filename` is a part of the file's name, in whatever case; it is looked for in the newest 100,000 jobs.
        """
        skipped = (page - 1) * limit
        wanted = (status, dataset, owner, *([filename] if filename else []))
        ids = statement("page_of_jobs_by_name") if filename else statement("page_of_job_ids")
        number = statement("count_jobs_by_name") if filename else statement("count_jobs")

        async def read(session: Session) -> tuple[list[JobView], int]:
            rows = await session.fetch(ids, limit, skipped, *wanted)
            views = await _many(session, [row["id"] for row in rows])
            if len(rows) < limit and (rows or not skipped):  # the last page tells by itself
                return views, skipped + len(rows)
            return views, await session.value(number, *wanted)

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


def _values(new: NewJob) -> tuple[Any, ...]:
    """Return what the statements that write a job are given."""
    return (
        new.id, new.spec.dataset, new.filename, new.priority, new.queue, new.spec.to_json(), new.bytes_total,
        new.mode, new.parent_id, new.budget and new.budget.rejects, new.budget and new.budget.percent,
        new.spec.plan is not None and new.spec.keyed, new.max_stored_rejects, new.load, new.compression,
        new.refuse_duplicate, new.part and new.part.key_id, new.part and new.part.number,
        new.part and new.part.fingerprint, new.caller.owner, new.caller.key_id,
    )  # fmt: skip


def _values_of_chunk(cut: ChunkCut) -> tuple[Any, ...]:
    """Return what the statements that write a chunk are given."""
    return (
        cut.ordinal, cut.object_key, cut.object_offset, cut.length_bytes, cut.file_offset, cut.first_line,
        sum(cut.records), list(cut.ends), list(cut.records), list(cut.lines), list(cut.blank_lines), list(cut.offsets),
        cut.table_end,
    )  # fmt: skip


def _no_longer_receiving(view: JobView | None) -> RequestError:
    why = view.error["message"] if view is not None and view.error else "it was cancelled or timed out"
    return RequestError(f"the job no longer takes data: {why}", code="E_UPLOAD_GONE", job=view and view.id)


def duplicate_file(earlier: UUID) -> RequestError:
    """Return the refusal of a file that job `earlier` has brought before."""
    text = f"job {earlier} has brought the same file to this dataset before (on_duplicate=refuse)"
    return RequestError(text, code="E_DUPLICATE", duplicate_of=earlier)


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
