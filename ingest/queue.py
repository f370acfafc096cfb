"""The queue as a worker uses it: claim, renew, finish, release, fail, rescue. The SQL functions hold the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ingest.batch import Batch, BatchResult
from ingest.budget import SAMPLE_ROWS
from ingest.chunk import Chunk, ChunkCut
from ingest.database import Database, Record, Session
from ingest.errors import AccountingError, IngestError, LeaseLost
from ingest.job import JobMode
from ingest.spec import LoadSpec
from ingest.statements import statement

# Tries of a chunk that count: a shutdown or a lost database does not.
MAX_ATTEMPTS = 3
# Leases a chunk may lose in a row without a batch committed before it is taken for poison. Three, as one would guess,
# are soon reached by innocent chunks when a worker is killed again and again right after it has claimed them.
MAX_CRASHES = 10

# The chunk's object is deleted after its finish, so the finish, and with it every batch before it, must be on disk.
DURABLY = "BEGIN; SET LOCAL synchronous_commit = on"


class AlreadyCommitted(IngestError):
    """The batch is in the ledger already: an earlier try's COMMIT arrived although its answer was lost."""

    code = "E_ALREADY_COMMITTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """Chunks that wait and that are at work, and for how long the oldest has waited."""

    pending: int
    processing: int
    oldest_age_s: float


class Queue:
    """One worker's view of one queue; `worker_id` is new for every process that ever runs."""

    def __init__(self, database: Database, worker_id: UUID, name: str = "default") -> None:
        self._database = database
        self.worker_id = worker_id
        self.name = name

    async def claim(self, limit: int) -> list[Chunk]:
        """Claim at most `limit` chunks. Cancelled halfway, chunks may be left claimed: the rescue finds them."""
        rows = await self._database.fetch(statement("claim_chunks"), self.worker_id, self.name, limit)
        return [_chunk_from(row) for row in rows]

    async def committed_starts(self, chunk: Chunk) -> frozenset[int]:
        """Return the first bytes of the chunk's batches that are in the ledger."""
        rows = await self._database.fetch(statement("committed_starts"), chunk.id)
        return frozenset(row["byte_start"] for row in rows)

    async def is_committed(self, batch: Batch) -> bool:
        """Tell whether a batch is in the ledger: settles a COMMIT whose answer was lost."""
        return bool(await self._database.value(statement("is_committed"), batch.chunk.id, batch.range.start))

    async def finish(self, chunk: Chunk) -> None:
        """Mark a chunk completed. Raises LeaseLost when it is another's, AccountingError when its ledger has a gap."""
        outcome = await self._database.transact(
            lambda session: session.value(statement("finish_chunk"), chunk.id, chunk.epoch), begin=DURABLY
        )
        if outcome == "stale":
            raise _lost(chunk)
        if outcome != "finished":
            raise AccountingError("the ledger does not cover the chunk")

    async def has_ended(self, job_id: UUID) -> bool:
        """Tell whether nobody will read the job's objects again; asked after `finish`, one of its workers learns it."""
        rows = await self._database.fetch(statement("jobs_with_objects"), [job_id])
        return not any(row["needed"] for row in rows)

    async def release(self, chunk: Chunk, delay_s: float = 0.0) -> bool:
        """Hand a chunk back without counting the try; False when it was no longer ours."""
        delay = timedelta(seconds=delay_s)
        return bool(await self._database.value(statement("release_chunk"), chunk.id, chunk.epoch, delay))

    async def fail(self, chunk: Chunk, error: IngestError, *, permanent: bool, delay_s: float) -> str:
        """Count a failed try; returns the chunk's new state, or 'stale' when it was no longer ours."""
        return str(
            await self._database.value(
                statement("fail_chunk"),
                chunk.id,
                chunk.epoch,
                error.code,
                error.detail,
                permanent,
                MAX_ATTEMPTS,
                timedelta(seconds=delay_s),
            )
        )

    async def fate(self, chunk: Chunk) -> str:
        """Say why a chunk is no longer ours: `finished` (by us), `taken over`, `deleted`, or the state of its job."""
        return str(await self._database.value(statement("fate_of_chunk"), chunk.id, chunk.epoch))

    async def rescue(self, ttl_s: float, dead: Sequence[UUID] = ()) -> int:
        """Take back chunks whose lease ran out, or whose worker is known to be dead; returns how many."""
        return int(
            await self._database.value(statement("rescue_chunks"), timedelta(seconds=ttl_s), MAX_CRASHES, list(dead))
        )

    async def enforce_budget(self, chunk: Chunk) -> bool:
        """Stop the chunk's job when it has rejected more than its budget allows; True when this call stopped it."""
        return bool(await self._database.value(statement("enforce_budget"), chunk.job_id, SAMPLE_ROWS))

    async def begin_whole(self, lead: Chunk) -> list[Chunk]:
        """Return all chunks of a job that is loaded as a whole, and forget the rejects of an earlier try.

        Raises LeaseLost. Whoever holds the job's first chunk, `lead`, stands for all of them.
        """
        rows = await self._database.fetch(statement("begin_whole"), lead.id, lead.epoch)
        if not rows:
            raise _lost(lead)
        return [_chunk_from(row) for row in rows]

    async def note_progress(self, lead: Chunk, bytes_tried: int) -> None:
        """Let people see how far a load as a whole is."""
        await self._database.execute(statement("note_progress"), lead.job_id, bytes_tried)

    async def over_budget(self, lead: Chunk, records: int, rejected: int, *, sample: int = SAMPLE_ROWS) -> str | None:
        """Return what to tell people when so many rejects are more than the job's budget allows, else None."""
        found = await self._database.value(statement("over_budget"), lead.job_id, records, rejected, sample)
        return None if found is None else str(found)

    async def register(self, host: str, pid: int, version: str) -> None:
        """Make the worker known to people and to its neighbours."""
        await self._database.execute(statement("register_worker"), self.worker_id, host, pid, version)

    async def unregister(self) -> None:
        """Leave; whatever is still held is handed back."""
        await self._database.execute(statement("unregister_worker"), self.worker_id)

    async def depth(self) -> QueueDepth:
        """Return how much work there is, in all queues."""
        row = (await self._database.fetch(statement("queue_depth")))[0]
        return QueueDepth(pending=row["pending"], processing=row["processing"], oldest_age_s=row["oldest_age_s"])


