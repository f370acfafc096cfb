"""direct: the batch's bytes go unparsed into COPY, so there is one truth about types: PostgreSQL's.

From PostgreSQL 17 on, values that their type refuses cost nothing extra: COPY skips the record (ON_ERROR ignore) and
names its line in a notice; the named records are then explained. Anything else that is wrong fails the COPY.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ingest.batch import Batch, BatchResult
from ingest.database import CopyResult, Notice, Session, column_list
from ingest.errors import AccountingError, RowError
from ingest.loading.reasons import Reason
from ingest.loading.screening import may_copy, records_of, reject_of
from ingest.loading.staging import copy_options, explain_values, refused_values, stage, target
from ingest.reject import Reject
from ingest.splitter import Records
from ingest.statements import statement

SKIPS_BAD_VALUES_SINCE = 17
NUMBER = re.compile(r"\d+")


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
    rejects = await _explained(session, batch, copied)
    rejected = len({reject.line for reject in rejects})
    dropped = batch.range.records - copied.rows - rejected
    if dropped and not await session.value(statement("may_drop_rows"), target(spec)):
        raise AccountingError(f"COPY took {copied.rows} of {batch.range.records} records and named {rejected}")
    return BatchResult(inserted=copied.rows, skipped=dropped, rejected=rejected, rejects=tuple(rejects))


async def _explained(session: Session, batch: Batch, copied: CopyResult) -> list[Reject]:
    """Return the rejects for the records that COPY named. Raises RowError when the names cannot be made out."""
    if not copied.notices:
        return []
    where = records_of(batch)
    skipped = _skipped_records(copied.notices, _copy_lines(batch.data, where))
    raw = [(i, batch.data[where.start[i] : where.end[i]]) for i in skipped]
    staged = await stage(session, batch.chunk.spec, raw)
    reasons = _by_record(await refused_values(session, staged))
    unexplained = [i for i in skipped if i not in reasons]
    if unexplained:
        reasons |= _by_record(await explain_values(session, staged, unexplained))
    if set(reasons) != set(skipped):
        raise RowError("COPY skipped a record for a reason that cannot be told apart", sqlstate="22P04")
    return [_reject(batch, where, i, reason) for i in skipped for reason in reasons[i]]


def _reject(batch: Batch, where: Records, i: int, reason: Reason) -> Reject:
    start = int(where.start[i])
    return reject_of(
        batch,
        line=int(where.line[i]),
        start=start,
        record=batch.data[start : where.end[i]],
        code=reason.code,
        message=reason.sentence(),
        column=reason.columns,
        sqlstate=reason.sqlstate,
    )


def _by_record(reasons: Sequence[Reason]) -> dict[int, list[Reason]]:
    found: dict[int, list[Reason]] = defaultdict(list)
    for reason in reasons:
        found[reason.ordinal].append(reason)
    return found


def _copy_lines(data: bytes, where: Records) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the line number at which COPY reports each record.

    COPY counts one line a record and one more for each line end inside quotes, where a line end is a carriage return
    if the file's first one was (`CopyReadLineText`) or, in the first record, is not known yet. It reports a record by
    its last line.
    """
    end_of_first = int(where.end[0])
    end_byte = 13 if data[end_of_first : end_of_first + 1] == b"\r" else 10
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == end_byte)
    inside = np.searchsorted(ends, where.end) - np.searchsorted(ends, where.start)
    inside[0] = data.count(b"\r", 0, end_of_first)
    return np.cumsum(inside + 1)


def _skipped_records(notices: Sequence[Notice], copy_lines: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[int]:
    """Return the numbers of the records that COPY's notices name.

    Notices are localised, so only their numbers are read: the first that is a record's line. The last notice counts
    the skipped records. Raises RowError when the two do not fit.
    """
    *named, summary = (notice.message for notice in notices)
    record_at = {int(line): i for i, line in enumerate(copy_lines)}
    found = []
    for message in named:
        lines = (int(number) for number in NUMBER.findall(message))
        found.append(next((record_at[line] for line in lines if line in record_at), -1))
    count = NUMBER.search(summary)
    if -1 in found or len(set(found)) != len(named) or count is None or int(count[0]) != len(named):
        raise RowError("COPY's notices do not tell which records it skipped", sqlstate="22P04")
    return sorted(found)
