"""Records that no table could take: too few or too many fields, quotes in the wrong places, bytes that are no text."""

from __future__ import annotations

import re

from ingest.dialect import Dialect
from ingest.loading.fields import has_plain_quotes, stray_quote
from ingest.reading.tokens import tokens


def malformed(record: bytes, field_count: int, expected: int, dialect: Dialect) -> tuple[str, str] | None:
    """Return the code and sentence for a record that no table could take, or None when it is well-formed."""
    if dialect.quote and dialect.quote.encode() in record and (stray := stray_quote(record, dialect)):
        return _stray(*stray, record, dialect)
    if field_count != expected:
        fewer = "fewer" if field_count < expected else "more"
        text = f"the record has {field_count} fields, {fewer} than the {expected} columns of the header"
        return "E_COLUMNS", text + _guess(record, field_count, expected, dialect)
    if b"\x00" in record:
        return "E_NUL", "the record holds a NUL byte, which PostgreSQL cannot store as text"
    try:
        record.decode("utf-8")
    except UnicodeDecodeError as error:
        return "E_UTF8", f"byte {error.start + 1} of the record (0x{record[error.start]:02x}) is not valid UTF-8"
    if b"\r" in record and _has_bare_cr(record, dialect):
        return "E_LINE_END", "the record holds a carriage return outside quotes"
    return None


def _has_bare_cr(record: bytes, dialect: Dialect) -> bool:
    if not dialect.quote:
        return True
    if not has_plain_quotes(dialect):
        return any(b"\r" in token.text for token in tokens(record, dialect) if not token.quoted)
    return b"\r" in b"".join(record.split(dialect.quote.encode())[::2])


def _stray(number: int, trailing: bool, record: bytes, dialect: Dialect) -> tuple[str, str]:
    """Return code and sentence for a quote in field `number` that does not stand around the field."""
    is_open = trailing and has_plain_quotes(dialect) and record.count(dialect.quote.encode()) % 2
    return faulty(number, "open" if is_open else "trail" if trailing else "bare", record)


def faulty(number: int, fault: str, record: bytes) -> tuple[str, str]:
    """Return code and sentence for what is wrong with field `number`: `open`, `trail` or `bare` quotes, or a `cr`."""
    if fault == "open":
        return "E_QUOTE_OPEN", f"the quote that opens field {number} is never closed"
    if fault == "cr":
        return "E_LINE_END", f"field {number} holds a carriage return outside quotes"
    trailing = fault == "trail"
    what = "goes on after its closing quote" if trailing else "holds a quote without beginning with one"
    text = f"field {number} {what}: a quote belongs around the whole field, or doubled inside it"
    if swallowed := record.count(b"\n"):
        text += f"; {swallowed} more line{'s were' if swallowed > 1 else ' was'} taken for a part of the record"
    return "E_QUOTE_TRAIL" if trailing else "E_QUOTE_BARE", text


def _guess(record: bytes, field_count: int, expected: int, dialect: Dialect) -> str:
    """Return what may be the cause of a wrong number of fields, as the end of a sentence."""
    delimiter = dialect.delimiter.encode()
    other = b"'" if dialect.quote == '"' else b'"'
    if field_count == expected + 1 and record.endswith(delimiter):
        return "; it ends with a delimiter (trailing delimiter)"
    if field_count > expected and re.search(rb"(?:^|%b)%b" % (re.escape(delimiter), other), record):
        return f"; fields seem to be quoted with {other.decode()}, which the option quote would say"
    return ""
