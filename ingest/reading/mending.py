"""A quote that swallows lines costs its own line, not those after it.

By COPY's rule a quote opens wherever it stands, and hides every newline up to the next one. Where the record that comes
of it has several lines and a quote elsewhere than around a field, or no end within the limit, its first line is taken
for a record by itself, its quotes for text, if one of two things speaks for it:

    the quote stands inside of a field, quoted or not, and read as text it leaves the right number of fields
    the lines that follow are whole records, as many as LOOK_LINES of them, up to the one with the next odd quote (or
    that one, read so); or half of them, where there is none

Otherwise the record stays what COPY's rule makes of it. What is decided depends on the bytes from the record's first to
those looked at, and every look at fewer of them, as that at a batch, which ends with a record, decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ingest.bits import CR, LF, BitSet, Octets
from ingest.dialect import Dialect
from ingest.reading.marking import Marks, quotes_of, signs_of
from ingest.reading.strays import has_stray_quote
from ingest.reading.tokens import is_whole, opens_inside_a_field

# How far is looked ahead before a quote is called stray.
LOOK_LINES = 10


class Mender:
    """Finds the lines that are records although a quote is open at their ends, of records with `width` fields.

    `max_record_bytes`: a record that is longer is judged by what is there of it.
    """

    def __init__(self, dialect: Dialect, width: int, max_record_bytes: int) -> None:
        self._dialect = dialect
        self._signs = signs_of(dialect)
        self._width = width
        self._max_record_bytes = max_record_bytes

    def mend(self, data: Octets, marks: Marks, *, ended: bool, batch: bool = False) -> list[tuple[int, int]]:
        """Return the lines of a block, as (start, end), whose quotes are text; the block begins with a record.

        `ended`: what is open at the end of the block has no end; else nothing is said of it unless it is too long.
        `batch`: the block is a batch, which ends with a record: what is open there was found to be damaged before.
        """
        newlines = marks.newlines.positions()
        starts = np.concatenate(([0], newlines + 1))
        stops = np.append(newlines + 1, data.size)
        counts = np.diff(BitSet(quotes_of(data, self._signs)).before_each(np.append(starts, data.size)))
        odd = np.flatnonzero(counts % 2).tolist()
        comment = self._signs.comment
        lines = _Lines(data.tobytes(), starts.tolist(), stops.tolist())
        plain: list[tuple[int, int]] = []
        k = 0
        while k < len(odd):
            first, last = odd[k], odd[k + 1] if k + 1 < len(odd) else None
            if comment and lines.data.startswith(comment, lines.starts[first]):
                k += 1
                continue
            start, end = lines.starts[first], lines.stops[-1 if last is None else last]
            if end - start > self._max_record_bytes:
                last = None
            elif last is None and not ended:
                return plain
            damaged = (batch and last is None and end - start <= self._max_record_bytes) or self._is_damaged(
                lines, first, last
            )
            if damaged:
                plain.append((start, lines.stops[first]))
            k += 1 if damaged else 2
        return plain

    def _is_damaged(self, lines: _Lines, first: int, last: int | None) -> bool:
        """Tell whether the record of the lines `first` to `last` is its first line, and what comes after others.

        `last` None: it has no end, or none within the limit.
        """
        if last is not None and not has_stray_quote(lines.between(first, last), self._dialect):
            return False
        if lines.stops[first] - lines.starts[first] > self._max_record_bytes:
            return False
        if opens_inside_a_field(lines.line(first), self._dialect, self._width):
            return True
        limit = lines.starts[first] + self._max_record_bytes
        until = len(lines.starts) - 1 if last is None else last
        following = (n for n in range(first + 1, min(until, first + 1 + LOOK_LINES)) if lines.stops[n] <= limit)
        looked = [line for line in map(lines.line, following) if line]  # a blank line says nothing
        if last is not None and not looked:
            return opens_inside_a_field(lines.line(last), self._dialect, self._width)
        whole = sum(is_whole(line, self._dialect, self._width) for line in looked)
        # A record that has an end may well have several lines; one that has none is damaged in any case.
        return whole * 2 >= len(looked) if last is None else 0 < whole == len(looked)


@dataclass(frozen=True, slots=True)
class _Lines:
    """The physical lines of a block; the last one has no end, and may be empty."""

    data: bytes
    starts: list[int]
    stops: list[int]

    def line(self, number: int) -> bytes:
        """Return a line without its end."""
        return self.data[self.starts[number] : self.stops[number]].rstrip(bytes([CR, LF]))

    def between(self, first: int, last: int) -> bytes:
        """Return the lines from the first to the last."""
        return self.data[self.starts[first] : self.stops[last]]
