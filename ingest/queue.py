"""The queue as a worker uses it: claim, renew, finish, release, fail, rescue. The SQL functions hold the rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from ingest.batch import Batch
from ingest.budget import SAMPLE_ROWS
from ingest.chunk import Chunk, ChunkCut
from ingest.database import Database, Record
from ingest.errors import AccountingError, IngestError
from ingest.job import JobMode
from ingest.ledger import lost
from ingest.spec import LoadSpec
from ingest.statements import statement

# Tries of a chunk that count: a shutdown or a lost database does not.
MAX_ATTEMPTS = 3
# Leases a chunk may lose in a row without a batch committed before it is taken for poison. Three, as one would guess,
# are soon reached by innocent chunks when a worker is killed again and again right after it has claimed them.
MAX_CRASHES = 10

# The chunk's object is deleted after its finish, so the finish, and with it every batch before it, must be on disk.
DURABLY = "BEGIN; SET LOCAL synchronous_commit = on"


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
            raise lost(chunk)
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
            raise lost(lead)
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
