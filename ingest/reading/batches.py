"""Where the batches of a stream end: with the record that brings one to its limit of records or bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.reading.marking import Marks


@dataclass(frozen=True, slots=True)
class BatchCut:
    """A finished batch: its `end` as an offset in the stream, and its records, physical lines and blank lines.

    `behind`: it lies behind the end of the table, and no record of it belongs there.
    """

    end: int
    records: int
    lines: int
    blank_lines: int
    behind: bool = False


class Batches:
    """Counts the records of a stream, piece by piece, into batches of `batch_records` or `batch_bytes`."""

    def __init__(self, batch_records: int, batch_bytes: int) -> None:
        self._most_records = batch_records
        self._most_bytes = batch_bytes
        self._begin()

    def take(self, marks: Marks, length: int, offset: int) -> list[BatchCut]:
        """Count the first `length` bytes of a piece, at `offset` of the stream; return the batches they complete."""
        cuts, begin = [], 0
        while (end := self._next(marks, begin, offset)) is not None:
            self._add(marks, begin, end)
            cuts.append(self._cut(offset + end))
            begin = end
        self._add(marks, begin, length)
        return cuts

    def add_last(self, *, is_comment: bool) -> None:
        """Count the last record of the stream, or comment, which lacks its line end."""
        self._records += not is_comment
        self._blank_lines += is_comment
        self._lines += 1

    def end(self, offset: int) -> list[BatchCut]:
        """End the batch that is open at `offset` of the stream; return it, if there is anything in it."""
        return [self._cut(offset)] if offset > self._start else []

    def _begin(self, start: int = 0) -> None:
        self._start = start  # of the batch that is open
        self._records = self._lines = self._blank_lines = 0

    def _cut(self, end: int) -> BatchCut:
        cut = BatchCut(end, self._records, self._lines, self._blank_lines)
        self._begin(end)
        return cut

    def _next(self, marks: Marks, begin: int, offset: int) -> int | None:
        """Return where the open batch, counted up to `begin`, reaches one of its limits in this piece."""
        full = self._start + self._most_bytes - 1 - offset
        by_bytes = marks.ends.first_from(max(full, begin))
        by_records = marks.records.nth(marks.records.before(begin) + self._most_records - self._records - 1)
        found = [position for position in (by_bytes, by_records) if position is not None]
        return min(found) + 1 if found else None

    def _add(self, marks: Marks, begin: int, end: int) -> None:
        """Count what lies in [begin, end) of a piece."""
        records = marks.records.before(end) - marks.records.before(begin)
        self._records += records
        self._lines += marks.newlines.before(end) - marks.newlines.before(begin)
        self._blank_lines += marks.ends.before(end) - marks.ends.before(begin) - records
