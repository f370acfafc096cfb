"""Loading: the ways to bring a batch into its targets, each inside one transaction with rejects and ledger line.

    direct     no plan: the batch's bytes go unparsed into COPY; PostgreSQL is the validator
    skipped    the records that such a COPY skipped, and why
    staged     a plan, or a batch that is not clean: staged, judged and merged by one statement, halved where it fails
    staging    the temporary tables for that
    texts      a field of a plan -> SQL from a cell's text to a value, and the conditions that reject it
    tablerules what the target tables demand, from the catalogue
    judging    a plan -> the query that judges staged records
    putting    a target of a plan -> the SQL that inserts or merges its rows
    merge      a plan -> the one statement made of these
    findings   what that statement found -> rejects
    screening  malformed records (field count, encoding) and moving dates, found before PostgreSQL sees them
    patterns   the search for what COPY must not see
    fields     one record -> its fields, by COPY's rules
    reasons    SQLSTATE -> the reject's stable code and its sentence

`load_whole` and `load_isolated` are what writers call. A batch that is not in the ledger afterwards changed nothing.
`load_within` and `isolate_within` are for a job that is loaded as a whole, in one transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from ingest.batch import Batch, BatchResult
from ingest.database import Database, Held, Session
from ingest.loading.direct import copy_direct
from ingest.loading.staged import copy_staged, isolate
from ingest.loading.staging import begin, begin_whole, empty_staging, write_rejects
from ingest.metrics import Way as WayName
from ingest.queue import commit_batch

__all__ = [
    "begin_whole",
    "isolate_within",
    "load_isolated",
    "load_whole",
    "load_within",
    "way_of",
    "write_rejects",
]

# Brings a batch in; the text opens its transaction, or its part of one.
Way = Callable[[Session, Batch, str], Awaitable[BatchResult]]


async def load_whole(database: Database, batch: Batch) -> BatchResult:
    """Load a batch by one COPY. Raises RowError when a record is in the way; then `load_isolated` finds it.

    Raises LeaseLost, AlreadyCommitted, ConflictError, UnavailableError, PermanentError; after each of them, and after
    cancellation, the batch is wholly in (the ledger says so) or not at all.
    """
    return await _load(database, batch, _whole(batch))


async def load_isolated(database: Database, batch: Batch, *, expecting: bool = False) -> BatchResult:
    """Load every good record of a batch, the others go to the rejects. Raises as `load_whole`, but no RowError.

    `expecting`: many are bad, as the batch before has shown.
    """
    return await _load(database, batch, partial(isolate, expecting=expecting))


async def load_within(held: Held, batch: Batch) -> BatchResult:
    """Load a batch by one COPY inside the open transaction of `held`; rejects and counts are the caller's.

    Raises RowError when a record is in the way; then `isolate_within` must follow. Raises ConflictError,
    UnavailableError, PermanentError: then the transaction cannot go on.
    """
    return await _within(held, batch, _whole(batch), "SAVEPOINT batch", "SET CONSTRAINTS ALL IMMEDIATE")


async def isolate_within(held: Held, batch: Batch) -> BatchResult:
    """Load every good record of a batch that `load_within` could not take whole. Raises as that, but no RowError."""
    return await _within(held, batch, isolate, "ROLLBACK TO SAVEPOINT batch", "SAVEPOINT records")


def way_of(batch: Batch) -> WayName:
    """Return the name of the way by which a batch is tried first."""
    return "staged" if batch.chunk.spec.plan else "direct"


def _whole(batch: Batch) -> Way:
    return copy_staged if batch.chunk.spec.plan else copy_direct


async def _load(database: Database, batch: Batch, way: Way) -> BatchResult:
    async def unit(session: Session) -> BatchResult:
        # The slot is left before the last two round trips: another writer's COPY fills the time they take.
        async with session.slot():
            result = await way(session, batch, begin(batch))
        await write_rejects(session, batch, result.rejects)
        await commit_batch(session, batch, result)
        await session.commit()
        return result

    return await database.run(unit)


async def _within(held: Held, batch: Batch, way: Way, first: str, opening: str) -> BatchResult:
    async def unit(session: Session) -> BatchResult:
        await session.execute(first)
        async with session.slot():
            result = await way(session, batch, opening)
        # Staging tables are emptied by COMMIT; here that is far away.
        await session.execute(
            f"RELEASE SAVEPOINT batch; {empty_staging([column.type for column in batch.chunk.spec.columns])}"
        )
        return result

    return await held.run(unit)
