"""A header -> the names of the columns: read from one record or several, given by the request, or unknown. Pure."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from itertools import zip_longest

from ingest.definitions.names import tidy
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.tokens import tokens

# The most columns a PostgreSQL table can have.
MAX_COLUMNS = 1600

# `sep=;`, which Excel understands and every other program takes for the header.
EXCEL_DELIMITER = re.compile(rb"\"?sep=([,;|\t])\"?", re.IGNORECASE)


def refuse_bare_cr(record: bytes, dialect: Dialect) -> None:
    """Raise FileError (E_LINE_END) when a record holds a CR outside quotes that does not belong to its line end."""
    quote = re.escape(dialect.quote.encode())
    outside = re.sub(quote + rb"[^" + quote + rb"]*" + quote, b"", record) if quote else record
    if re.search(rb"\r(?!\n)", outside):
        raise FileError("the lines end in CR alone: convert the line ends to LF", code="E_LINE_END", line=1)


def read_names(rows: Sequence[bytes], dialect: Dialect, *, line: int, width: int = 0) -> tuple[str, ...]:
    """Return the names in the header records, in NFC and without what surrounds them invisibly.

    Of several records, what they say of a column is joined by blanks. Names that the dialect gives stand for them all;
    an empty one is a column to skip. `line` is the physical line of the first record, `width` the number of fields of
    the record behind the header, 0 if it is not known: where ragged records are not all rejected, a delimiter too many
    in the header makes no column.

    Raises FileError: E_ENCODING, E_HEADER (not CSV), E_HEADER_EMPTY (a name is missing), E_TOO_MANY_COLUMNS, and
    E_HEADER_MISMATCH for the line by which Excel is told the delimiter, or when the dialect names too few or too many.
    """
    found = [_read_row(row, dialect, line) for row in rows]
    names = found[0] if len(found) == 1 else [_joined(parts) for parts in zip_longest(*found, fillvalue="")]
    if dialect.on_ragged != "reject" and len(names) > width == sum(map(bool, map(tidy, names))):
        names = [name for name in names if tidy(name)]
    return _checked(names, dialect, line)


def read_loosely(record: bytes, dialect: Dialect, *, line: int, width: int) -> tuple[str, ...] | None:
    """Return the names in a header in which a quote is open, for a dialect that keeps such quotes; None if it has no
    such reading: what stands between delimiters, as many times as the record behind it has fields (`width`).

    Raises what `read_names` does.
    """
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    pieces = record.split(delimiter)
    if dialect.on_quote != "keep" or not quote or len(pieces) != width:
        return None
    inner = [p[1:-1] if len(p) > 1 and p.startswith(quote) and p.endswith(quote) else p for p in pieces]
    return _checked([piece.decode("utf-8", "replace") for piece in inner], dialect, line)


def _checked(names: Sequence[str], dialect: Dialect, line: int) -> tuple[str, ...]:
    check_width(len(names), dialect, line)
    if dialect.columns:
        return dialect.columns
    normal = tuple(map(tidy, names))
    if "" in normal:
        text = f"column {normal.index('') + 1} of the header has no name"
        raise FileError(text, code="E_HEADER_EMPTY", line=line, column=normal.index("") + 1)
    return normal


def check_width(width: int, dialect: Dialect, line: int) -> None:
    """Raise FileError when no table has so many columns, or the dialect gives another number of names."""
    if width > MAX_COLUMNS:
        text = f"the header has {width} columns; a table has at most {MAX_COLUMNS}"
        raise FileError(text, code="E_TOO_MANY_COLUMNS", line=line, columns=width)
    if dialect.columns and len(dialect.columns) != width:
        text = f"columns names {len(dialect.columns)} columns, but the file has {width}"
        raise FileError(text, code="E_HEADER_MISMATCH", line=line)


def _joined(parts: Sequence[str]) -> str:
    return " ".join(part for part in map(tidy, parts) if part)


def _read_row(record: bytes, dialect: Dialect, line: int) -> list[str]:
    if told := EXCEL_DELIMITER.fullmatch(record):
        char = told[1].decode()
        text = f"line {line} tells Excel the delimiter, it is no header: remove it, and say delimiter={char}"
        raise FileError(text, code="E_HEADER_MISMATCH", line=line, delimiter_seen=char)
    try:
        text = record.decode()
        if len(dialect.delimiter) > 1 or dialect.escape or dialect.trim or not dialect.quote:
            return [token.text.decode() for token in tokens(record, dialect)]
        return next(csv.reader([text], delimiter=dialect.delimiter, quotechar=dialect.quote, strict=True))
    except UnicodeDecodeError as error:
        text = f"byte 0x{record[error.start]:02x} in the header is not UTF-8: convert the file to UTF-8"
        if dialect.encoding != "utf-8":
            text = f"the header cannot be read as {dialect.encoding}: say the encoding that the file has"
        raise FileError(text, code="E_ENCODING", line=line) from error
    except csv.Error as error:
        raise FileError(f"the header record cannot be read: {error}", code="E_HEADER", line=line) from error
