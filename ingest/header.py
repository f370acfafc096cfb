"""The beginning of a file: what kind of file it is, and the names in its header. Pure: bytes in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ingest.definitions.names import tidy
from ingest.dialect import Dialect
from ingest.encodings import UTF_8
from ingest.errors import FileError
from ingest.reading.batches import BatchCut
from ingest.reading.kinds import refuse_other_encodings, refuse_other_kinds
from ingest.reading.names import check_width, read_loosely, read_names, refuse_bare_cr
from ingest.reading.tokens import tokens
from ingest.reading.transcoding import sent_length
from ingest.splitter import Block, Splitter

# How much of a file is looked at to tell text from something else.
SNIFF_BYTES = 4096

BOM = b"\xef\xbb\xbf"

# What is said of a header in which a quote is open.
OPEN_QUOTE = ("E_QUOTE_OPEN", "E_RECORD_TOO_LARGE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header, read: its `names`, normalised, and the bytes that follow it (`rest`).

    `end` is the offset of `rest` in the file as it was sent, `next_line` the physical line it begins with. Without a
    header and names, `names` is empty; `width` is the number of fields of the header or of the first record, and
    `first` those fields where there is no header. `written` is the first record of the header as the file has it,
    tidied. `encoding` is that of the file, its byte order known.
    """

    names: tuple[str, ...]
    end: int
    next_line: int
    rest: bytes
    width: int = field(default=0, compare=False)
    first: tuple[str, ...] = field(default=(), compare=False)
    written: tuple[str, ...] = field(default=(), compare=False)
    encoding: str = UTF_8


