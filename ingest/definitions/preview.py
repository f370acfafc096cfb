"""The first bytes of a file, before it is loaded: how its header is read, its first rows, what is wrong. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ingest.definitions.matching import Match, Reading, shown
from ingest.definitions.newtable import with_sample
from ingest.definitions.positions import names_of, with_hint
from ingest.detecting import Detected
from ingest.detecting.encoding import is_utf8
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.header import Header
from ingest.opening import Expected, Opening, expected_by
from ingest.reading.records import records
from ingest.reading.tokens import tokens

ROWS = 20
MOST_CHARS = 200  # of a value that is shown


class HeaderReading(Protocol):
    """What a preview asks a dataset."""

    def names_known(self) -> frozenset[str]: ...

    def own_names(self) -> Sequence[str]: ...

    def read_header(self, names: Sequence[str]) -> Reading: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A header and the first records after it, each with its line; `broken`: some bytes of it are not UTF-8."""

    header: Header
    rows: tuple[tuple[int, list[str]], ...]
    broken: bool
    dialect: Dialect
    detected: Detected | None


def read_sample(
    data: bytes,
    dialect: Dialect,
    *,
    max_record_bytes: int,
    most_rows: int = ROWS,
    told: Mapping[str, str] | None = None,
    expected: Expected | None = None,
) -> Sample:
    """Read the beginning of a file; what follows the last line end is taken for a part of a record, and left out.

    `told`: the options that make up `dialect`; what they leave out is detected, with the help of what is `expected`.
    Raises FileError when the header cannot be read.
    """
    opening = Opening(dialect, told, expected, max_record_bytes=max_record_bytes)
    header = opening.feed(data) or opening.finish()
    found = opening.detected.dialect if opening.detected else dialect
    newline = b"\r" if found.newline == "cr" else b"\n"
    text = header.rest[: header.rest.rfind(newline) + 1] or header.rest
    rows = tuple(islice(_rows(text, found, header, max_record_bytes), most_rows))
    return Sample(header, rows, not is_utf8(text, ended=True), found, opening.detected)


def preview(
    data: bytes,
    dataset: HeaderReading,
    dialect: Dialect,
    *,
    max_record_bytes: int,
    told: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return what a load of this file would begin with; nothing is loaded.

    Raises FileError when the header cannot be read, belongs to no dataset (E_DATASET_UNSURE), or is not there and the
    dataset has another number of columns (E_HEADER_MISMATCH).
    """
    expected = expected_by(dataset)
    sample = read_sample(data, dialect, max_record_bytes=max_record_bytes, told=told, expected=expected)
    fitted = with_sample(dataset, sample.header, sample.dialect)
    names = names_of(fitted, sample.header, dialect, told)
    try:
        reading = fitted.read_header([name for name in names if name])
    except FileError as error:
        raise with_hint(error, names, sample.header, sample.dialect) from error
    detected = sample.detected
    shown = {"evidence": list(detected.evidence), "options": detected.options} if detected else {}
    return {
        "dataset": reading.dataset,
        "platform": reading.platform,
        "certainty": reading.certainty,
        "dialect": {**sample.dialect.to_json(), "evidence": [], "options": "", **shown},
        "header": list(sample.header.names),
        "columns": [_column(reading, match) for match in reading.matches.columns],
        "missing": list(reading.missing),
        "ignored": [match.header for match in reading.matches.columns if match.column is None],
        "rows": [[value[:MOST_CHARS] for value in fields] for _, fields in sample.rows],
        "problems": list(_problems(reading, sample, sample.dialect)),
    }


def _column(reading: Reading, match: Match) -> dict[str, Any]:
    """Return what a column of the file is: the dataset's column, and the name or alias that told so."""
    type_name = reading.types.get(match.column) if match.column else None
    return {"name": match.header, "column": match.column, "matched": match.name, "type": type_name}


def _rows(text: bytes, dialect: Dialect, header: Header, max_record_bytes: int) -> Iterator[tuple[int, list[str]]]:
    width = header.width
    where = records(text, dialect, header.next_line, width == 1, width, max_record_bytes)
    for start, end, line in zip(where.start.tolist(), where.end.tolist(), where.line.tolist(), strict=True):
        found = tokens(text[start:end], dialect)
        yield line, [token.text.decode("utf-8", "backslashreplace") for token in found]


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
    first = "the header" if names else "the first record"
    for line, fields in sample.rows:
        if len(fields) != sample.header.width:
            yield f"line {line} has {len(fields)} fields, {first} has {sample.header.width}"
    yield from _empty(reading, sample)


def _empty(reading: Reading, sample: Sample) -> Iterator[str]:
    for column, place in reading.matches.positions.items():
        lines = [line for line, fields in sample.rows if place < len(fields) and not fields[place].strip()]
        if column in reading.required and lines:
            yield f"{column} must have a value, but is empty on line {lines[0]}"
