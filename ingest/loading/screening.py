"""What is found before PostgreSQL sees the bytes: malformed records, and words that mean another date on a retry."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import numpy as np

from ingest.batch import Batch
from ingest.definitions.names import tidy
from ingest.encodings import UTF_8
from ingest.loading.fields import field_at, fields
from ingest.loading.malformed import faulty, malformed
from ingest.loading.patterns import Pattern, header_expression, matches
from ingest.reading.records import Records, records
from ingest.reading.strays import has_stray_quote
from ingest.reading.transcoding import sent_bytes, sent_length
from ingest.reject import MAX_RAW_BYTES, MAX_VALUE_CHARS, Reject
from ingest.spec import Column

MOVING_DATE = re.compile(rb"(?<![a-z])(?:now|today|tomorrow|yesterday)(?![a-z])", re.IGNORECASE)
MAX_RECORDS = 1 << 62  # more than any batch has
REPEATED = ("E_HEADER_REPEAT", "the header once more: another file seems to have been appended here")
# Dates, times and timestamps, arrays and ranges of them (tsrange, tstzrange, tsmultirange).
DATE_TYPES = ("date", "time", "tsr", "tstz", "tsm")


def records_of(batch: Batch) -> Records:
    """Return where the batch's records are."""
    spec = batch.chunk.spec
    single = spec.width == 1
    return records(batch.data, spec.dialect, batch.range.first_line, single, spec.width, spec.max_record_bytes)


def may_stage(batch: Batch) -> bool:
    """Tell whether the batch's bytes can go to a COPY into a staging table as they are."""
    if batch.is_plain:
        return True
    if batch.range.blank_lines or (batch.source and batch.source.faults) or _has_stray_quote(batch):
        return False
    found = _matches(batch, Pattern.COPY_END)
    return Pattern.COPY_END not in found and not _repeats(batch, found.get(Pattern.HEADER))


def screen(batch: Batch) -> Batch:
    """Return the batch, with whether its bytes can go as they are to the COPY that is tried first.

    Apart from that COPY, so that it can be done in a thread while the server is busy with the batches before.
    """
    if not batch.chunk.spec.dialect.is_native:
        return batch  # what COPY gets will be other bytes
    return replace(batch, is_plain=(may_stage if batch.chunk.spec.plan else may_copy)(batch))


def has_moving_dates(batch: Batch) -> bool:
    """Tell whether a word like `today` is anywhere in the batch."""
    return bool(matches(batch.data, Pattern.MOVING_DATE))


def may_copy(batch: Batch) -> bool:
    """Tell whether the bytes of a batch without a plan can go to a COPY into their table as they are."""
    if batch.is_plain is not None:
        return batch.is_plain
    if batch.range.blank_lines or (batch.source and batch.source.faults) or _has_stray_quote(batch):
        return False
    return has_plain_words(batch)


def has_plain_words(batch: Batch) -> bool:
    """Tell whether COPY takes every line of a batch for what it is, and each word that it reads as a date or time.

    It would end at a line `\\.`; the header once more is no record; `today` means another day when it is read again.
    """
    dates = date_columns(batch)
    found = _matches(batch, *((Pattern.COPY_END, Pattern.MOVING_DATE) if dates else (Pattern.COPY_END,)))
    if Pattern.COPY_END in found or _repeats(batch, found.get(Pattern.HEADER)):
        return False
    words = found.get(Pattern.MOVING_DATE)
    return not words or not any(_moves(values, dates) for _, values in _records_at(batch, words))


def _has_stray_quote(batch: Batch) -> bool:
    return has_stray_quote(batch.data, batch.chunk.spec.dialect)


