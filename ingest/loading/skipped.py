"""The records that a COPY with ON_ERROR ignore has skipped: which they are by its notices, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ingest.batch import Batch
from ingest.database import CopyResult, Notice, Record, Session
from ingest.errors import RowError
from ingest.loading.asking import refused_texts
from ingest.loading.fields import fields
from ingest.loading.locating import is_one_line_each, located
from ingest.loading.reasons import Reason
from ingest.loading.screening import reject_with
from ingest.reading.records import Records
from ingest.reject import Reject

Lines = np.ndarray[tuple[int], np.dtype[np.int64]]

SKIPS_BAD_VALUES_SINCE = 17
NUMBER = re.compile(r"\d+")
DIGITS = 18  # a number with as many is no line of a batch, and may not fit a machine word


async def skipped_records(
    session: Session, batch: Batch, copied: CopyResult, room: int, sent: Lines | None = None
) -> tuple[list[int], list[Reject]]:
    """Return the numbers of the records that COPY skipped, from 0; and why, one reject or more for the first `room`.

    `sent`: the numbers of the records that COPY was given, each a line, if not all were. Raises RowError when the
    notices do not tell.
    """
    if not copied.notices:
        return [], []
    where = located(batch)
    one_line_each = sent is not None or is_one_line_each(batch)
    lines = np.arange(1, where.start.size + 1) if one_line_each else _copy_lines(batch.data, where)
    skipped = _named_records(copied.notices, lines)
    if sent is not None:
        skipped = sent[skipped].tolist()
    return skipped, await _explained(session, batch, where, skipped[:room])


async def _explained(session: Session, batch: Batch, where: Records, skipped: Sequence[int]) -> list[Reject]:
    spec = batch.chunk.spec
    values = {i: fields(batch.data[where.start[i] : where.end[i]], spec.dialect) for i in skipped}
    if any(len(found) != len(spec.columns) for found in values.values()):
        raise RowError("COPY skipped a record with another number of fields", sqlstate="22P04")
    texts = [(i, [None if v is None else v.decode() for v in found]) for i, found in values.items()]
    rows = await refused_texts(session, spec.types, texts) if texts else []
    if {row["ordinal"] for row in rows} != set(skipped):
        raise RowError("COPY skipped a record for a reason that cannot be told apart", sqlstate="22P04")
    by_number = dict(texts)
    rows.sort(key=lambda row: (row["ordinal"], row["place"]))
    return [_reject(batch, where, row, by_number[row["ordinal"]][row["place"] - 1]) for row in rows]


def _reject(batch: Batch, where: Records, row: Record, value: str | None) -> Reject:
    """Return the reject for a text that its type refuses."""
    i, column = row["ordinal"], batch.chunk.spec.columns[row["place"] - 1].name
    reason = Reason(ordinal=i, sqlstate=row["sql_state"], message=row["message"], columns=column)
    start = int(where.start[i])
    return reject_with(
        batch,
        line=int(where.line[i]),
        start=start,
        record=batch.data[start : where.end[i]],
        code=reason.code,
        message=reason.sentence(),
        column=column,
        sqlstate=reason.sqlstate,
        value=value,
    )


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
    """Return the numbers of the records that COPY's notices name, in their order.

    Notices are localised, so only their numbers are read: the first that is a record's line. The last notice counts
    the skipped records. Raises RowError when the two do not fit.
    """
    *named, summary = (notice.message for notice in notices)
    found = _first_named(named, copy_lines)
    count = NUMBER.search(summary)
    if -1 in found or len(set(found)) != len(named) or count is None or int(count[0]) != len(named):
        raise RowError("COPY's notices do not tell which records it skipped", sqlstate="22P04")
    return sorted(found)


def _first_named(messages: Sequence[str], copy_lines: Lines) -> list[int]:
    """Return the number of the record that each message names, -1 for none; nearly always its first number does."""
    firsts = [NUMBER.search(message) for message in messages]
    numbers = np.array([_small(first[0]) if first else 0 for first in firsts], np.int64)
    found = np.minimum(np.searchsorted(copy_lines, numbers), copy_lines.size - 1)
    is_line = (copy_lines[found] == numbers).tolist()
    pairs = zip(messages, found.tolist(), is_line, strict=True)
    return [i if named else _record_named(message, copy_lines) for message, i, named in pairs]


def _small(digits: str) -> int:
    return int(digits) if len(digits) < DIGITS else 0


def _record_named(message: str, copy_lines: Lines) -> int:
    """Return the number of the record that a message names, -1 for none."""
    for digits in NUMBER.findall(message):
        i = int(np.searchsorted(copy_lines, _small(digits)))
        if i < copy_lines.size and copy_lines[i] == int(digits):
            return i
    return -1
