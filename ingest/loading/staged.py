"""staged: the batch's bytes go unparsed into a staging table, and one statement judges them and makes rows of them.

For datasets with rules, formats, keys or several targets; and for any batch that a plain COPY could not take whole. All
faults of a record are found at once. Three steps, each for what the one before could not do:

    raw      the bytes as they are; COPY reads the columns whose texts need no reading of ours, the others are texts
    screened malformed records are left out first, which takes a look at every record
    halved   what only inserting finds out fails the statement: it is run for halves until such a record stands alone
"""

from __future__ import annotations

from ingest.batch import Batch, BatchResult
from ingest.database import CopyResult, Session
from ingest.errors import RowError
from ingest.loading.direct import too_many
from ingest.loading.judging import Staging
from ingest.loading.merging import Merging, plan_of
from ingest.loading.reasons import MANY_BAD
from ingest.loading.screening import MAX_RECORDS, has_moving_dates, may_stage, records_of, screened
from ingest.loading.shape import Shape, shape_of
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, Skipped, skipped_records
from ingest.loading.staging import (
    copy_options,
    prepare_staging,
    prepare_typed_staging,
    stage_those_that_fit,
    staging_table,
    typed_staging_table,
)
from ingest.reject import Reject

# Sorting and grouping a batch stays in memory; compiling a statement costs more than it saves on one batch.
SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"


async def stage_whole(session: Session, batch: Batch, opening: str) -> Merging:
    """Stage a batch by its dataset's plan, for `Merging.whole`. Raises RowError when the batch has to be isolated.

    What COPY refuses is judged here, but nothing is merged: no row of a table is locked.
    """
    moving_dates = has_moving_dates(batch)
    shape = None if moving_dates else _shape(session, batch)
    return await _staged(
        session, batch, f"{opening}; {SETTINGS}", shape, MAX_RECORDS, moving_dates=moving_dates, thorough=False
    )


async def copy_raw(session: Session, batch: Batch, room: int, *, expecting: bool, thorough: bool) -> BatchResult:
    """Stage the bytes as they are and merge them. Raises RowError when they are not well-formed.

    A record whose key is taken is a reject and does not fail the statement. `expecting`: many values are bad; then
    they are judged by the statement, since COPY tells of each in a notice, which costs more. `thorough`: so are
    references.
    """
    moving_dates = has_moving_dates(batch)
    shape = None if moving_dates or expecting else _shape(session, batch)
    merging = await _staged(session, batch, SETTINGS, shape, room, moving_dates=moving_dates, thorough=thorough)
    return await merging.isolated()


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
        session, batch, staging, staged=len(sound) - len(too_wide), highest=sound[-1][0], room=room,
        rejects=broken, rejected=malformed,
    )  # fmt: skip
    return await merging.halved(too_wide)


def _shape(session: Session, batch: Batch) -> Shape | None:
    """Return the shape of a batch's staging table; all texts where one bad value would fail the COPY."""
    return shape_of(batch.chunk.spec, plan_of(batch)) if session.server_major >= SKIPS_BAD_VALUES_SINCE else None


async def _staged(
    session: Session, batch: Batch, opening: str, shape: Shape | None, room: int,
    *, moving_dates: bool, thorough: bool,
) -> Merging:  # fmt: skip
    """Stage the bytes as they are, in a table of a shape."""
    if not may_stage(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    width = len(batch.chunk.spec.columns)
    table = staging_table(width)[0] if shape is None else typed_staging_table(shape.types)[0]
    prepare = prepare_staging(width) if shape is None else prepare_typed_staging(shape.types)
    copied = await session.copy(f"{opening}; {prepare}; {_copy(batch, shape)}", batch.data)
    skipped, rejects = await _skipped(session, batch, copied, room)
    if copied.rows + len(skipped) != batch.range.records:
        raise RowError(f"COPY read {copied.rows} of {batch.range.records} records", sqlstate="22P04")
    staging = Staging(
        table=table, server_major=session.server_major, values=shape.values if shape else None,
        moving_dates=moving_dates, thorough=thorough,
    )  # fmt: skip
    highest = await session.value(f"SELECT max(ordinal) FROM {table}") if skipped else copied.rows - 1
    # Before PostgreSQL 18 a skipped record takes no number; if none of the others seems to have one, nobody is misled.
    gone = skipped if highest == copied.rows - 1 else ()
    return Merging(
        session, batch, staging, staged=copied.rows, highest=highest or 0, room=room,
        rejects=rejects, rejected=len(skipped), gone=gone,
    )  # fmt: skip


def _copy(batch: Batch, shape: Shape | None) -> str:
    """Return the COPY into a staging table of a shape."""
    spec = batch.chunk.spec
    options = copy_options(spec.dialect)
    if shape is None:
        table, names = staging_table(len(spec.columns))
        return f"COPY {table} ({names}) FROM STDIN ({options})"
    table, names = typed_staging_table(shape.types)
    if shape.nulls:
        options += f", FORCE_NULL ({', '.join(f'c{place + 1}' for place in sorted(shape.nulls))})"
    return f"COPY {table} ({names}) FROM STDIN ({options}, ON_ERROR ignore, LOG_VERBOSITY verbose)"


async def _skipped(session: Session, batch: Batch, copied: CopyResult, room: int) -> tuple[list[int], list[Reject]]:
    """Return the numbers of the records that COPY refused, and all that is wrong with each of the first `room`.

    Raises RowError when a plan makes something of one of them after all, or when they are many.
    """
    spec = batch.chunk.spec
    if spec.plan is None or not copied.notices:
        return await skipped_records(session, batch, copied, room)
    skipped = Skipped(batch, copied)
    if too_many(len(skipped.numbers), batch.range.records):
        raise RowError("COPY refused many of the records", sqlstate=MANY_BAD)
    numbers, where = skipped.first(len(skipped.numbers))
    places = zip(numbers, where.start.tolist(), where.end.tolist(), strict=True)
    if await stage_those_that_fit(session, spec, [(i, batch.data[start:end]) for i, start, end in places]):
        raise RowError("COPY refused a record that is too wide", sqlstate="54000")
    staging = Staging(table=staging_table(len(spec.columns))[0], server_major=session.server_major)
    merging = Merging(session, batch, staging, staged=len(numbers), highest=numbers[-1], room=room)
    return numbers, await merging.judged()
