"""The beginning of a file: what kind of file it is, and the names in its header record. Pure: bytes in, values out."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.definitions.names import tidy
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.splitter import BatchCut, Block, Splitter

# How much of a file is looked at to tell text from something else.
SNIFF_BYTES = 4096

# The most columns a PostgreSQL table can have.
MAX_COLUMNS = 1600

# Damaged text has a NUL here and there, which costs its record only. Even random bytes have twice as many as this among
# the first SNIFF_BYTES.
MOST_NULS = 8

# `sep=;`, which Excel understands and every other program takes for the header.
EXCEL_DELIMITER = re.compile(rb"\"?sep=([,;|\t])\"?", re.IGNORECASE)

BOM = b"\xef\xbb\xbf"
OTHER_BOMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
EXPORT = "export the sheet as CSV"
UNPACK = "unpack it and send the CSV inside"
OTHER_KINDS = (
    (b"PK\x03\x04", "an Excel workbook or a ZIP archive", f"{EXPORT}, or {UNPACK}"),
    (b"PK\x05\x06", "an empty ZIP archive", UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", EXPORT),
    (b"\x1f\x8b", "gzip", UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    (b"\xfd7zXZ\x00", "xz", UNPACK),
    (b"%PDF-", "a PDF document", "send the table as CSV"),
    (b"\x7fELF", "a program (ELF)", "send a CSV file"),
    (b"\x89PNG", "a PNG image", "send a CSV file"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header record, read: its `names`, normalised, and the bytes that follow it (`rest`).

    `end` is the file offset of `rest`, `next_line` the physical line it begins with.
    """

    names: tuple[str, ...]
    end: int
    next_line: int
    rest: bytes


class HeaderReader:
    """Takes the first bytes of a file until its header record is complete; holds little more than that record."""

    def __init__(self, dialect: Dialect, *, max_record_bytes: int) -> None:
        self._dialect = dialect
        self._splitter = Splitter(
            dialect,
            first_line=1,
            single_column=False,
            batch_records=1,
            batch_bytes=SNIFF_BYTES,  # so that blank lines are let go
            max_record_bytes=max_record_bytes,
        )
        self._held = bytearray()
        self._held_from = 0  # file offset of the first byte held
        self._scanned = 0  # bytes held that the splitter has seen
        self._bom_bytes = 0
        self._line = 1  # of the first byte held
        self._sniffed = False

    def feed(self, data: Block) -> Header | None:
        """Take the next bytes; return the header as soon as it is complete.

        Raises FileError: E_NOT_CSV, E_ENCODING, E_ENCODING_SUSPECT, E_LINE_END, E_RECORD_TOO_LARGE, E_TOO_MANY_COLUMNS,
        E_HEADER, E_HEADER_EMPTY.
        """
        self._held += data
        return self._scan() if len(self._held) >= SNIFF_BYTES or self._sniffed else None

    def finish(self) -> Header:
        """Return the header of a file that ends here, with or without a line end.

        Raises FileError: E_EMPTY when there is nothing but blank lines, E_QUOTE_OPEN, and all that `feed` raises.
        """
        if header := self._scan():
            return header
        for cut in self._splitter.finish():
            if cut.records:
                return self._read(cut)
        raise FileError("the file is empty: it has no header record", code="E_EMPTY")

    def _scan(self) -> Header | None:
        if not self._sniffed:
            self._sniff()
        while self._scanned < len(self._held):
            # In small pieces, because each record of a piece would be a batch; the first one is all that is wanted.
            piece = bytes(self._held[self._scanned : self._scanned + SNIFF_BYTES])
            self._scanned += len(piece)
            for cut in self._split(piece):
                if cut.records:
                    return self._read(cut)
                self._let_go(cut)
        return None

    def _sniff(self) -> None:
        refuse_other_kinds(bytes(self._held[:SNIFF_BYTES]))
        self._bom_bytes = len(BOM) if self._held.startswith(BOM) else 0
        del self._held[: self._bom_bytes]
        self._held_from = self._bom_bytes
        self._sniffed = True

    def _split(self, piece: bytes) -> list[BatchCut]:
        try:
            return self._splitter.feed(piece)
        except FileError:
            refuse_bare_cr(bytes(self._held), self._dialect)
            raise

    def _let_go(self, cut: BatchCut) -> None:
        """Forget the blank lines of a batch without a record."""
        gone = self._bom_bytes + cut.end - self._held_from
        del self._held[:gone]
        self._held_from += gone
        self._scanned -= gone
        self._line += cut.lines

    def _read(self, cut: BatchCut) -> Header:
        end = self._bom_bytes + cut.end
        record = bytes(self._held[: end - self._held_from])
        refuse_bare_cr(record, self._dialect)
        return Header(
            names=read_names(record.strip(b"\r\n"), self._dialect, line=self._line + cut.blank_lines),
            end=end,
            next_line=self._line + cut.lines,
            rest=bytes(self._held[len(record) :]),
        )