class HeaderReader:
    """Takes the first bytes of a file, as UTF-8, until its header is complete; holds little more than that.

    What comes before the header (`skip_rows`, blank lines, comments) is let go as soon as it is known.
    """

    def __init__(self, dialect: Dialect, *, max_record_bytes: int) -> None:
        self._dialect = dialect
        self._max_record_bytes = max_record_bytes
        self._splitter = Splitter(
            dialect,
            first_line=1,
            single_column=False,
            batch_records=1,
            batch_bytes=SNIFF_BYTES,  # so that blank lines are let go
            max_record_bytes=max_record_bytes,
        )
        self._newline = b"\r" if dialect.newline == "cr" else b"\n"
        self._held = bytearray()
        self._held_from = 0  # stream offset of the first byte held, and where it is in the file as it was sent
        self._sent_from = 0
        self._scanned = 0  # bytes held that the splitter has seen
        self._split_from = 0  # stream offset of the first byte that the splitter has seen
        self._line = 1  # of the first byte held
        self._rows: list[bytes] = []  # the records of the header that are complete
        self._row_line = 1  # of the first of them
        self._skipped = 0  # lines of the preamble that are behind
        self._sniffed = False
        self._encoding = dialect.encoding

    def feed(self, data: Block) -> Header | None:
        """Take the next bytes; return the header as soon as it is complete.

        Raises FileError: E_NOT_CSV, E_ENCODING, E_ENCODING_SUSPECT, E_LINE_END, E_RECORD_TOO_LARGE, E_TOO_MANY_COLUMNS,
        E_HEADER, E_HEADER_EMPTY, E_HEADER_MISMATCH.
        """
        self._held += data
        return self._scan() if len(self._held) >= SNIFF_BYTES or self._sniffed else None

    def begin_at(self, offset: int, encoding: str) -> None:
        """Say that the first byte to come is at `offset` in the file as it was sent, in an encoding."""
        self._encoding = encoding
        if not self._held_from:
            self._sent_from = offset

    def finish(self) -> Header:
        """Return the header of a file that ends here, with or without a line end.

        Raises FileError: E_EMPTY when there is nothing but blank lines and nobody said the names of the columns,
        E_QUOTE_OPEN, and all that `feed` raises.
        """
        if header := self._scan():
            return header
        try:
            cuts = self._splitter.finish()
        except FileError as error:
            return self._loosely(error)
        for cut in cuts:
            if cut.records and (header := self._take(cut)):
                return header
        is_behind_preamble = self._skipped == self._dialect.skip_rows
        if self._dialect.columns and not self._dialect.header_rows and is_behind_preamble:
            return self._header(self._dialect.columns, len(self._dialect.columns))
        raise FileError("the file is empty: it has no header record", code="E_EMPTY")

    def _scan(self) -> Header | None:
        if not self._sniffed:
            self._sniff()
        if not self._skip_rows():
            return None
        while self._scanned < len(self._held):
            # In small pieces, because each record of a piece would be a batch; the first ones are all that is wanted.
            piece = bytes(self._held[self._scanned : self._scanned + SNIFF_BYTES])
            self._scanned += len(piece)
            try:
                cuts = self._split(piece)
            except FileError as error:
                return self._loosely(error)
            for cut in cuts:
                if not cut.records:
                    self._let_go(self._split_from + cut.end, cut.lines)
                elif header := self._take(cut):
                    return header
        return None

    def _sniff(self) -> None:
        refuse_other_kinds(bytes(self._held[:SNIFF_BYTES]))
        refuse_other_encodings(bytes(self._held[:SNIFF_BYTES]))
        if self._held.startswith(BOM):
            self._let_go(len(BOM), 0)
        self._split_from = self._held_from
        self._sniffed = True

    def _skip_rows(self) -> bool:
        """Let the lines of the preamble go; return whether all of them are behind."""
        while self._skipped < self._dialect.skip_rows:
            end = self._held.find(self._newline) + 1
            if not end:
                if len(self._held) > self._max_record_bytes:
                    text = f"line {self._line} is longer than {self._max_record_bytes} bytes (MAX_RECORD_BYTES)"
                    raise FileError(text, code="E_RECORD_TOO_LARGE", line=self._line)
                return False
            self._let_go(self._held_from + end, 1)
            self._skipped += 1
            self._split_from = self._held_from
        return True

    def _split(self, piece: bytes) -> list[BatchCut]:
        try:
            return self._splitter.feed(piece)
        except FileError:
            if self._newline == b"\n":
                refuse_bare_cr(bytes(self._held), self._dialect)
            raise

    def _let_go(self, end: int, lines: int) -> None:
        """Forget the bytes before `end`, which are so many lines."""
        gone = end - self._held_from
        self._sent_from += sent_length(bytes(self._held[:gone]), self._encoding)
        del self._held[:gone]
        self._held_from = end
        self._scanned = max(self._scanned - gone, 0)
        self._line += lines

    def _take(self, cut: BatchCut) -> Header | None:
        """Take a record; return the header if it is the last one of it, or the first behind one that is not there."""
        end = self._split_from + cut.end
        record = self._record(bytes(self._held[: end - self._held_from]), cut)
        if self._newline == b"\n":
            refuse_bare_cr(record, self._dialect)
        self._row_line = self._row_line if self._rows else self._line + cut.blank_lines
        if not self._dialect.header_rows:
            first = self._fields(record.strip(b"\r\n"))
            check_width(len(first), self._dialect, self._row_line)
            return self._header(self._dialect.columns, len(first), first)
        self._rows.append(record.strip(b"\r\n"))
        if sum(map(len, self._rows)) > self._max_record_bytes:
            text = f"the header is longer than {self._max_record_bytes} bytes (MAX_RECORD_BYTES)"
            raise FileError(text, code="E_RECORD_TOO_LARGE", line=self._row_line)
        self._let_go(end, cut.lines)
        if len(self._rows) < self._dialect.header_rows:
            return None
        names = read_names(self._rows, self._dialect, line=self._row_line, width=self._next_width())
        return self._header(names, len(names))

    def _loosely(self, error: FileError) -> Header:
        """Return the header that is the first line held, with an open quote as text. Raises `error` if it is none."""
        end = self._held.find(self._newline) + 1
        record = bytes(self._held[:end]).strip(b"\r\n")
        if error.code not in OPEN_QUOTE or self._dialect.header_rows != 1 or not record:
            raise error
        names = read_loosely(record, self._dialect, line=self._line, width=self._next_width(end))
        if names is None:
            raise error
        self._rows, self._row_line = [record], self._line
        self._let_go(self._held_from + end, 1)
        return self._header(names, len(names))

    def _next_width(self, start: int = 0) -> int:
        """Return how many fields the line has that begins at byte `start` of those held; 0 if it does not end there."""
        end = self._held.find(self._newline, start)
        return len(self._fields(bytes(self._held[start:end]).strip(b"\r\n"))) if end > start else 0

    def _record(self, stretch: bytes, cut: BatchCut) -> bytes:
        """Return the record at the end of a stretch, which may begin with blank lines and comments."""
        if not cut.blank_lines or not self._dialect.comment:
            return stretch
        return stretch.split(self._newline, cut.blank_lines)[-1]

    def _fields(self, record: bytes) -> tuple[str, ...]:
        return tuple(token.text.decode("utf-8", "replace") for token in tokens(record, self._dialect))

    def _header(self, names: Sequence[str], width: int, first: tuple[str, ...] = ()) -> Header:
        return Header(
            names=tuple(names),
            end=self._sent_from,
            next_line=self._line,
            rest=bytes(self._held),
            width=width,
            first=first,
            written=tuple(map(tidy, self._fields(self._rows[0]))) if self._rows else (),
            encoding=self._encoding,
        )
