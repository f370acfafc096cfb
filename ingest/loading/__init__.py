"""Loading: the ways to bring a batch into its targets, each inside one transaction with rejects and ledger line.

    direct     no plan: the batch's bytes go unparsed into COPY; PostgreSQL is the validator
    skipped    the records that such a COPY skipped, and why
    staged     a plan: staged, judged and merged by one statement, halved where it fails
    isolated   a batch that is not clean, by the cheapest of these that can do it:
    sifted     direct for the records whose keys are free, staged for the others
    keys       a batch's bytes -> the key columns of its records
    merging    the merge of staged records, and what became of each
    staging    the temporary tables for that
    texts      a field of a plan -> SQL from a cell's text to a value, and the conditions that reject it
    tablerules what the target tables demand, from the catalogue
    judging    a plan -> the query that judges staged records
    putting    a target of a plan -> the SQL that inserts or merges its rows
    merge      a plan -> the one statement made of these
    findings   what that statement found -> rejects
    reading    a batch that COPY cannot read -> one that it can
    malformed  why a record is none
    screening  malformed records and moving dates, found before PostgreSQL sees them
    patterns   the search for what COPY must not see
    locating   where the records of a batch are
    storing    rejects and ledger line, the end of a batch
    asking     which texts their types refuse
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
from ingest.loading.direct import MANY, copy_direct
from ingest.loading.isolated import MANY_BAD, TAKEN_KEY, isolate
from ingest.loading.reading import readable
from ingest.loading.staged import copy_staged
from ingest.loading.staging import begin, begin_whole, empty_staging
from ingest.loading.storing import close_batch, write_rejects
from ingest.metrics import Way as WayName

__all__ = [
    "begin_whole",
    "expected_after",
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
    batch = await readable(batch)
    return await _load(database, batch, _whole(batch))


async def load_isolated(database: Database, batch: Batch, *, after: str | None = None) -> BatchResult:
    """Load every good record of a batch, the others go to the rejects. Raises as `load_whole`, but no RowError.

    `after`: the SQLSTATE with which `load_whole` failed, or what `expected_after` the batch before.
    """
    return await _load(database, await readable(batch, leniently=True), partial(isolate, after=after))


def expected_after(batch: Batch, result: BatchResult) -> str | None:
    """Return the SQLSTATE that is likely to keep the next batch from being loaded whole, None for none."""
    if result.rejected > MANY * batch.range.records:
        return MANY_BAD
    return TAKEN_KEY if any(reject.sqlstate == TAKEN_KEY for reject in result.rejects) else None


async def load_within(held: Held, batch: Batch) -> BatchResult:
    """Load a batch by one COPY inside the open transaction of `held`; rejects and counts are the caller's.

    Raises RowError when a record is in the way; then `isolate_within` must follow. Raises ConflictError,
    UnavailableError, PermanentError: then the transaction cannot go on.
    """
    batch = await readable(batch)
    return await _within(held, batch, _whole(batch), "SAVEPOINT batch", "SET CONSTRAINTS ALL IMMEDIATE")


async def isolate_within(held: Held, batch: Batch, *, after: str | None) -> BatchResult:
    """Load every good record of a batch that `load_within` could not take whole, because of the SQLSTATE `after`.

    Raises as that, but no RowError.
    """
    # Not sifted: its staging tables would have to be emptied for each batch, too.
    batch = await readable(batch, leniently=True)
    isolated = partial(isolate, after=MANY_BAD if after == MANY_BAD else None)
    return await _within(held, batch, isolated, "ROLLBACK TO SAVEPOINT batch", "SAVEPOINT records")


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
        result = await close_batch(session, batch, result)
        if not result.finished:
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
