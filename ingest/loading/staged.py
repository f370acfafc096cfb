"""staged: the batch's bytes go unparsed into a staging table, and one statement judges them and makes rows of them.

For datasets with rules, formats, keys or several targets; and for any batch that a plain COPY could not take whole. All
faults of a record are found at once. Three steps, each for what the one before could not do:

    raw      the bytes as they are; a typed staging table where the texts need no reading of ours, else one of texts
    screened malformed records are left out first, which takes a look at every record
    halved   what only inserting finds out fails the statement: it is run for halves until such a record stands alone
"""

from __future__ import annotations

from ingest.batch import Batch, BatchResult
from ingest.database import Session
from ingest.errors import RowError
from ingest.loading.judging import Staging
from ingest.loading.merging import Merging, plan_of
from ingest.loading.screening import MAX_RECORDS, has_moving_dates, may_stage, records_of, screened
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, skipped_records
from ingest.loading.staging import (
    copy_options,
    prepare_staging,
    prepare_typed_staging,
    stage_those_that_fit,
    staging_table,
    typed_staging_table,
)

# Sorting and grouping a batch stays in memory; compiling a statement costs more than it saves on one batch.
SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"


async def copy_staged(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load a batch by its dataset's plan. Raises RowError when the batch has to be isolated."""
    return await copy_raw(session, batch, opening, isolating=False)


async def copy_raw(
    session: Session,
    batch: Batch,
    opening: str,
    *,
    isolating: bool,
    expecting: bool = False,
    room: int = MAX_RECORDS,
) -> BatchResult:
    """Stage the bytes as they are and merge them. Raises RowError when they are not well-formed.

    `isolating`: a record whose key is taken is a reject and does not fail the statement. `expecting`: many values are
    bad; then they are judged by the statement, since COPY tells of each in a notice, which costs more.
    """
    if not may_stage(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    moving_dates = has_moving_dates(batch)
    typed = plan_of(batch).is_plain and not (moving_dates or expecting) and _skips_bad_values(session)
    types = batch.chunk.spec.types
    prepare = prepare_typed_staging(types) if typed else prepare_staging(len(types))
    table, names = typed_staging_table(types) if typed else staging_table(len(types))
    options = copy_options(batch.chunk.spec.dialect) + (", ON_ERROR ignore, LOG_VERBOSITY verbose" if typed else "")
    copied = await session.copy(
        f"{opening}; {SETTINGS}; {prepare}; COPY {table} ({names}) FROM STDIN ({options})", batch.data
    )
    skipped, rejects = await skipped_records(session, batch, copied, room) if typed else ([], [])
    if copied.rows + len(skipped) != batch.range.records:
        raise RowError(f"COPY read {copied.rows} of {batch.range.records} records", sqlstate="22P04")
    staging = Staging(
        table=table, server_major=session.server_major, typed=typed, moving_dates=moving_dates, thorough=isolating
    )
    highest = await session.value(f"SELECT max(ordinal) FROM {table}") if skipped else copied.rows - 1
    # Before PostgreSQL 18 a skipped record takes no number; if none of the others seems to have one, nobody is misled.
    gone = skipped if highest == copied.rows - 1 else ()
    merging = Merging(
        session, batch, staging, staged=copied.rows, room=room, rejects=rejects, rejected=len(skipped), gone=gone
    )
    return await merging.whole(highest or 0, isolating=isolating)


async def copy_screened(session: Session, batch: Batch, room: int) -> BatchResult:
    """Stage the well-formed records and merge them, halving where that fails."""
    await session.execute(SETTINGS)
    broken, sound = await session.aside(lambda: screened(batch, records_of(batch), room))
    malformed = batch.range.records - len(sound)
    if not sound:
        return BatchResult(rejected=malformed, rejects=tuple(broken))
    too_wide = await stage_those_that_fit(session, batch.chunk.spec, sound)
    staging = Staging(
        table=staging_table(len(batch.chunk.spec.columns))[0],
        server_major=session.server_major,
        moving_dates=has_moving_dates(batch),
        thorough=True,
    )
    merging = Merging(
        session, batch, staging, staged=len(sound) - len(too_wide), room=room, rejects=broken, rejected=malformed
    )
    return await merging.halved(sound[-1][0], too_wide)


def _skips_bad_values(session: Session) -> bool:
    return session.server_major >= SKIPS_BAD_VALUES_SINCE
