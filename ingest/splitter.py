"""Cuts a stream of CSV into batches at record boundaries, without parsing it. Pure: bytes in, numbers out.

A newline ends a record when an even number of quotes lies before it: the rule PostgreSQL's COPY reads CSV by, for any
dialect whose quotes are doubled inside quotes. What comes out does not depend on how the stream was cut into blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.bits import CR, LF, BitSet, Octets, Offsets, span
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.batches import BatchCut, Batches
from ingest.reading.marking import Edge, Marks, mark, signs_of
from ingest.reading.mending import Mender
from ingest.reading.strays import fences_of, stray_quotes

Block = bytes | bytearray | memoryview

# Bytes looked at in one go. Smaller pieces pay for each call into NumPy; with larger ones, the temporary arrays are
# given back to the kernel and faulted in again at each piece, which costs half of the speed in some threads.
PIECE_BYTES = 512 * 1024

# What is looked at together with the first part of a record that was held back, at least.
JOINT_BYTES = 4096


class Splitter:
    """Cuts the stream that follows the header record, in blocks of any size, into batches.

    A batch ends with the record that brings it to `batch_records` records or `batch_bytes` bytes. `first_line` is the
    physical line of the first byte in the file, from 1. Offsets count from the first byte fed.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        first_line: int,
        single_column: bool,
        batch_records: int,
        batch_bytes: int,
        max_record_bytes: int,
        width: int | None = None,
    ) -> None:
        self._signs = signs_of(dialect)
        self._fences = fences_of(dialect)
        self._single_column = single_column
        self._batches = Batches(batch_records, batch_bytes)
        self._max_record_bytes = max_record_bytes
        self._edge = Edge()
        self._offset = 0  # all before it has been looked at
        self._line = first_line  # of the byte at _offset
        self._record_start = 0  # of the record that is still open
        self._record_line = first_line
        self._quote_line = first_line  # where the open quote began; only meaningful while one is open
        self._mender = Mender(dialect, width, max_record_bytes) if width and width > 1 and dialect.quote else None
        self._held = b""  # the bytes behind _offset that were fed already
        self._begun = b""  # of the open record, as far as they lie before _offset
        self._in_comment = False  # the open record is a comment

    def feed(self, block: Block) -> list[BatchCut]:
        """Take the next bytes of the stream and return the batches they complete.

        Raises FileError (E_RECORD_TOO_LARGE) as soon as a record is longer than `max_record_bytes`.
        """
        view, cuts, at = memoryview(block), list[BatchCut](), 0
        while at < len(view):
            stop = self._joint(view, at) if self._held else at + PIECE_BYTES
            piece = self._held + bytes(view[at:stop]) if self._held else view[at:stop]
            cuts += self._piece(piece)
            at, begin = min(stop, len(view)), at
            if at < len(view) and len(self._held) < at - begin:
                # What was held back lies in this block: no need to carry it along.
                at -= len(self._held)
                self._held = b""
        return cuts

    @property
    def is_between_records(self) -> bool:
        """Whether a record ends with the last byte fed, or a blank line, as far as is known with that byte."""
        return not self._held and self._offset == self._record_start

    def end_batch(self) -> list[BatchCut]:
        """End the open batch between two records; return it, if there is anything in it."""
        return self._batches.end(self._offset)

    def finish(self) -> list[BatchCut]:
        """Return the last batch, if there is one; its last record may lack the line end.

        Raises FileError (E_QUOTE_OPEN) when the stream ends inside quotes.
        """
        if self._mender is not None and self._edge.odd:
            self._held = self._step_back()
        cuts = self._piece(self._held, ended=True) if self._held else []
        if self._edge.odd:
            raise FileError(
                f"the quote that opens on line {self._quote_line} is never closed",
                code="E_QUOTE_OPEN",
                line=self._quote_line,
            )
        if self._offset > self._record_start:
            self._batches.add_last(is_comment=self._in_comment)
        return [*cuts, *self._batches.end(self._offset)]

    def _joint(self, view: memoryview, at: int) -> int:
        """Return up to where the view is looked at together with what is held: a line's end, if one is near."""
        near = bytes(view[at : at + max(len(self._held), JOINT_BYTES)])
        return at + ((near.rfind(bytes([self._signs.newline])) + 1) or len(near))

    def _piece(self, block: Block, *, ended: bool = False) -> list[BatchCut]:
        data = np.frombuffer(block, np.uint8)
        marks = self._mark(data)
        if self._mender is not None and (marks.is_multi_line or (ended and marks.odd_before(data.size))):
            if self._begun:
                return self._with_begun(block, marks.ends.nth(0), ended=ended)
            marks = self._mended(self._mender, data, marks, ended=ended)
        self._check_sizes(marks, data.size)
        end = data.size if ended else self._settled(marks, data)
        cuts = self._batches.take(marks, end, self._offset)
        self._step_over(marks, data[:end])
        self._held = bytes(block[end:])
        return cuts

    def _with_begun(self, block: Block, first_end: int | None, *, ended: bool) -> list[BatchCut]:
        """Look at the record that began before a block as a whole, then at what follows it: large copies are slow."""
        stop = len(block) if first_end is None else first_end + 1
        cuts = self._piece(self._step_back() + bytes(block[:stop]), ended=ended and stop == len(block))
        rest = self._held + bytes(block[stop:]) if self._held else block[stop:]
        return [*cuts, *self._piece(rest, ended=ended)] if len(rest) and stop < len(block) else cuts

    def _mark(self, data: Octets, plain: Sequence[tuple[int, int]] = ()) -> Marks:
        bits = span(data.size, plain) if plain else None
        return mark(data, self._signs, self._edge, single_column=self._single_column, plain=bits)

    def _mended(self, mender: Mender, data: Octets, marks: Marks, *, ended: bool) -> Marks:
        """Return the marks without the quotes that swallow lines which they should not."""
        last = marks.ends.last()
        strays = BitSet(stray_quotes(data, marks.quotes, marks.odd, self._signs, self._fences)).first_from(0)
        too_long = bool((np.diff(self._record_bounds(marks, data.size)) > self._max_record_bytes).any())
        sound = not (ended or too_long) and (strays is None or last is None or strays > last)
        plain = () if sound else mender.mend(data, marks, ended=ended)
        return self._mark(data, plain) if plain else marks

    def _step_back(self) -> bytes:
        """Go back to the start of the open record, of which no line was counted yet; return its bytes."""
        begun, self._begun = self._begun, b""
        self._offset -= len(begun)
        self._edge = Edge()
        return begun

    def _settled(self, marks: Marks, data: Octets) -> int:
        """Return up to where nothing changes any more: the start of the open record, if it depends on what follows."""
        waits = self._signs.comment or self._signs.escape is not None or (self._mender and marks.is_multi_line)
        if not waits:
            return data.size
        last = marks.ends.last()
        start = 0 if last is None else last + 1
        several = marks.newlines.before(data.size) > marks.newlines.before(start)
        return start if several or self._signs.comment or self._signs.escape is not None else data.size

    def _step_over(self, marks: Marks, data: Octets) -> None:
        """Remember what the bytes after this piece need to know of it."""
        end = data.size
        if (last := marks.ends.last()) is not None:
            self._record_start = self._offset + last + 1
            self._record_line = self._line + marks.newlines.before(last + 1)
        self._quote_line = self._open_quote_line(marks, self._record_start, end)
        started = self._offset + end - self._record_start
        self._edge = Edge(
            odd=marks.odd_before(end),
            closed=marks.closed_before(end),
            at_start=started == 0,
            after_cr=started == 1 and self._signs.newline == LF and int(data[-1]) == CR,
        )
        self._in_comment = started > 0 and marks.is_comment(end - 1)
        if self._mender is not None:
            rest = data[max(end - started, 0) :].tobytes()
            self._begun = rest if started <= end else self._begun + rest
        self._offset += end
        self._line += marks.newlines.before(end)

    def _open_quote_line(self, marks: Marks, record_start: int, end: int) -> int:
        """Return the line of the last quoted stretch of the record at `record_start` that begins before `end`."""
        opening = marks.opening_between(max(record_start - self._offset, 0), end)
        return self._quote_line if opening is None else self._line + marks.newlines.before(opening)

    def _check_sizes(self, marks: Marks, length: int) -> None:
        """Raise FileError when a record passes the limit in this piece; none had passed it before."""
        bounds = self._record_bounds(marks, length)
        too_long = np.flatnonzero(np.diff(bounds) > self._max_record_bytes)
        if too_long.size:
            raise self._too_large(marks, int(bounds[too_long[0]]))

    def _record_bounds(self, marks: Marks, length: int) -> Offsets:
        """Return where the piece's records begin, and its end; only the first two when no other can be too long."""
        start = [self._record_start - self._offset]
        if length > self._max_record_bytes:
            return np.concatenate((start, marks.ends.positions() + 1, [length]))
        first = marks.ends.nth(0)
        return np.array([*start, *([] if first is None else [first + 1]), length], np.int64)

    def _too_large(self, marks: Marks, start: int) -> FileError:
        # What is said is what holds at the byte that passes the limit, wherever the blocks were cut.
        limit = start + self._max_record_bytes
        line = self._record_line if start <= 0 else self._line + marks.newlines.before(start)
        detail = f"the record on line {line} is longer than {self._max_record_bytes} bytes (MAX_RECORD_BYTES)"
        if marks.odd_before(limit):
            line = self._open_quote_line(marks, start + self._offset, limit)
            detail += f"; the quote that opens on line {line} is not closed"
        return FileError(detail, code="E_RECORD_TOO_LARGE", line=line)
