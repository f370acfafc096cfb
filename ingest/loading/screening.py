"""What is found before PostgreSQL sees the bytes: malformed records, and words that mean another date on a retry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from ingest.batch import Batch
from ingest.bits import has_stray_quote
from ingest.definitions.names import tidy
from ingest.dialect import Dialect
from ingest.loading.fields import field_at, fields, stray_quote
from ingest.loading.patterns import Pattern, header_expression, matches
from ingest.reject import MAX_RAW_BYTES, MAX_VALUE_CHARS, Reject
from ingest.spec import Column
from ingest.splitter import Records, records

MOVING_DATE = re.compile(rb"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)
MAX_RECORDS = 1 << 62  # more than any batch has
REPEATED = ("E_HEADER_REPEAT", "the header once more: another file seems to have been appended here")
# Dates, times and timestamps, arrays and ranges of them (tsrange, tstzrange, tsmultirange).
DATE_TYPES = ("date", "time", "tsr", "tstz", "tsm")


def records_of(batch: Batch) -> Records:
    """Return where the batch's records are."""
    spec = batch.chunk.spec
    return records(batch.data, spec.dialect, batch.range.first_line, len(spec.columns) == 1)


def may_stage(batch: Batch) -> bool:
    """Tell whether the batch's bytes can go to a COPY into a staging table as they are."""
    if batch.range.blank_lines or _has_stray_quote(batch):
        return False
    found = _matches(batch, Pattern.COPY_END)
    return Pattern.COPY_END not in found and not _repeats(batch, found.get(Pattern.HEADER))


def has_moving_dates(batch: Batch) -> bool:
    """Tell whether a word like `today` is anywhere in the batch."""
    return bool(matches(batch.data, Pattern.MOVING_DATE))


def may_copy(batch: Batch) -> bool:
    """Tell whether the batch's bytes can go to a COPY into their table as they are."""
    if batch.range.blank_lines or _has_stray_quote(batch):
        return False
    dates = date_columns(batch)
    found = _matches(batch, *((Pattern.COPY_END, Pattern.MOVING_DATE) if dates else (Pattern.COPY_END,)))
    if Pattern.COPY_END in found or _repeats(batch, found.get(Pattern.HEADER)):
        return False
    words = found.get(Pattern.MOVING_DATE)
    return not words or not any(_moves(values, dates) for _, values in _records_at(batch, words))


def _has_stray_quote(batch: Batch) -> bool:
    """Tell whether a stray quote may have taken lines into a record: only looked for where a record has several."""
    if batch.range.lines == batch.range.records + batch.range.blank_lines:
        return False
    dialect = batch.chunk.spec.dialect
    return has_stray_quote(batch.data, ord(dialect.quote), ord(dialect.delimiter))


def _matches(batch: Batch, *patterns: Pattern) -> dict[Pattern, list[int]]:
    """Search a batch for patterns, and for its header where there is one."""
    spec = batch.chunk.spec
    if not spec.header:
        return matches(batch.data, *patterns)
    header = header_expression(spec.header, spec.dialect)
    return matches(batch.data, *patterns, Pattern.HEADER, header=header)


def _repeats(batch: Batch, offsets: list[int] | None) -> set[int]:
    """Return the numbers of the records that are the file's header once more; the bytes at `offsets` are in question.

    A file of one column may well hold its column's name among the words it lists: there only a byte order mark tells.
    """
    if not offsets:
        return set()
    header = batch.chunk.spec.header
    found = ((i, [_text(value) for value in values]) for i, values in _records_at(batch, offsets))
    return {
        i
        for i, names in found
        if tuple(map(tidy, names)) == header and (len(header) > 1 or names[0].startswith("\ufeff"))
    }


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", "replace")


def has_copy_end(data: bytes) -> bool:
    """Tell whether a line of `data` is `\\.`."""
    return b"\\." in data and bool(matches(data, Pattern.COPY_END))


def date_columns(batch: Batch) -> list[int]:
    """Return the positions of the columns that PostgreSQL reads as dates or times."""
    columns = batch.chunk.spec.columns
    return [i for i, column in enumerate(columns) if column.type.startswith(DATE_TYPES)]


