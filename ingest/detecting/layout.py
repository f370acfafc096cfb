"""Where the table of a reading begins and ends: preamble, header records, footers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ingest.detecting.footers import footers
from ingest.detecting.kinds import TYPED, Kind, LooksOf
from ingest.detecting.masking import shown
from ingest.detecting.reading import Reading, Row

Expected = Callable[[Sequence[str]], float]

MOST_ROWS = 100  # looked at for what columns hold
MOST_COLUMNS = 300
MOST_HEADER_ROWS = 4
# Records that are shown to the dataset, and how well a header must fit to be one.
MOST_ASKED = 12
FITS = 0.5
SURE = 0.999
AHEAD = 0.05  # of two records as one header against one alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """`header` is the first record of the table, with `header_rows` records of names; `footer_rows` records follow it.

    `fit` is how well the dataset knows the names (0 to 1); `why` says why there is a header or none.
    """

    header: int
    header_rows: int
    footer_rows: int
    names: tuple[str, ...]
    fit: float
    why: str


def layout_of(reading: Reading, looks: LooksOf, *, end: Sequence[Row], expected: Expected | None) -> Layout:
    """Return where the table of a reading is; `end` are the last records of the file, none while they are not known.

    `expected` may be asked some MOST_ASKED times.
    """
    footer_rows = footers(end, reading.width, _column_kinds(reading.table[1:], reading.width, looks)[:1], looks)
    rows = reading.rows[: len(reading.rows) - footer_rows] if end and end[-1] is reading.rows[-1] else reading.rows
    fit, at, count = _best_fit(reading, rows, looks, expected) if expected else (0.0, 0, 1)
    if fit >= FITS:
        return _layout(reading, at, count, footer_rows, fit, "the dataset expects it")
    at = _first(reading, rows, looks)
    kinds = _column_kinds(rows[at + 1 :], reading.width, looks)
    is_header, why = _is_header(rows[at], rows[at + 1 :], kinds, looks)
    count = _header_rows(rows[at:], kinds, looks) if is_header else 0
    return _layout(reading, at, count, footer_rows, fit, why)


def names_of(rows: Sequence[Row], reading: Reading) -> tuple[str, ...]:
    """Return the names that header records say together, joined by blanks."""
    ways = reading.ways
    texts = [[shown(cell, ways.quote, ways.escape).strip() for cell in row.cells] for row in rows]
    width = max(map(len, texts))
    padded = [[*cells, *[""] * (width - len(cells))] for cells in texts]
    return tuple(" ".join(filter(None, column)) for column in zip(*padded, strict=True))


def _layout(reading: Reading, at: int, count: int, footer_rows: int, fit: float, why: str) -> Layout:
    names = names_of(reading.rows[at : at + count], reading) if count else ()
    return Layout(header=at, header_rows=count, footer_rows=footer_rows, names=names, fit=fit, why=why)


def _best_fit(reading: Reading, rows: Sequence[Row], looks: LooksOf, expected: Expected) -> tuple[float, int, int]:
    """Return how well the record that fits best is known to the dataset, its place, and how many records it is."""
    best = (0.0, 0, 1)
    for at, row in enumerate(rows[:MOST_ASKED]):
        if row.width <= 2000 and (row.width > 1 or reading.width == 1) and _may_be_names(row, looks):
            fit = _fit(expected, names_of([row], reading))
            best = max(best, (fit, at, 1), key=lambda one: one[0])
    fit, at, _ = best
    for first in {0, max(0, at - 1)} if len(rows) > 2 and fit < SURE else ():
        joined = _fit(expected, names_of(rows[first : first + 2], reading))
        best = max(best, (joined - AHEAD, first, 2), key=lambda one: one[0])
    return best


def _may_be_names(row: Row, looks: LooksOf) -> bool:
    """Tell whether it is worth to ask the dataset about a record: few of its fields are values for sure."""
    typed = sum(looks[cell].kind in TYPED for cell in row.cells[:MOST_COLUMNS])
    return 2 * typed <= min(row.width, MOST_COLUMNS)


def _fit(expected: Expected, names: tuple[str, ...]) -> float:
    """Return how well the dataset knows the names there are; one that is missing says little."""
    there = tuple(filter(None, names))
    return expected(there) * (0.9 + 0.1 * len(there) / len(names)) if there else 0.0


def _first(reading: Reading, rows: Sequence[Row], looks: LooksOf) -> int:
    """Return the place of the first record of the table: no title in the first field alone, no comment."""
    at = min(reading.start, len(rows) - 1)
    after = at
    while after < len(rows) - 1 and rows[after].filled <= 1:
        after += 1
    if reading.width > 2 and 2 * rows[after].filled > reading.width:
        at = after
    while at + 2 < len(rows) and rows[at].cells[0].startswith("#") and _names_follow(reading, rows[at + 1 :], looks):
        at += 1
    return at


def _names_follow(reading: Reading, rows: Sequence[Row], looks: LooksOf) -> bool:
    kinds = _column_kinds(rows[1:], reading.width, looks)
    own = [looks[cell].kind for cell in rows[0].cells[:MOST_COLUMNS]]
    names, values = _votes(rows[0], rows[1:], own, kinds)
    return names > values


def _column_kinds(rows: Sequence[Row], width: int, looks: LooksOf) -> list[Kind | None]:
    """Return what each column holds nearly everywhere, None where that is words or differs."""
    kinds: list[Kind | None] = []
    first = min(2, len(rows) // 3)  # which may be names too
    body = [row for row in rows[first : first + MOST_ROWS] if row.width == width]
    for place in range(min(width, MOST_COLUMNS)):
        found = [kind for row in body if (kind := looks[row.cells[place]].kind) is not Kind.EMPTY]
        most = Counter(found).most_common(1)
        sure = most and most[0][0] in {*TYPED, Kind.CODE} and 5 * most[0][1] >= 4 * len(found)
        kinds.append(most[0][0] if sure else None)
    return kinds


def _is_header(row: Row, rows: Sequence[Row], kinds: Sequence[Kind | None], looks: LooksOf) -> tuple[bool, str]:
    """Tell whether a record names the columns of those that follow, and say why."""
    own = [looks[cell].kind for cell in row.cells[:MOST_COLUMNS]]
    if not rows:
        typed = sum(kind in TYPED for kind in own)
        return (typed == 0, "it is the only record" + (f", and {typed} of its fields are no names" if typed else ""))
    names, values = _votes(row, rows, own, kinds)
    if values > names:
        return False, "the first record looks like those that follow"
    if names:
        return True, "it does not look like the records that follow"
    return True, "nothing speaks against it"


def _votes(row: Row, rows: Sequence[Row], own: Sequence[Kind], kinds: Sequence[Kind | None]) -> tuple[float, float]:
    """Return what speaks for names in a record, and what for values."""
    names = values = 0.0
    body = [other.cells for other in rows[:MOST_ROWS]]
    years = _are_years(row, own)
    body = [cells for cells in body if cells != row.cells]
    for place, (kind, column) in enumerate(zip(own, kinds, strict=False)):
        below = [cells[place] for cells in body if place < len(cells) and cells[place].strip()]
        if kind is Kind.EMPTY or not below:
            continue
        if column is not None and kind != column:
            names += 1 if column in TYPED else 0.5
        elif column in TYPED and not years:
            values += 1
        elif column is None:
            alike, differs = _as_text(row.cells[place], below)
            values, names = values + alike, names + differs
    return names, values


def _as_text(cell: str, below: Sequence[str]) -> tuple[float, float]:
    """Return what a column of texts says: (for a value, for a name)."""
    if cell in below:
        return 0.7, 0
    shapes = {_shape(other) for other in below}
    if len(shapes) == 1 and len(below) > 2:
        return (0.4, 0) if _shape(cell) in shapes else (0, 0.4)
    return 0, 0


def _shape(text: str) -> str:
    """Return a text with one letter for all of a kind: codes of one column have the same."""
    return "".join("9" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in text[:40])


def _are_years(row: Row, own: Sequence[Kind]) -> bool:
    """Tell whether the numbers of a record are years, one after the other, as tables over time name columns."""
    texts = [cell.strip() for cell, kind in zip(row.cells, own, strict=False) if kind is Kind.NUMBER]
    years = [int(text) for text in texts if text.isdigit() and 1800 <= int(text) <= 2200]
    return len(years) == len(texts) >= 2 and all(b - a == 1 for a, b in pairwise(years))


def _header_rows(rows: Sequence[Row], kinds: Sequence[Kind | None], looks: LooksOf) -> int:
    """Return how many records at the beginning are names: the same again, or words over columns of values."""
    count = 1
    typed = [place for place, kind in enumerate(kinds) if kind in TYPED]
    # What is there again and again is a record, not a header.
    repeated = sum(row.cells == rows[0].cells for row in rows[:MOST_ROWS]) <= min(MOST_HEADER_ROWS, len(rows) - 1)
    while count < min(MOST_HEADER_ROWS, len(rows) - 1):
        row = rows[count]
        own = [looks[cell].kind for cell in row.cells]
        words = [place for place in typed if place < len(own) and own[place] in (Kind.WORDS, Kind.TEXT)]
        gaps = row.filled == row.width > rows[0].filled
        again = row.cells == rows[0].cells and row.filled > 1 and repeated
        above = typed and len(words) == len(typed) and (len(typed) > 1 or gaps)
        if not (again or above or (gaps and _are_years(row, own))):
            break
        count += 1
    return count
