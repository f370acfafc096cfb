"""Loading: the ways to bring a batch into its targets, each inside one transaction with rejects and ledger line.

    direct    no plan: the batch's bytes go unparsed into COPY; PostgreSQL is the validator
    isolated  after direct has failed: every record that cannot be loaded is found alone, the others are loaded
    staged    a plan: the bytes go into a staging table, one statement makes rows of them; halved when it fails
    staging   temporary tables of well-formed records, shared by all three
    texts     a field of a plan -> SQL from a cell's text to a value, and the conditions that reject it
    merge     a plan -> the statement that judges staged records and merges the good ones
    screening malformed records (field count, encoding) and moving dates, found before PostgreSQL sees them
    patterns  the search for what COPY must not see
    fields    one record -> its fields, by COPY's rules
    reasons   SQLSTATE -> the reject's stable code and its sentence

`load_whole` and `load_isolated` are what writers call. A batch that is not in the ledger afterwards changed nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ingest.batch import Batch, BatchResult
from ingest.database import Database, Session
from ingest.loading.direct import copy_direct
from ingest.loading.isolated import insert_isolated
from ingest.loading.staged import copy_staged, isolate_staged
from ingest.loading.staging import write_rejects
from ingest.queue import commit_batch

__all__ = ["load_isolated", "load_whole"]


async def load_whole(database: Database, batch: Batch) -> BatchResult:
    """Load a batch by one COPY. Raises RowError when a record is in the way; then `load_isolated` finds it.

    Raises LeaseLost, AlreadyCommitted, ConflictError, UnavailableError, PermanentError; after each of them, and after
    cancellation, the batch is wholly in (the ledger says so) or not at all.
    """
    return await _load(database, batch, copy_staged if batch.chunk.spec.plan else copy_direct)


async def load_isolated(database: Database, batch: Batch) -> BatchResult:
    """Load every good record of a batch, the others go to the rejects. Raises as `load_whole`, but no RowError."""
    return await _load(database, batch, isolate_staged if batch.chunk.spec.plan else insert_isolated)


async def _load(
    database: Database, batch: Batch, way: Callable[[Session, Batch], Awaitable[BatchResult]]
) -> BatchResult:
    async def unit(session: Session) -> BatchResult:
        # The slot is left before the last two round trips: another writer's COPY fills the time they take.
        async with session.slot():
            result = await way(session, batch)
        await write_rejects(session, batch, result.rejects)
        await commit_batch(session, batch, result)
        await session.commit()
        return result

    return await database.run(unit)