def refuse_other_kinds(start: bytes) -> None:
    """Raise FileError when the first bytes of a file are not those of a CSV in UTF-8."""
    for magic, kind, advice in OTHER_KINDS:
        if start.startswith(magic):
            raise FileError(f"this looks like {kind}, not like CSV: {advice}", code="E_NOT_CSV", looks_like=kind)
    for bom, encoding in OTHER_BOMS:
        if start.startswith(bom):
            raise FileError(f"the file is in {encoding}: save it as UTF-8", code="E_ENCODING", looks_like=encoding)
    if b"\0" in start:
        _refuse_nuls(start)


def _refuse_nuls(start: bytes) -> None:
    # Text in UTF-16 without a byte order mark has a NUL beside every Latin letter: always before it, or always after.
    first, second = start[0::2].count(0), start[1::2].count(0)
    if 0 in (first, second) and first + second > len(start) // 4:
        text = "the file seems to be in UTF-16 without a byte order mark: save it as UTF-8"
        raise FileError(text, code="E_ENCODING_SUSPECT", looks_like="UTF-16")
    if first + second > MOST_NULS or b"\0" in start.split(b"\n", 1)[0]:
        raise FileError("the file holds NUL bytes: this is not CSV", code="E_NOT_CSV", looks_like="binary data")


def refuse_bare_cr(record: bytes, dialect: Dialect) -> None:
    """Raise FileError (E_LINE_END) when a record holds a CR outside quotes that does not belong to its line end."""
    quote = re.escape(dialect.quote.encode())
    if re.search(rb"\r(?!\n)", re.sub(quote + rb"[^" + quote + rb"]*" + quote, b"", record)):
        raise FileError("the lines end in CR alone: convert the line ends to LF", code="E_LINE_END", line=1)


def read_names(record: bytes, dialect: Dialect, *, line: int) -> tuple[str, ...]:
    """Return the names in a header record, in NFC and without what surrounds them invisibly.

    Raises FileError: E_ENCODING, E_HEADER (not CSV), E_HEADER_EMPTY (a name is missing), E_TOO_MANY_COLUMNS, and
    E_HEADER_MISMATCH for the line by which Excel is told the delimiter.
    """
    if told := EXCEL_DELIMITER.fullmatch(record):
        char = told[1].decode()
        text = f"line {line} tells Excel the delimiter, it is no header: remove it, and say delimiter={char}"
        raise FileError(text, code="E_HEADER_MISMATCH", line=line, delimiter_seen=char)
    try:
        text = record.decode()
        names = next(csv.reader([text], delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True))
    except UnicodeDecodeError as error:
        text = f"byte 0x{record[error.start]:02x} in the header is not UTF-8: convert the file to UTF-8"
        raise FileError(text, code="E_ENCODING", line=line) from error
    except csv.Error as error:
        raise FileError(f"the header record cannot be read: {error}", code="E_HEADER", line=line) from error
    if len(names) > MAX_COLUMNS:
        text = f"the header has {len(names)} columns; a table has at most {MAX_COLUMNS}"
        raise FileError(text, code="E_TOO_MANY_COLUMNS", line=line, columns=len(names))
    normal = tuple(map(tidy, names))
    if "" in normal:
        text = f"column {normal.index('') + 1} of the header has no name"
        raise FileError(text, code="E_HEADER_EMPTY", line=line, column=normal.index("") + 1)
    return normal


def with_delimiter_hint(error: FileError, names: Sequence[str], dialect: Dialect) -> FileError:
    """Return `error`, about a header that does not fit, saying also which delimiter it seems to be written with."""
    counts = {char: names[0].count(char) for char in ",;\t|" if char != dialect.delimiter}
    seen = max(counts, key=lambda char: counts[char])
    if len(names) > 1 or not counts[seen]:
        return error
    text = f"{error.detail}; the header seems to be written with the delimiter {seen!r}"
    return FileError(text, code=error.code, **error.facts, delimiter_seen=seen)
