"""The records of a batch: where each of them begins and ends, found by the rules by which the file was cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.bits import CR, LF, BitSet, Octets, Offsets, find, span
from ingest.dialect import Dialect
from ingest.reading.marking import Edge, Marks, mark, signs_of
from ingest.reading.mending import Mender
from ingest.reading.strays import fences_of, stray_quotes


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a stretch of a file as parallel arrays: bytes [start, end) without the line end, first physical
    line, and fields (delimiters outside quotes + 1; 0 where a delimiter is no single byte). Blank lines and comments
    are left out."""

    start: Offsets
    end: Offsets
    line: Offsets
    fields: Offsets


def records(
    data: bytes,
    dialect: Dialect,
    first_line: int,
    single_column: bool,
    width: int | None = None,
    max_record_bytes: int = 1 << 62,
) -> Records:
    """Find every record of a batch, whose first byte is on physical line `first_line`.

    `width` and `max_record_bytes` are those that the file was cut with, if quotes that swallow lines were looked for.
    """
    octets = np.frombuffer(data, np.uint8)
    marks = mark(octets, signs_of(dialect), Edge(), single_column=single_column)
    if width and width > 1 and dialect.quote and (marks.is_multi_line or marks.odd_before(octets.size)):
        marks = _mended(data, dialect, marks, Mender(dialect, width, max_record_bytes))
    start, end = _without_line_ends(octets, marks.ends.positions(), single_column, signs_of(dialect).newline)
    if not single_column:
        start, end = start[end > start], end[end > start]
    if marks.comments is not None:
        kept = np.array([not marks.is_comment(int(position)) for position in start], np.bool_)
        start, end = start[kept], end[kept]
    return Records(
        start=start,
        end=end,
        line=first_line + marks.newlines.before_each(start),
        fields=_fields(octets, dialect, marks, start, end),
    )


def _mended(data: bytes, dialect: Dialect, marks: Marks, mender: Mender) -> Marks:
    """Return the marks without the quotes that swallow lines: the batch ends with a record, so none is open there."""
    octets = np.frombuffer(data, np.uint8)
    strays = stray_quotes(octets, marks.quotes, marks.odd, signs_of(dialect), fences_of(dialect))
    if not (strays.any() or marks.odd_before(octets.size)):
        return marks
    plain = mender.mend(octets, marks, ended=True, batch=True)
    if not plain:
        return marks
    return mark(octets, signs_of(dialect), Edge(), single_column=False, plain=span(octets.size, plain))


def _fields(octets: Octets, dialect: Dialect, marks: Marks, start: Offsets, end: Offsets) -> Offsets:
    if len(dialect.delimiter) > 1 or not dialect.delimiter.isascii():
        return np.zeros_like(start)
    delimiters = BitSet(find(octets, ord(dialect.delimiter)) & ~marks.odd)
    return delimiters.before_each(end) - delimiters.before_each(start) + 1


def _without_line_ends(octets: Octets, newlines: Offsets, single_column: bool, newline: int) -> tuple[Offsets, Offsets]:
    start = np.concatenate(([0], newlines + 1))
    cr = (newlines > start[:-1]) & (octets[newlines - 1] == CR) & (newline == LF)
    end = newlines - cr
    if start[-1] == octets.size:
        return start[:-1], end
    # The last record of the file lacks its line end, or the second half of one; a CR alone is no blank line.
    half = newline == LF and octets[-1] == CR and (single_column or octets.size - start[-1] > 1)
    return start, np.append(end, octets.size - half)
