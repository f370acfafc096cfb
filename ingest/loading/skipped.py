"""The records that a COPY with ON_ERROR ignore has skipped: which they are by its notices, and why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ingest.batch import Batch
from ingest.database import CopyResult, Notice, Session
from ingest.errors import RowError
from ingest.loading.fields import fields
from ingest.loading.reasons import Reason
from ingest.loading.screening import records_of, reject_of
from ingest.reject import Reject
from ingest.splitter import Records
from ingest.statements import statement

Lines = np.ndarray[tuple[int], np.dtype[np.int64]]

SKIPS_BAD_VALUES_SINCE = 17
NEWLINE = 10
NUMBER = re.compile(r"\d+")


async def skipped_records(session: Session, batch: Batch, copied: CopyResult) -> tuple[list[int], list[Reject]]:
    """Return the numbers of the records that COPY skipped, from 0, and why: one reject or more for each.

    Raises RowError when the notices do not tell.
    """
    if not copied.notices:
        return [], []
    if _is_one_line_each(batch):
        where = _lines_of(batch)
        skipped = _named_records(copied.notices, np.arange(1, where.start.size + 1))
    else:
        where = records_of(batch)
        skipped = _named_records(copied.notices, _copy_lines(batch.data, where))
    reasons = await _explained(session, batch, where, skipped)
    if set(reasons) != set(skipped):
        raise RowError("COPY skipped a record for a reason that cannot be told apart", sqlstate="22P04")
    return skipped, [_reject(batch, where, i, reason) for i in skipped for reason in reasons[i]]


def _is_one_line_each(batch: Batch) -> bool:
    """Tell whether every line is a record, also in COPY's eyes, to which a CR may be a line end."""
    return batch.range.lines == batch.range.records and b"\r" not in batch.data


def _lines_of(batch: Batch) -> Records:
    """Return what `records_of` does but for the fields, at a tenth of the cost, where every line is a record."""
    ends = np.flatnonzero(np.frombuffer(batch.data, np.uint8) == NEWLINE)
    if not ends.size or ends[-1] != len(batch.data) - 1:
        ends = np.append(ends, len(batch.data))
    start = np.concatenate(([0], ends[:-1] + 1))
    lines = batch.range.first_line + np.arange(ends.size)
    return Records(start=start, end=ends, line=lines, fields=np.zeros_like(lines))


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


async def _explained(session: Session, batch: Batch, where: Records, skipped: Sequence[int]) -> dict[int, list[Reason]]:
    """Ask PostgreSQL about every text of the skipped records; those of some types it can only be asked one by one."""
    columns = batch.chunk.spec.columns
    ordinals: list[int] = []
    places: list[int] = []
    texts: list[str | None] = []
    for i in skipped:
        values = fields(batch.data[where.start[i] : where.end[i]], batch.chunk.spec.dialect)
        ordinals += [i] * len(values)
        places += range(1, len(values) + 1)
        texts += [None if value is None else value.decode() for value in values]
    asked = (ordinals, places, texts, batch.chunk.spec.types)
    rows = await session.attempt(lambda s: s.fetch(statement("refused_texts"), *asked))
    known = {row["ordinal"] for row in rows or ()}
    if not known.issuperset(skipped):
        rows = await session.fetch(statement("refused_texts_one_by_one"), *asked)
    found: dict[int, list[Reason]] = defaultdict(list)
    for row in rows or ():
        column = columns[row["place"] - 1].name
        reason = Reason(ordinal=row["ordinal"], sqlstate=row["sql_state"], message=row["message"], columns=column)
        found[row["ordinal"]].append(reason)
    return found


def _copy_lines(data: bytes, where: Records) -> Lines:
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


def _named_records(notices: Sequence[Notice], copy_lines: Lines) -> list[int]:
    """Return the numbers of the records that COPY's notices name.

    Notices are localised, so only their numbers are read: the first that is a record's line. The last notice counts
    the skipped records. Raises RowError when the two do not fit.
    """
    *named, summary = (notice.message for notice in notices)
    found = [_record_named(message, copy_lines) for message in named]
    count = NUMBER.search(summary)
    if -1 in found or len(set(found)) != len(named) or count is None or int(count[0]) != len(named):
        raise RowError("COPY's notices do not tell which records it skipped", sqlstate="22P04")
    return sorted(found)


def _record_named(message: str, copy_lines: Lines) -> int:
    """Return the number of the record that a notice names, -1 for none."""
    for number in NUMBER.findall(message):
        i = int(np.searchsorted(copy_lines, int(number)))
        if i < copy_lines.size and copy_lines[i] == int(number):
            return i
    return -1