def _matches(batch: Batch, *patterns: Pattern) -> dict[Pattern, list[int]]:
    """Search a batch for patterns, and for its header where there is one: in the bytes as they were stored."""
    header = batch.chunk.spec.known_header
    if not header:
        return matches(batch.data, *patterns)
    stored = _stored(batch)
    expression = header_expression(header, stored.chunk.spec.dialect)
    if stored is batch:
        return matches(batch.data, *patterns, Pattern.HEADER, header=expression)
    found = matches(batch.data, *patterns) if patterns else {}
    return found | matches(stored.data, Pattern.HEADER, header=expression)


def _stored(batch: Batch) -> Batch:
    return batch.source.batch if batch.source else batch


def _repeats(batch: Batch, offsets: list[int] | None) -> set[int]:
    """Return the numbers of the records that are the file's header once more; the stored bytes at `offsets` may be it.

    A file of one column may well hold its column's name among the words it lists: there only a byte order mark tells.
    """
    if not offsets:
        return set()
    header = batch.chunk.spec.known_header
    found = ((i, [_text(value) for value in values]) for i, values in _records_at(_stored(batch), offsets))
    return {
        i
        for i, names in found
        if tuple(map(tidy, names)) == header and (len(header) > 1 or names[0].startswith("\ufeff"))
    }


def repeated_headers(batch: Batch) -> set[int]:
    """Return the numbers of the records that are the file's header once more."""
    return _repeats(batch, _matches(batch).get(Pattern.HEADER)) if batch.chunk.spec.known_header else set()


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


def screened(batch: Batch, where: Records, room: int = MAX_RECORDS) -> tuple[list[Reject], list[tuple[int, bytes]]]:
    """Part the batch's records into rejects for the first `room` malformed ones and the numbered bytes of the sound."""
    spec = batch.chunk.spec
    broken: list[Reject] = []
    sound: list[tuple[int, bytes]] = []
    repeats = repeated_headers(batch)
    faults = batch.source.faults if batch.source else {}
    columns = zip(where.start.tolist(), where.end.tolist(), where.line.tolist(), where.fields.tolist(), strict=True)
    for i, (start, end, line, field_count) in enumerate(columns):
        record = batch.data[start:end]
        if i in faults:
            wrong: tuple[str, str] | None = faulty(*faults[i], original(batch, start)[2])
        else:
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
    return reject_with(batch, line, start, record, code, message, column, sqlstate, value)


def reject_with(
    batch: Batch, line: int, start: int, record: bytes, code: str, message: str,
    column: str | None, sqlstate: str | None, value: str | None,
) -> Reject:  # fmt: skip
    """Build the same where the column's value is known already."""
    if batch.source is not None:
        line, start, record = original(batch, start)
        batch = batch.source.batch
    offset, raw = _as_sent(batch, start, record)
    truncated = len(raw) > MAX_RAW_BYTES or (value is not None and len(value) > MAX_VALUE_CHARS)
    if truncated:
        value, raw = value and value[:MAX_VALUE_CHARS], raw[:MAX_RAW_BYTES]
    return Reject(line, offset, column, value, code, sqlstate, message[:MAX_VALUE_CHARS], raw, truncated)


def original(batch: Batch, start: int) -> tuple[int, int, bytes]:
    """Return line, start and bytes, in the batch as it was stored, of the record that begins at `start` of this one."""
    source = batch.source
    if source is None:
        raise ValueError("the batch is as it was stored")
    i = int(np.searchsorted(source.start, start, side="right")) - 1
    begin, end = int(source.where.start[i]), int(source.where.end[i])
    return int(source.where.line[i]), begin, source.batch.data[begin:end]


def _as_sent(batch: Batch, start: int, record: bytes) -> tuple[int, bytes]:
    """Return where a record is in the file as it was sent, and its bytes: as UTF-8, or if they are none, as sent."""
    encoding = batch.chunk.spec.dialect.encoding
    if encoding == UTF_8:
        return batch.chunk.cut.file_offset + batch.range.start + start, record
    offset = batch.range.offset + sent_length(batch.data[:start], encoding)
    try:
        record.decode()
    except UnicodeDecodeError:
        return offset, sent_bytes(record, encoding)
    return offset, record


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
