"""What is found before PostgreSQL sees the bytes: malformed records, and words that mean another date on a retry."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from ingest.batch import Batch
from ingest.dialect import Dialect
from ingest.loading.fields import fields
from ingest.loading.patterns import Pattern, matches
from ingest.reject import MAX_RAW_BYTES, MAX_VALUE_CHARS, Reject
from ingest.splitter import Records, records

MOVING_DATE = re.compile(rb"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)
# Dates, times and timestamps, arrays and ranges of them (tsrange, tstzrange, tsmultirange).
DATE_TYPES = ("date", "time", "tsr", "tstz", "tsm")


def records_of(batch: Batch) -> Records:
    """Return where the batch's records are."""
    spec = batch.chunk.spec
    return records(batch.data, spec.dialect, batch.range.first_line, len(spec.columns) == 1)


def may_stage(batch: Batch) -> bool:
    """Tell whether the batch's bytes can go to a COPY into a staging table as they are."""
    return not batch.range.blank_lines and not has_copy_end(batch.data)


def has_moving_dates(batch: Batch) -> bool:
    """Tell whether a word like `today` is anywhere in the batch."""
    return bool(matches(batch.data, Pattern.MOVING_DATE))


def may_copy(batch: Batch) -> bool:
    """Tell whether the batch's bytes can go to a COPY into their table as they are."""
    if batch.range.blank_lines:
        return False
    dates = date_columns(batch)
    found = matches(batch.data, *((Pattern.COPY_END, Pattern.MOVING_DATE) if dates else (Pattern.COPY_END,)))
    if Pattern.COPY_END in found:
        return False
    words = found.get(Pattern.MOVING_DATE)
    return not words or not any(_moves(values, dates) for values in _records_at(batch, words))


def has_copy_end(data: bytes) -> bool:
    """Tell whether a line of `data` is `\\.`."""
    return b"\\." in data and bool(matches(data, Pattern.COPY_END))


def date_columns(batch: Batch) -> list[int]:
    """Return the positions of the columns that PostgreSQL reads as dates or times."""
    columns = batch.chunk.spec.columns
    return [i for i, column in enumerate(columns) if column.type.startswith(DATE_TYPES)]


def _records_at(batch: Batch, offsets: list[int]) -> Iterator[list[bytes | None]]:
    """Yield the fields of the records that hold the bytes at `offsets`."""
    where = records_of(batch)
    for i in np.unique(np.searchsorted(where.start, offsets, side="right") - 1):
        yield fields(batch.data[where.start[i] : where.end[i]], batch.chunk.spec.dialect)


def _moves(values: list[bytes | None], dates: list[int]) -> bool:
    return any(i < len(values) and MOVING_DATE.search(values[i] or b"") for i in dates)


def malformed(record: bytes, field_count: int, expected: int, dialect: Dialect) -> tuple[str, str] | None:
    """Return the code and sentence for a record that no table could take, or None when it is well-formed."""
    if field_count != expected:
        fewer = "fewer" if field_count < expected else "more"
        return "E_COLUMNS", f"the record has {field_count} fields, {fewer} than the {expected} columns of the header"
    if b"\x00" in record:
        return "E_NUL", "the record holds a NUL byte, which PostgreSQL cannot store as text"
    try:
        record.decode("utf-8")
    except UnicodeDecodeError as error:
        return "E_UTF8", f"byte {error.start + 1} of the record (0x{record[error.start]:02x}) is not valid UTF-8"
    if b"\r" in record and b"\r" in b"".join(record.split(dialect.quote.encode())[::2]):
        return "E_LINE_END", "the record holds a carriage return outside quotes"
    return None


def screened(batch: Batch, where: Records) -> tuple[list[Reject], list[tuple[int, bytes]]]:
    """Part the batch's records into rejects for the malformed ones and the numbered bytes of the others."""
    spec = batch.chunk.spec
    broken: list[Reject] = []
    sound: list[tuple[int, bytes]] = []
    columns = zip(where.start.tolist(), where.end.tolist(), where.line.tolist(), where.fields.tolist(), strict=True)
    for i, (start, end, line, field_count) in enumerate(columns):
        record = batch.data[start:end]
        wrong = malformed(record, field_count, len(spec.columns), spec.dialect)
        if wrong is None:
            sound.append((i, record))
        else:
            broken.append(reject_of(batch, line=line, start=start, record=record, code=wrong[0], message=wrong[1]))
    return broken, sound


def reject_of(
    batch: Batch, *, line: int, start: int, record: bytes, code: str, message: str,
    column: str | None = None, sqlstate: str | None = None,
) -> Reject:  # fmt: skip
    """Build the reject for a record that begins at byte `start` of the batch and line `line` of the file."""
    value = _value_of(record, column, batch) if column else None
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
    by_name = dict(zip((c.name for c in spec.columns), fields(record, spec.dialect), strict=False))
    names = [column] if column in by_name else column.split(", ")
    found = [by_name.get(name) for name in names]
    if all(value is None for value in found):
        return None
    return ", ".join((value or b"").decode("utf-8", "backslashreplace") for value in found)