async def commit_batch(session: Session, batch: Batch, result: BatchResult) -> None:
    """Write fence and ledger line, as the last statement before COMMIT. Raises LeaseLost or AlreadyCommitted."""
    outcome = await session.value(statement("commit_batch"), *_line(batch, result))
    _check(outcome, batch)


async def commit_only_batch(session: Session, batch: Batch, result: BatchResult) -> None:
    """Do the same for the only batch of a chunk, finish the chunk, and commit: all in one trip.

    Raises AccountingError, too, when the ledger does not cover the chunk.
    """
    numbers = ", ".join(map(str, map(int, _line(batch, result))))
    outcome = await session.commit_by(f"SELECT ingest.commit_only_batch({numbers})")
    if outcome is not None:
        _check(outcome, batch)
        raise AccountingError("the ledger does not cover the chunk")


async def commit_batch_with_rejects(session: Session, batch: Batch, result: BatchResult, rejects: Sequence[str]) -> int:
    """Do the same and store rejects; returns how many there was room for. `rejects` as `store_rejects` has them."""
    sql = statement("commit_batch_with_rejects")
    [row] = await session.fetch(sql, *_line(batch, result), batch.chunk.job_id, batch.chunk.id, *rejects)
    _check(row["outcome"], batch)
    return int(row["stored"])


async def store_rejects(session: Session, batch: Batch, rejects: Sequence[str]) -> int:
    """Store rejects of a batch in the open transaction; returns how many there was room for.

    `rejects`: the joined texts of their columns, in the order of the arguments of ingest.store_rejects.
    """
    return int(await session.value(statement("store_rejects"), batch.chunk.job_id, batch.chunk.id, *rejects))


def _line(batch: Batch, result: BatchResult) -> tuple[int, ...]:
    """Return what the ledger line of a batch says. Raises AccountingError when the counts do not add up."""
    chunk, extent = batch.chunk, batch.range
    result.check(extent.records)
    return (
        chunk.id, chunk.epoch, extent.start, extent.end, extent.first_line, extent.records,
        result.inserted, result.updated, result.unchanged, result.skipped, result.rejected,
    )  # fmt: skip


def _check(outcome: str, batch: Batch) -> None:
    if outcome == "stale":
        raise _lost(batch.chunk)
    if outcome == "duplicate":
        raise AlreadyCommitted("the batch is in the ledger already")


async def finish_whole(session: Session, lead: Chunk, results: Mapping[int, BatchResult]) -> None:
    """Complete a job that was loaded as a whole; `results` by chunk id. Raises LeaseLost. The caller commits."""
    names = ("inserted", "updated", "unchanged", "skipped", "rejected")
    counts = [[getattr(result, name) for result in results.values()] for name in names]
    if not await session.value(statement("finish_whole"), lead.id, lead.epoch, list(results), *counts):
        raise _lost(lead)


async def pass_fence(session: Session, chunk: Chunk) -> None:
    """Make a takeover of the chunk wait until the open transaction ends. Raises LeaseLost when it has happened."""
    if not await session.value(statement("pass_fence"), chunk.id, chunk.epoch):
        raise _lost(chunk)


async def resolve_rejects(session: Session, batch: Batch, lines: Sequence[int]) -> None:
    """Mark rejects of the parent's as corrected, in the transaction of the batch that has loaded the records.

    `lines` are those that the records had in the parent's file. Does nothing for a file that corrects no other.
    """
    if batch.chunk.parent_id is not None and lines:
        await session.execute(statement("resolve_rejects"), batch.chunk.parent_id, batch.chunk.job_id, list(lines))


def _lost(chunk: Chunk) -> LeaseLost:
    return LeaseLost("another worker has the chunk now", chunk=chunk.cut.ordinal, epoch=chunk.epoch)


def _chunk_from(row: Record) -> Chunk:
    cut = ChunkCut(
        ordinal=row["ordinal"],
        object_key=row["object_key"],
        object_offset=row["object_offset"],
        length_bytes=row["length_bytes"],
        file_offset=row["file_offset"],
        first_line=row["first_line"],
        ends=row["batch_ends"],
        records=row["batch_records"],
        lines=row["batch_lines"],
        blank_lines=row["batch_blanks"],
        offsets=tuple(row["batch_offsets"]),
        table_end=row["table_end"],
    )
    return Chunk(
        id=row["id"],
        job_id=row["job_id"],
        epoch=row["epoch"],
        attempt=row["attempt"],
        spec=LoadSpec.from_json(row["spec"]),
        cut=cut,
        mode=JobMode(row["mode"]),
        parent_id=row["parent_id"],
        max_stored_rejects=row["max_stored_rejects"],
        has_budget=row["has_budget"],
    )
