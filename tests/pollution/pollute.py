"""Every kind of broken file: the published list of the Pollock benchmark, made from our own table.

The list (Vitagliano et al., VLDB 2023) is of what was met among 245,000 public CSV files. As there, a structural
character that is changed is changed alone: what was not quoted for the comma is not quoted for the space either. The
same change made by a careful writer is a kind of its own beside it (`careful`), which is not in the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from tests.pollution.source import NAMES, RECORDS, Cells, Row, Style, Told, written

BASE = Style()
PREAMBLE = "Ferry log"


@dataclass(frozen=True)
class Polluted:
    """A broken file, and what a reader should make of it.

    `header` is None where the file has none. `lines` are the physical lines that the `records` begin on.
    """

    name: str
    kind: str
    data: bytes
    header: Cells | None
    records: tuple[Cells, ...]
    lines: tuple[int, ...]
    told: Told
    listed: bool = True

    def __str__(self) -> str:
        return self.name


def polluted() -> Iterator[Polluted]:
    """Yield all files of the list, then those beside it."""
    yield from _whole_files()
    yield from _dialects()
    yield from _rows()
    yield from _careful()


def sampled(files: Sequence[Polluted], of_a_kind: int) -> list[Polluted]:
    """Return so many files of each kind, evenly from all of them."""
    kinds: dict[str, list[Polluted]] = {}
    for file in files:
        kinds.setdefault(file.kind, []).append(file)
    return [each for kind in kinds.values() for each in _spread(kind, of_a_kind)]


def _spread(files: list[Polluted], count: int) -> list[Polluted]:
    # From the middle of equal parts: with the first one, each kind would be judged by its broken header.
    return [files[place] for place in sorted({int((n + 0.5) * len(files) / count) for n in range(count)})]


def _file(
    name: str,
    lines: Sequence[str],
    *,
    kind: str = "",
    header: Cells | None = NAMES,
    records: Sequence[Cells] = RECORDS,
    before: int = 1,
    told: Told | None = None,
    listed: bool = True,
) -> Polluted:
    """Make a file of lines, `before` of which come before the first record."""
    return Polluted(
        name=name,
        kind=kind or name,
        data="".join(lines).encode(),
        header=header,
        records=tuple(records),
        lines=tuple(range(before + 1, before + 1 + len(records))),
        told=told or Told(names=header or NAMES),
        listed=listed,
    )


@cache
def _rows_of(style: Style = BASE, quoted_for: Style | None = None) -> tuple[Row, ...]:
    return tuple(written([NAMES, *RECORDS], style, quoted_for=quoted_for))


@cache
def _lines_of(style: Style = BASE, quoted_for: Style | None = None) -> tuple[str, ...]:
    return tuple(row.text() for row in _rows_of(style, quoted_for))


def _whole_files() -> Iterator[Polluted]:
    lines, end = _lines_of(), BASE.newline
    yield _file("source", lines)
    yield _file("no_payload", [], header=None, records=(), before=0, told=Told(names=NAMES, header_rows=0))
    yield _file("no_final_newline", [*lines[:-1], lines[-1].removesuffix(end)])
    yield _file("double_final_newline", [*lines, end])
    yield _file("no_header", lines[1:], header=None, before=0, told=Told(names=NAMES, header_rows=0))
    for count in (2, 3):
        joined = tuple(" ".join([name] * count) for name in NAMES)
        told = Told(names=joined, header_rows=count)
        yield _file(
            f"header_of_{count}_rows", [lines[0]] * count + [*lines[1:]], header=joined, before=count, told=told
        )
    empty = BASE.delimiter * (len(NAMES) - 1) + end
    yield _file("preamble", [PREAMBLE + empty, empty, *lines], before=3, told=Told(names=NAMES, skip_rows=2))
    for word, width in (("narrower", -1), ("equal", 0), ("wider", 1)):
        second = [(*cells, "" if n else "More")[: len(NAMES) + width] for n, cells in enumerate([NAMES, *RECORDS])]
        yield _file(f"second_table_{word}", [*lines, *(row.text() for row in written(second))])
    yield _file("header_only", lines[:1], records=())
    yield _file("one_record", lines[:2], records=RECORDS[:1])


def _dialects() -> Iterator[Polluted]:
    for word, char in {"semicolon": ";", "tab": "\t", "space": " ", "comma_space": ", "}.items():
        lines = _lines_of(replace(BASE, delimiter=char), quoted_for=BASE)
        yield _file(f"delimiter_{word}", lines, told=Told(names=NAMES, delimiter=char))
    lines = _lines_of(replace(BASE, quote="'", escape=""), quoted_for=BASE)
    yield _file("quote_apostrophe", lines, told=Told(names=NAMES, quote="'"))
    lines = _lines_of(replace(BASE, escape="\\"))
    yield _file("escape_backslash", lines, told=Told(names=NAMES, escape="\\"))
    yield _file("escape_none", _lines_of(replace(BASE, escape="")))
    for word, char in {"lf": "\n", "cr": "\r"}.items():
        yield _file(f"newline_{word}", _lines_of(replace(BASE, newline=char)), told=Told(names=NAMES, newline=char))


def _rows() -> Iterator[Polluted]:
    """Yield the files in which one row alone is broken, at each place where it can be."""
    width = len(NAMES)
    for number, row in enumerate(_rows_of()):
        for column in range(width):
            if column:
                yield _with_row("missing_delimiter", number, _less(row, column), column)
            yield _with_row("extra_delimiter", number, _more(row, column), column)
            yield _with_quote(number, column)
        yield _with_row("row_delimiter", number, replace(row, delimiters=[" "] * (width - 1)))


def _with_row(kind: str, number: int, instead: Row, *column: int) -> Polluted:
    name = "_".join(map(str, (kind, number, *column)))
    return _file(name, _lines_with(number, instead), kind=kind)


def _lines_with(number: int, row: Row) -> list[str]:
    lines = _lines_of()
    return [*lines[:number], row.text(), *lines[number + 1 :]]


def _less(row: Row, column: int) -> Row:
    return replace(row, delimiters=[*row.delimiters[: column - 1], "", *row.delimiters[column:]])


def _more(row: Row, column: int) -> Row:
    cells = [*row.cells[:column], "", *row.cells[column:]]
    return replace(row, cells=cells, delimiters=[*row.delimiters, BASE.delimiter])


def _with_quote(number: int, column: int) -> Polluted:
    """Put a quote before the text of a cell: it is part of the text, and nobody escaped it."""
    row, texts = _rows_of()[number], [NAMES, *RECORDS]
    cell, cells = row.cells[column], texts[number]
    inside = cell.startswith(BASE.quote)
    broken = replace(
        row, cells=[*row.cells[:column], cell[:inside] + BASE.quote + cell[inside:], *row.cells[column + 1 :]]
    )
    texts[number] = (*cells[:column], BASE.quote + cells[column], *cells[column + 1 :])
    name = f"extra_quote_{number}_{column}"
    lines, told = _lines_with(number, broken), Told(names=texts[0])
    return _file(name, lines, kind="extra_quote", header=texts[0], records=texts[1:], told=told)


def _careful() -> Iterator[Polluted]:
    """Yield the changes of delimiter and quote as a writer makes them that knows what it writes."""
    lines = _lines_of(replace(BASE, delimiter=" "))
    yield _file("careful_space", lines, told=Told(names=NAMES, delimiter=" "), listed=False)
    lines = _lines_of(replace(BASE, quote="'", escape="'"))
    yield _file("careful_apostrophe", lines, told=Told(names=NAMES, quote="'"), listed=False)
