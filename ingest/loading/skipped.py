"""The records that a COPY with ON_ERROR ignore has skipped: which they are by its notices, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from ingest.batch import Batch
from ingest.database import CopyResult, Notice, Session
from ingest.errors import RowError
from ingest.loading.asking import refused_texts
from ingest.loading.fields import texts_of
from ingest.loading.locating import is_one_line_each, located_some
from ingest.loading.reasons import refused_value
from ingest.loading.screening import records_of, reject_with
from ingest.reading.records import Records
from ingest.reject import Reject

Lines = np.ndarray[tuple[int], np.dtype[np.int64]]

SKIPS_BAD_VALUES_SINCE = 17
# A number that fits a machine word; a longer one is no line of a batch.
NUMBER = re.compile(r"(?<!\d)\d{1,17}(?!\d)")


class Skipped:
    """The records that COPY skipped, by their numbers in the batch, from 0."""

    def __init__(self, batch: Batch, copied: CopyResult, sent: Lines | None = None) -> None:
        """Read the notices of a COPY. Raises RowError when they do not tell.

        `sent`: the numbers of the records that COPY was given, each a line, if not all were.
        """
        self._batch = batch
        self._where = None if not copied.notices or is_one_line_each(batch) else records_of(batch)
        self.numbers = self._named(copied.notices, sent) if copied.notices else []

    def _named(self, notices: Sequence[Notice], sent: Lines | None) -> list[int]:
        if self._where is None or sent is not None:
            lines = np.arange(1, (self._batch.range.records if sent is None else sent.size) + 1)
        else:
            lines = _copy_lines(self._batch.data, self._where)
        found = _named_records(notices, lines)
        return found if sent is None else sent[found].tolist()

    def first(self, room: int) -> tuple[list[int], Records]:
        """Return the first `room` of them, and where they are."""
        kept = self.numbers[:room]
        return kept, located_some(self._batch, kept, self._where)


async def skipped_records(
    session: Session, batch: Batch, copied: CopyResult, room: int, sent: Lines | None = None
) -> tuple[list[int], list[Reject]]:
    """Return the numbers of the records that COPY skipped, and why, one reject or more for the first `room`.

    Raises RowError as `Skipped`, and when PostgreSQL cannot tell why.
    """
    skipped = Skipped(batch, copied, sent)
    if not skipped.numbers:
        return [], []
    kept, where = skipped.first(room)
    return skipped.numbers, await _explained(session, batch, kept, where)


async def _explained(session: Session, batch: Batch, skipped: Sequence[int], where: Records) -> list[Reject]:
    """Return the rejects of skipped records, `where` they are."""
    if not skipped:
        return []
    spec = batch.chunk.spec
    starts = where.start.tolist()
    records = [batch.data[start:end] for start, end in zip(starts, where.end.tolist(), strict=True)]
    values = texts_of(records, spec.dialect)
    if set(map(len, values)) != {len(spec.columns)}:
        raise RowError("COPY skipped a record with another number of fields", sqlstate="22P04")
    rows = await refused_texts(session, spec.types, values)
    if len({row["ordinal"] for row in rows}) != len(records):
        raise RowError("COPY skipped a record for a reason that cannot be told apart", sqlstate="22P04")
    rows.sort(key=itemgetter("ordinal", "place"))
    places = list(zip(where.line.tolist(), starts, records, strict=True))
    names = [column.name for column in spec.columns]
    rejects = []
    for ordinal, place, sqlstate, message in rows:
        column, value = names[place - 1], values[ordinal][place - 1]
        code, sentence = refused_value(sqlstate, message, column)
        line, start, record = places[ordinal]
        rejects.append(reject_with(batch, line, start, record, code, sentence, column, sqlstate, value))
    return rejects


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
    firsts = map(NUMBER.search, messages)
    numbers = np.array([int(first[0]) if first else 0 for first in firsts], np.int64)
    found = np.minimum(np.searchsorted(copy_lines, numbers), copy_lines.size - 1)
    is_line = (copy_lines[found] == numbers).tolist()
    pairs = zip(messages, found.tolist(), is_line, strict=True)
    return [i if named else _record_named(message, copy_lines) for message, i, named in pairs]


def _record_named(message: str, copy_lines: Lines) -> int:
    """Return the number of the record that a message names, -1 for none."""
    for digits in NUMBER.findall(message):
        i = int(np.searchsorted(copy_lines, int(digits)))
        if i < copy_lines.size and copy_lines[i] == int(digits):
            return i
    return -1
