"""A plain reader for any dialect, on Python's csv: two dialects are the same for a file when it reads the same."""

from __future__ import annotations

import csv
import re

from ingest.dialect import Dialect

SUBSTITUTE = "\ue000"


def read(data: bytes, dialect: Dialect) -> tuple[tuple[str, ...], list[list[str]]]:
    """Return the names in the header and the records of a file."""
    text = data.decode(dialect.encoding, "replace").removeprefix("\ufeff")
    text = text.replace("\r\n", "\n").replace("\r", "\n" if dialect.newline == "cr" else "\r")
    lines = text.split("\n")[dialect.skip_rows :]
    kept = [f"{line}\n" for line in lines if not (dialect.comment and line.startswith(dialect.comment))]
    rows = [row for row in _rows(kept, dialect) if row]
    rows = rows[: len(rows) - dialect.footer_rows]
    header, records = rows[: dialect.header_rows], rows[dialect.header_rows :]
    names = tuple(" ".join(filter(None, column)) for column in zip(*header, strict=False))
    return names, records


def _rows(lines: list[str], dialect: Dialect) -> list[list[str]]:
    delimiter = dialect.delimiter
    if len(delimiter) > 1:
        lines, delimiter = [line.replace(delimiter, SUBSTITUTE) for line in lines], SUBSTITUTE
    reader = csv.reader(
        (line.replace("\r", " ") for line in lines),
        delimiter=delimiter,
        quotechar=dialect.quote or None,
        quoting=csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE,
        escapechar=dialect.escape or None,
        doublequote=True,
        skipinitialspace=dialect.trim,
    )
    rows = [[cell.replace(SUBSTITUTE, dialect.delimiter) for cell in row] for row in reader]
    return [[cell.strip() if dialect.trim else re.sub(r"\n$", "", cell) for cell in row] for row in rows]
