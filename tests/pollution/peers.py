"""Other readers of CSV: Python's own and DuckDB's, each told the dialect, and each left to find it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import duckdb

from tests.pollution.pollute import Polluted
from tests.pollution.score import Read, Reader
from tests.pollution.source import Cells

# What DuckDB needs to read as much as it can: the settings that it was entered into the benchmark with. Left to find
# the dialect, it does much better without the padding, which makes it see a column too many.
TOLD = {"strict_mode": False, "ignore_errors": True, "parallel": False, "null_padding": True}
SNIFFED = {"strict_mode": False, "ignore_errors": True, "parallel": False}


def csv_told(file: Polluted) -> Read | None:
    """Read with Python's csv, told the dialect; the names are those that are told."""
    told, spaced = file.told, len(file.told.delimiter) > 1
    return _with_csv(
        file,
        lambda text: csv.reader(
            text,
            delimiter=told.delimiter[0],
            skipinitialspace=spaced,
            quotechar=told.quote,
            escapechar=told.escape or None,
            doublequote=not told.escape,
        ),
        lambda rows: _named(file, rows[told.skip_rows + told.header_rows :]),
    )


def csv_sniffed(file: Polluted) -> Read | None:
    """Read with Python's csv, its Sniffer having looked at the file; the first row is the header."""

    def reader(text: io.StringIO) -> Any:
        dialect = csv.Sniffer().sniff(text.read())
        text.seek(0)
        return csv.reader(text, dialect)

    return _with_csv(file, reader, lambda rows: Read(tuple(rows[0]), [tuple(row) for row in rows[1:]]))


def _with_csv(
    file: Polluted, reader: Callable[[io.StringIO], Any], as_read: Callable[[list[list[str]]], Read]
) -> Read | None:
    try:
        return as_read([row for row in reader(io.StringIO(file.data.decode(file.told.encoding), newline="")) if row])
    except csv.Error:
        return None


def _named(file: Polluted, rows: Sequence[Sequence[str]]) -> Read:
    header = file.told.names if file.told.header_rows else None
    return Read(header, [tuple(row) for row in rows])


def with_duckdb(folder: Path, *, told: bool) -> Reader:
    """Return a reader with DuckDB, told the dialect or left to sniff it; files go through `folder`."""
    path, read = folder / "polluted.csv", _duckdb_told if told else _duckdb_sniffed
    connection = duckdb.connect(config={"threads": 1})

    def reader(file: Polluted) -> Read | None:
        path.write_bytes(file.data)
        try:
            return read(connection, path, file)
        except duckdb.Error:
            return None

    return reader


def _duckdb_told(connection: duckdb.DuckDBPyConnection, path: Path, file: Polluted) -> Read:
    told = file.told
    rows = _rows(
        connection, path, told.names, skip=told.skip_rows + told.header_rows, delim=told.delimiter, quote=told.quote,
        escape=told.escape or told.quote, **TOLD,
    )  # fmt: skip
    return _named(file, rows)


def _duckdb_sniffed(connection: duckdb.DuckDBPyConnection, path: Path, file: Polluted) -> Read:
    # In two steps, so that all columns come as the texts they are in the file.
    sniffed = connection.execute(f"FROM sniff_csv(?, {_arguments(SNIFFED)})", [str(path)])
    names = [each[0] for each in sniffed.description or ()]
    found = dict(zip(names, sniffed.fetchone() or (), strict=True))
    columns = tuple(each["name"] for each in found["Columns"])
    rows = _rows(
        connection, path, columns, skip=found["SkipRows"] + found["HasHeader"], delim=_none(found["Delimiter"]),
        quote=_none(found["Quote"]), escape=_none(found["Escape"]), **SNIFFED,
    )  # fmt: skip
    return Read(columns if found["HasHeader"] else None, [tuple(row) for row in rows])


def _none(char: str) -> str:
    return "" if char == "(empty)" else char


def _rows(connection: duckdb.DuckDBPyConnection, path: Path, names: Cells, **options: object) -> list[Cells]:
    columns = "{" + ", ".join(f"{_literal(name)}: 'VARCHAR'" for name in names) + "}"
    given = _arguments({**options, "header": False, "auto_detect": False})
    found = connection.execute(f"FROM read_csv(?, columns = {columns}, {given})", [str(path)]).fetchall()
    return [tuple(cell or "" for cell in row) for row in found]


def _arguments(options: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {_literal(value)}" for name, value in options.items())


def _literal(value: object) -> str:
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value).lower()
