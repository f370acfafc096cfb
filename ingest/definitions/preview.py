"""The first bytes of a file, before it is loaded: how its header is read, its first rows, what is wrong. Pure."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ingest.definitions.matching import Match, Reading, shown
from ingest.definitions.newtable import with_sample
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.header import Header, HeaderReader, with_delimiter_hint

ROWS = 20
MOST_CHARS = 200  # of a value that is shown


class HeaderReading(Protocol):
    """What a preview asks a dataset."""

    def read_header(self, names: Sequence[str]) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A header and the first records after it, each with its line; `broken`: some bytes of it are not UTF-8."""

    header: Header
    rows: tuple[tuple[int, list[str]], ...]
    broken: bool


def read_sample(data: bytes, dialect: Dialect, *, max_record_bytes: int, most_rows: int = ROWS) -> Sample:
    """Read the beginning of a file; what follows the last line end is taken for a part of a record, and left out.

    Raises FileError when the header cannot be read.
    """
    reader = HeaderReader(dialect, max_record_bytes=max_record_bytes)
    header = reader.feed(data) or reader.finish()
    text = header.rest[: header.rest.rfind(b"\n") + 1] or header.rest
    readable = text.decode("utf-8", "backslashreplace")
    rows = islice(_rows(readable, dialect, header.next_line), most_rows)
    return Sample(header, tuple(rows), broken=readable.encode() != text)


def preview(data: bytes, dataset: HeaderReading, dialect: Dialect, *, max_record_bytes: int) -> dict[str, Any]:
    """Return what a load of this file would begin with; nothing is loaded.

    Raises FileError when the header cannot be read, or belongs to no dataset (E_DATASET_UNSURE).
    """
    sample = read_sample(data, dialect, max_record_bytes=max_record_bytes)
    names = sample.header.names
    try:
        reading = with_sample(dataset, sample.header.rest, dialect).read_header(names)
    except FileError as error:
        raise with_delimiter_hint(error, names, dialect) from error
    return {
        "dataset": reading.dataset,
        "platform": reading.platform,
        "certainty": reading.certainty,
        "dialect": dialect.to_json(),
        "header": list(names),
        "columns": [_column(reading, match) for match in reading.matches.columns],
        "missing": list(reading.missing),
        "ignored": [match.header for match in reading.matches.columns if match.column is None],
        "rows": [[value[:MOST_CHARS] for value in fields] for _, fields in sample.rows],
        "problems": list(_problems(reading, sample, dialect)),
    }


def _column(reading: Reading, match: Match) -> dict[str, Any]:
    """Return what a column of the file is: the dataset's column, and the name or alias that told so."""
    type_name = reading.types.get(match.column) if match.column else None
    return {"name": match.header, "column": match.column, "matched": match.name, "type": type_name}


def _rows(text: str, dialect: Dialect, first_line: int) -> Iterator[tuple[int, list[str]]]:
    lines = (f"{line}\n" for line in text.split("\n"))
    rows = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote)
    before = 0
    try:
        for fields in rows:
            if fields:
                yield first_line + before, fields
            before = rows.line_num
    except csv.Error:
        return  # a field without an end: the load names its line


def _problems(reading: Reading, sample: Sample, dialect: Dialect) -> Iterator[str]:
    matches, names = reading.matches, sample.header.names
    if reading.missing:
        yield f"missing: {shown(reading.missing)}"
    if matches.duplicate:
        yield f"more than once: {shown(matches.duplicate)}"
    if matches.unknown and not reading.ignores_unknown:
        yield f"unknown: {shown(matches.unknown)}"
    if len(names) == 1 and (seen := max(",;\t|", key=names[0].count)) != dialect.delimiter and seen in names[0]:
        yield f"the header seems to be written with the delimiter {seen!r}"
    if sample.broken:
        yield "some bytes are not UTF-8: convert the file to UTF-8"
    for line, fields in sample.rows:
        if len(fields) != len(names):
            yield f"line {line} has {len(fields)} fields, the header has {len(names)}"
    yield from _empty(reading, sample)


def _empty(reading: Reading, sample: Sample) -> Iterator[str]:
    for column, place in reading.matches.positions.items():
        lines = [line for line, fields in sample.rows if place < len(fields) and not fields[place].strip()]
        if column in reading.required and lines:
            yield f"{column} must have a value, but is empty on line {lines[0]}"