def _records_at(batch: Batch, offsets: list[int]) -> Iterator[tuple[int, list[bytes | None]]]:
    """Yield number and fields of the records that hold the bytes at `offsets`."""
    where = records_of(batch)
    for i in np.unique(np.searchsorted(where.start, offsets, side="right") - 1):
        yield int(i), fields(batch.data[where.start[i] : where.end[i]], batch.chunk.spec.dialect)


def _moves(values: list[bytes | None], dates: list[int]) -> bool:
    return any(i < len(values) and MOVING_DATE.search(values[i] or b"") for i in dates)


def malformed(record: bytes, field_count: int, expected: int, dialect: Dialect) -> tuple[str, str] | None:
    """Return the code and sentence for a record that no table could take, or None when it is well-formed."""
    # A stray quote that takes neither lines nor fields with it is read as COPY does: to look for it would cost clean
    # files a twentieth of their time.
    may_stray = field_count != expected or b"\n" in record
    if may_stray and (stray := stray_quote(record, dialect)):
        return _stray(*stray, record)
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
    if b"\r" in record and b"\r" in b"".join(record.split(dialect.quote.encode())[::2]):
        return "E_LINE_END", "the record holds a carriage return outside quotes"
    return None


def _stray(number: int, trailing: bool, record: bytes) -> tuple[str, str]:
    """Return code and sentence for a quote in field `number` that does not stand around the field."""
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


def screened(batch: Batch, where: Records, room: int = MAX_RECORDS) -> tuple[list[Reject], list[tuple[int, bytes]]]:
    """Part the batch's records into rejects for the first `room` malformed ones and the numbered bytes of the sound."""
    spec = batch.chunk.spec
    broken: list[Reject] = []
    sound: list[tuple[int, bytes]] = []
    repeats = _repeats(batch, _matches(batch).get(Pattern.HEADER)) if spec.header else ()
    columns = zip(where.start.tolist(), where.end.tolist(), where.line.tolist(), where.fields.tolist(), strict=True)
    for i, (start, end, line, field_count) in enumerate(columns):
        record = batch.data[start:end]
        wrong = REPEATED if i in repeats else malformed(record, field_count, len(spec.columns), spec.dialect)
        if wrong is None:
            sound.append((i, record))
        elif len(broken) < room:
            broken.append(reject_of(batch, line=line, start=start, record=record, code=wrong[0], message=wrong[1]))
    return broken, sound


def reject_of(
    batch: Batch, *, line: int, start: int, record: bytes, code: str, message: str,
    column: str | None = None, sqlstate: str | None = None,
) -> Reject:  # fmt: skip
    """Build the reject for a record that begins at byte `start` of the batch and line `line` of the file."""
    value = _value_of(record, column, batch) if column else None
    return reject_with(
        batch, line=line, start=start, record=record, code=code, message=message,
        column=column, sqlstate=sqlstate, value=value,
    )  # fmt: skip


def reject_with(
    batch: Batch, *, line: int, start: int, record: bytes, code: str, message: str,
    column: str | None, sqlstate: str | None, value: str | None,
) -> Reject:  # fmt: skip
    """Build the same where the column's value is known already."""
    return Reject(
        line=line,
        byte_offset=batch.chunk.cut.file_offset + batch.range.start + start,
        column=column,
        value=value[:MAX_VALUE_CHARS] if value else value,
        code=code,
        sqlstate=sqlstate,
        message=message[:MAX_VALUE_CHARS],
        raw=record[:MAX_RAW_BYTES],
        truncated=len(record) > MAX_RAW_BYTES or len(value or "") > MAX_VALUE_CHARS,
    )


def _value_of(record: bytes, column: str, batch: Batch) -> str | None:
    """Return the record's value for one column; for several (`a, b`) their values in the same order."""
    spec = batch.chunk.spec
    places = _places(spec.columns)
    if column in places:
        value = field_at(record, places[column], spec.dialect)
        return None if value is None else value.decode("utf-8", "backslashreplace")
    values = [field_at(record, places[name], spec.dialect) if name in places else None for name in column.split(", ")]
    if all(value is None for value in values):
        return None
    return ", ".join((value or b"").decode("utf-8", "backslashreplace") for value in values)


@lru_cache(maxsize=64)
def _places(columns: tuple[Column, ...]) -> dict[str, int]:
    return {column.name: place for place, column in enumerate(columns)}
