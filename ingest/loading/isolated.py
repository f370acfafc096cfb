"""isolated: find every record of a batch that cannot be loaded, alone, and load all the others.

Malformed records are found without the database; the rest is staged, values that their types refuse are found by one
statement (PostgreSQL 16 and newer), and what still fails is halved under savepoints until it stands alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ingest.batch import Batch, BatchResult
from ingest.database import Session
from ingest.errors import AccountingError
from ingest.loading.reasons import Reason
from ingest.loading.screening import records_of, reject_of, screened
from ingest.loading.staging import (
    Staged,
    explain_values,
    insert_each,
    moving_dates,
    refused_values,
    stage_those_that_fit,
    target,
)
from ingest.reject import Reject
from ingest.splitter import Records
from ingest.statements import statement


async def insert_isolated(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load the good records of a batch by INSERT and return the others as rejects."""
    await session.execute(opening)
    where = records_of(batch)
    broken, sound = screened(batch, where)
    inserted, reasons = await _insert(session, batch, sound) if sound else (0, [])
    rejects = broken + [_reject(batch, where, reason) for reason in reasons]
    rejects.sort(key=lambda reject: reject.byte_offset)
    refused = len({reason.ordinal for reason in reasons})
    dropped = len(sound) - inserted - refused
    if dropped and not await session.value(statement("may_drop_rows"), target(batch.chunk.spec)):
        raise AccountingError(f"{inserted} of {len(sound)} records were inserted and {refused} refused")
    return BatchResult(inserted=inserted, skipped=dropped, rejected=len(broken) + refused, rejects=tuple(rejects))


async def _insert(session: Session, batch: Batch, sound: Sequence[tuple[int, bytes]]) -> tuple[int, list[Reason]]:
    staged, reasons = await stage_those_that_fit(session, batch.chunk.spec, sound)
    reasons += await moving_dates(session, staged) + await refused_values(session, staged)
    if reasons:
        known = list({reason.ordinal for reason in reasons})
        await session.execute(f"DELETE FROM {staged.table} WHERE ordinal = ANY ($1)", known)
    inserted, refused = await insert_each(session, staged, sound[-1][0])
    return inserted, reasons + await _with_columns(session, staged, refused)


async def _with_columns(session: Session, staged: Staged, refused: list[Reason]) -> list[Reason]:
    """Name the columns of refused values where the INSERT could not: errors of types and domains carry no column."""
    nameless = [reason.ordinal for reason in refused if reason.columns is None and reason.is_about_a_value]
    if not nameless:
        return refused
    named = await explain_values(session, staged, nameless)
    explained = {reason.ordinal for reason in named}
    return named + [reason for reason in refused if reason.ordinal not in explained]


def _reject(batch: Batch, where: Records, reason: Reason) -> Reject:
    start = int(where.start[reason.ordinal])
    return reject_of(
        batch,
        line=int(where.line[reason.ordinal]),
        start=start,
        record=batch.data[start : int(where.end[reason.ordinal])],
        code=reason.code,
        message=reason.sentence(),
        column=reason.columns,
        sqlstate=reason.sqlstate,
    )
