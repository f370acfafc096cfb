"""direct: the batch's bytes go unparsed into COPY, so there is one truth about types: PostgreSQL's.

From PostgreSQL 17 on, values that their type refuses cost nothing extra: COPY skips the record (ON_ERROR ignore) and
names its line in a notice; the named records are then explained. Anything else that is wrong fails the COPY.
"""

from __future__ import annotations

from ingest.batch import Batch, BatchResult
from ingest.database import CopyResult, Session, column_list
from ingest.errors import AccountingError, RowError
from ingest.loading.screening import may_copy
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, Lines, skipped_records
from ingest.loading.staging import copy_options, room_for_rejects, target
from ingest.spec import LoadSpec
from ingest.statements import statement

# From here on COPY can be told to give up on a batch that is mostly bad: a notice for each record costs too much.
GIVES_UP_SINCE = 18
# The share of bad records in a batch that makes it one, and lets one expect the same of the next; so many cost little.
MANY, FEW = 0.1, 500


async def copy_direct(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Copy a batch's bytes into its table. Raises RowError when the batch has to be isolated."""
    if not may_copy(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    spec = batch.chunk.spec
    copied = await session.copy(
        f"{opening}; {copy_statement(spec, batch.range.records, session.server_major)}", batch.data
    )
    if copied.rows == batch.range.records:
        return BatchResult(inserted=copied.rows)
    session.leave_slot()
    # Of a few all are explained, whether or not all are stored.
    few = len(copied.notices) <= FEW
    room = len(copied.notices) if few else await room_for_rejects(session, batch)
    return await result_of(session, batch, copied, room)


async def result_of(
    session: Session, batch: Batch, copied: CopyResult, room: int, sent: Lines | None = None
) -> BatchResult:
    """Return what a COPY into the batch's table made of it, or of the records with the numbers `sent`.

    Rows that a trigger drops are skipped ones. Raises AccountingError, and RowError when the notices do not tell.
    """
    records = batch.range.records if sent is None else sent.size
    skipped, rejects = await skipped_records(session, batch, copied, room, sent)
    dropped = records - copied.rows - len(skipped)
    if dropped and not await session.value(statement("may_drop_rows"), target(batch.chunk.spec)):
        raise AccountingError(f"COPY took {copied.rows} of {records} records and named {len(skipped)}")
    return BatchResult(inserted=copied.rows, skipped=dropped, rejected=len(skipped), rejects=tuple(rejects))


def copy_statement(spec: LoadSpec, records: int, server_major: int) -> str:
    """Return the COPY of so many records into the table, which passes over some bad values where the server can."""
    skip = ", ON_ERROR ignore, LOG_VERBOSITY verbose" if server_major >= SKIPS_BAD_VALUES_SINCE else ""
    limit = f", REJECT_LIMIT {max(FEW, int(records * MANY))}" if server_major >= GIVES_UP_SINCE else ""
    names = column_list([column.name for column in spec.columns])
    return f"COPY {target(spec)} ({names}) FROM STDIN ({copy_options(spec.dialect)}{skip}{limit})"


def too_many(bad: int, records: int) -> bool:
    """Tell whether so many records of a batch are bad that the same is expected of the next."""
    return bad > max(FEW, MANY * records)
