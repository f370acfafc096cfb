"""The clean table all polluted files are made of, and how its rows are written before anything is broken."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Cells = tuple[str, ...]

SOURCE = Path(__file__).with_name("source.csv")

# Columns that are quoted in every row, as many exports do with their long texts.
ALWAYS_QUOTED = frozenset({6, 7})

# Types under which the texts of the table come back from PostgreSQL as they are.
TYPES = ("date", "time", "integer", "text", "numeric(8,2)", "text", "text", "text", "text")


@dataclass(frozen=True)
class Told:
    """What a reader would be told about a file by somebody who knows how it was written.

    `escape` is empty where quotes are doubled, or not escaped at all. `names` are those of the columns, whatever the
    file's `header_rows` say; `skip_rows` are physical lines before them.
    """

    names: Cells
    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    newline: str = "\r\n"
    encoding: str = "utf-8"
    skip_rows: int = 0
    header_rows: int = 1


@dataclass(frozen=True)
class Style:
    """The characters of a dialect; `escape` is what stands before a quote inside quotes."""

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    newline: str = "\r\n"


@dataclass
class Row:
    """A row as it is written: its cells with their quotes, what stands between them, and its line end."""

    cells: list[str]
    delimiters: list[str]
    end: str

    def text(self) -> str:
        """Return the row as it is in the file."""
        between = [*self.delimiters, self.end]
        return "".join(piece for pair in zip(self.cells, between, strict=True) for piece in pair)


def _read() -> tuple[Cells, tuple[Cells, ...]]:
    with SOURCE.open(encoding="utf-8", newline="") as file:
        names, *records = map(tuple, csv.reader(file))
    return names, tuple(records)


# The clean table.
NAMES, RECORDS = _read()


def written(rows: Sequence[Cells], style: Style = Style(), *, quoted_for: Style | None = None) -> list[Row]:
    """Write rows in a style. `quoted_for`: the style whose characters decide which cells are quoted, if another."""
    return [
        Row(
            cells=[_cell(text, place, style, quoted_for or style) for place, text in enumerate(cells)],
            delimiters=[style.delimiter] * (len(cells) - 1),
            end=style.newline,
        )
        for cells in rows
    ]


def _cell(text: str, place: int, style: Style, quoted_for: Style) -> str:
    special = {*quoted_for.delimiter, quoted_for.quote, "\r", "\n"}
    if place not in ALWAYS_QUOTED and not any(char in text for char in special):
        return text
    for char in dict.fromkeys((style.escape, style.quote)) if style.escape not in ("", style.quote) else (style.quote,):
        text = text.replace(char, style.escape + char)
    return style.quote + text + style.quote
