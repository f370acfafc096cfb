"""Loading: the ways to bring a batch into its targets, each inside one transaction with rejects and ledger line.

    direct     no plan: the batch's bytes go unparsed into COPY; PostgreSQL is the validator
    skipped    the records that such a COPY skipped, and why
    staged     a plan: staged, judged and merged by one statement, halved where it fails
    behind     a batch behind the end of the table: all of it is rejected
    isolated   a batch that is not clean, by the cheapest of these that can do it:
    sifted     direct for the records whose keys are free, staged for the others
    strained   direct for the records that are well-formed
    keys       a batch's bytes -> the key columns of its records
    merging    the merge of staged records, and what became of each
    staging    the temporary tables for that
    shape      which of their columns hold values
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
    taken      texts that a type takes for certain
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
from ingest.loading.behind import reject_behind
from ingest.loading.direct import MANY, copy_direct
from ingest.loading.isolated import isolate
from ingest.loading.merging import plan_of
from ingest.loading.reading import readable
from ingest.loading.reasons import BROKEN_RULES, MANY_BAD, REPEATED_KEY, TAKEN_KEY
from ingest.loading.screening import screen
from ingest.loading.shape import shape_of
from ingest.loading.staged import stage_whole
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
    "screen",
    "way_of",
    "write_rejects",
]

# Brings a batch in, up to its rejects and its line in the ledger.
Way = Callable[[Session], Awaitable[BatchResult]]
# Waits, in Trio, until all batches before have been settled.
Turn = Callable[[], Awaitable[None]]


async def load_whole(database: Database, batch: Batch, turn: Turn | None = None) -> BatchResult:
    """Load a batch by one COPY. Raises RowError when a record is in the way; then `load_isolated` finds it.

    A batch that is staged awaits its `turn` between COPY and merge, holding no lock, and raises what that raises.
    Raises LeaseLost, AlreadyCommitted, ConflictError, UnavailableError, PermanentError; after each of them, and after
    cancellation, the batch is wholly in (the ledger says so) or not at all.
    """
    batch = await readable(batch)
    return await _load(database, batch, partial(_whole, batch=batch, opening=begin(batch), turn=turn))


async def load_isolated(database: Database, batch: Batch, *, after: str | None = None) -> BatchResult:
    """Load every good record of a batch, the others go to the rejects. Raises as `load_whole`, but no RowError.

    `after`: the SQLSTATE with which `load_whole` failed, or what `expected_after` the batch before.
    """
    batch = await readable(batch, leniently=True)
    return await _load(database, batch, partial(_isolated, batch=batch, opening=begin(batch), after=after))


def expected_after(batch: Batch, result: BatchResult, failed: str | None) -> str | None:
    """Return the SQLSTATE that is likely to keep the next batch from being loaded whole, None for none.

    `failed`: the one that kept this batch from it; None if that was expected, or did not happen.
    """
    if result.rejected > MANY * batch.range.records or (failed == MANY_BAD and batch.chunk.spec.plan):
        return MANY_BAD
    if result.repeated:
        return REPEATED_KEY
    states = {reject.sqlstate for reject in result.rejects}
    return next((state for state in (TAKEN_KEY, *BROKEN_RULES) if state in states), None)


async def load_within(held: Held, batch: Batch) -> BatchResult:
    """Load a batch by one COPY inside the open transaction of `held`; rejects and counts are the caller's.

    Raises RowError when a record is in the way; then `isolate_within` must follow. Raises ConflictError,
    UnavailableError, PermanentError: then the transaction cannot go on.
    """
    batch = await readable(batch)
    way = partial(_whole, batch=batch, opening="SET CONSTRAINTS ALL IMMEDIATE", turn=None)
    return await _within(held, batch, way, "SAVEPOINT batch")


async def isolate_within(held: Held, batch: Batch, *, after: str | None) -> BatchResult:
    """Load every good record of a batch that `load_within` could not take whole, because of the SQLSTATE `after`.

    Raises as that, but no RowError.
    """
    # Not sifted: its staging tables would have to be emptied for each batch, too.
    batch = await readable(batch, leniently=True)
    way = partial(_isolated, batch=batch, opening="SAVEPOINT records", after=None if after == TAKEN_KEY else after)
    return await _within(held, batch, way, "ROLLBACK TO SAVEPOINT batch")


def way_of(batch: Batch) -> WayName:
    """Return the name of the way by which a batch is tried first."""
    return "staged" if batch.chunk.spec.plan else "direct"


async def _whole(session: Session, batch: Batch, opening: str, turn: Turn | None) -> BatchResult:
    if batch.range.behind:
        return await reject_behind(session, batch, opening)
    if batch.chunk.spec.plan is None:
        async with session.slot():
            return await copy_direct(session, batch, opening)
    async with session.slot():
        merging = await stage_whole(session, batch, opening)
    if turn is not None:
        await session.outside(turn)
    async with session.slot():
        return await merging.whole()


async def _isolated(session: Session, batch: Batch, opening: str, after: str | None) -> BatchResult:
    if batch.range.behind:
        return await reject_behind(session, batch, opening)
    async with session.slot():
        return await isolate(session, batch, opening, after=after)


async def _load(database: Database, batch: Batch, way: Way) -> BatchResult:
    async def unit(session: Session) -> BatchResult:
        # The slot is left before the last two round trips: another writer's COPY fills the time they take.
        result = await close_batch(session, batch, await way(session))
        if not result.finished:
            await session.commit()
        return result

    return await database.run(unit)


async def _within(held: Held, batch: Batch, way: Way, first: str) -> BatchResult:
    spec = batch.chunk.spec
    shape = shape_of(spec, plan_of(batch))
    emptied = empty_staging(len(spec.columns), shape.types if shape else None)

    async def unit(session: Session) -> BatchResult:
        await session.execute(first)
        result = await way(session)
        # Staging tables are emptied by COMMIT; here that is far away.
        await session.execute(f"RELEASE SAVEPOINT batch; {emptied}")
        return result

    return await held.run(unit)
