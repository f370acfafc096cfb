"""Rejected records as CSV in the dialect, encoding and with the columns of their file, to be corrected and sent again.

What surrounds the records of the file (preamble, comments, footers) does not come back, and there is always a header.

Behind the file's own columns stand ORIGIN: where the record was and why it was rejected. Pure: rows in, bytes out.
"""

from __future__ import annotations

from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Mapping, Sequence
from typing import Any

from ingest.dialect import Dialect
from ingest.encodings import UTF_8
from ingest.formula import guard
from ingest.loading.fields import fields
from ingest.spec import LoadSpec

BOMS = {"utf-16-le": BOM_UTF16_LE, "utf-16-be": BOM_UTF16_BE, "utf-32-le": BOM_UTF32_LE, "utf-32-be": BOM_UTF32_BE}
ORIGIN = ("_line", "_column", "_code", "_error")


class RejectLines:
    """Writes the lines of one job's file of rejects."""

    def __init__(self, spec: LoadSpec) -> None:
        self._dialect = spec.dialect
        self._header = spec.header or tuple(column.name for column in spec.columns)
        # What was exported before and came back has its apostrophes already; another one would stay for good.
        self._came_back = spec.plan is not None and spec.plan.parent_line is not None
        # The columns of an earlier export are its own business; this one says where the record is in this file.
        self._kept = [i for i, name in enumerate(self._header) if name.lower() not in ORIGIN]

    def header(self) -> bytes:
        """Return the header line."""
        bom = BOMS.get(self._dialect.encoding, b"")
        return bom + self._line([*(self._header[i] for i in self._kept), *ORIGIN])

    def record(self, row: Mapping[str, Any]) -> bytes:
        """Return the line of a record, from a row of the statement `rejected_records`."""
        raw = row["raw"].encode() if row["raw_bytes"] is None else self._readable(bytes(row["raw_bytes"]))
        values = self._values(raw)
        origin = (str(row["line"]), row["columns"], row["codes"], row["messages"])
        return self._line([*(values[i] for i in self._kept), *origin])

    def _values(self, raw: bytes) -> list[str | None]:
        """Return the record's fields, as many as the header has: missing ones are NULL, surplus ones join the last."""
        found = [None if field is None else _text(field) for field in fields(raw, self._dialect)]
        names = self._dialect.columns
        if len(found) == len(names):
            found = [value for value, name in zip(found, names, strict=True) if name]  # the others are not loaded
        width = len(self._header)
        if len(found) > width:
            surplus = [self._dialect.null if field is None else field for field in found[width - 1 :]]
            found[width - 1 :] = [self._dialect.delimiter.join(surplus)]
        return found + [None] * (width - len(found))

    def _readable(self, raw: bytes) -> bytes:
        """Return the bytes of a record that is no text in its encoding as UTF-8, as far as they are one."""
        encoding = self._dialect.encoding
        return raw if encoding == UTF_8 else raw.decode(encoding, "backslashreplace").encode()

    def _line(self, values: Sequence[str | None]) -> bytes:
        written = (_written(self._guarded(value), self._dialect) for value in values)
        end = "\r" if self._dialect.newline == "cr" else "\n"
        return (self._dialect.delimiter.join(written) + end).encode(self._dialect.encoding, "backslashreplace")

    def _guarded(self, value: str | None) -> str | None:
        return value if value is None or (self._came_back and value.startswith("'")) else guard(value)


def _text(field: bytes) -> str:
    """Return a field as text that any program can read: bytes that are no UTF-8, and NUL, as escapes."""
    return field.decode("utf-8", "backslashreplace").replace("\x00", "\\x00")


def _written(value: str | None, dialect: Dialect) -> str:
    """Return a field as it stands in the file; a text that would be taken for NULL is quoted, if anything is."""
    if value is None:
        return dialect.null
    special = (dialect.delimiter, "\n", "\r", *filter(None, (dialect.quote, dialect.escape)))
    if value == dialect.null or value != value.strip() or any(sign in value for sign in special):
        return _quoted(value, dialect)
    return value


def _quoted(text: str, dialect: Dialect) -> str:
    quote, escape = dialect.quote, dialect.escape
    if escape:
        text = text.replace(escape, escape * 2)
        for sign in (quote,) if quote else (dialect.delimiter, "\n", "\r"):
            text = text.replace(sign, escape + sign)
    elif quote:
        text = text.replace(quote, quote * 2)
    return quote + text + quote
