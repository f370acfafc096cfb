"""What the transaction of a batch writes beside its rows: fence, ledger line, rejects. SQL functions hold the rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Session
from ingest.errors import AccountingError, IngestError, LeaseLost
from ingest.statements import statement


class AlreadyCommitted(IngestError):
    """The batch is in the ledger already: an earlier try's COMMIT arrived although its answer was lost."""

    code = "E_ALREADY_COMMITTED"


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
        raise lost(batch.chunk)
    if outcome == "duplicate":
        raise AlreadyCommitted("the batch is in the ledger already")


async def finish_whole(session: Session, lead: Chunk, results: Mapping[int, BatchResult]) -> None:
    """Complete a job that was loaded as a whole; `results` by chunk id. Raises LeaseLost. The caller commits."""
    names = ("inserted", "updated", "unchanged", "skipped", "rejected")
    counts = [[getattr(result, name) for result in results.values()] for name in names]
    if not await session.value(statement("finish_whole"), lead.id, lead.epoch, list(results), *counts):
        raise lost(lead)


async def pass_fence(session: Session, chunk: Chunk) -> None:
    """Make a takeover of the chunk wait until the open transaction ends. Raises LeaseLost when it has happened."""
    if not await session.value(statement("pass_fence"), chunk.id, chunk.epoch):
        raise lost(chunk)


async def resolve_rejects(session: Session, batch: Batch, lines: Sequence[int]) -> None:
    """Mark rejects of the parent's as corrected, in the transaction of the batch that has loaded the records.

    `lines` are those that the records had in the parent's file. Does nothing for a file that corrects no other.
    """
    if batch.chunk.parent_id is not None and lines:
        await session.execute(statement("resolve_rejects"), batch.chunk.parent_id, batch.chunk.job_id, list(lines))


def lost(chunk: Chunk) -> LeaseLost:
    """Return the error of a worker whose chunk is no longer its own."""
    return LeaseLost("another worker has the chunk now", chunk=chunk.cut.ordinal, epoch=chunk.epoch)
