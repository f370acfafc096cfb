"""direct: the batch's bytes go unparsed into COPY, so there is one truth about types: PostgreSQL's.

From PostgreSQL 17 on, values that their type refuses cost nothing extra: COPY skips the record (ON_ERROR ignore) and
names its line in a notice; the named records are then explained. Anything else that is wrong fails the COPY.
"""

from __future__ import annotations

from ingest.batch import Batch, BatchResult
from ingest.database import Session, column_list
from ingest.errors import AccountingError, RowError
from ingest.loading.screening import may_copy
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, skipped_records
from ingest.loading.staging import copy_options, target
from ingest.statements import statement


async def copy_direct(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Copy a batch's bytes into its table. Raises RowError when the batch has to be isolated."""
    if not may_copy(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    spec = batch.chunk.spec
    skip = ", ON_ERROR ignore, LOG_VERBOSITY verbose" if session.server_major >= SKIPS_BAD_VALUES_SINCE else ""
    names = column_list([column.name for column in spec.columns])
    copied = await session.copy(
        f"{opening}; COPY {target(spec)} ({names}) FROM STDIN ({copy_options(spec.dialect)}{skip})", batch.data
    )
    if copied.rows == batch.range.records:
        return BatchResult(inserted=copied.rows)
    skipped, rejects = await skipped_records(session, batch, copied)
    rejected = len(skipped)
    dropped = batch.range.records - copied.rows - rejected
    if dropped and not await session.value(statement("may_drop_rows"), target(spec)):
        raise AccountingError(f"COPY took {copied.rows} of {batch.range.records} records and named {rejected}")
    return BatchResult(inserted=copied.rows, skipped=dropped, rejected=rejected, rejects=tuple(rejects))
