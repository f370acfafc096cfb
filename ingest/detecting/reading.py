"""A sample read in one way: its records, the table among them, and how likely it is that this was meant. Pure.

A wrong delimiter shows in three ways: the records differ in width, fields hold what is left of other delimiters, and
columns hold now a number, now a word. The score is what all three say together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.detecting.kinds import TYPED, Kind, LooksOf
from ingest.detecting.masking import NEWLINE

MOST_CELLS = 1500
MOST_COLUMNS = 500
MOST_ROWS = 60
# How much a record outside of the table counts against one inside, if it is short, and there are not too many.
LEADING = 0.15
TRAILING = 0.3
MOST_TITLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """A way to read: what is between fields (nothing: one column), around them, and before a quote inside."""

    delimiter: str
    quote: str
    escape: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A record as its masked fields; the physical line it begins on, from 1, and whether a blank line is before it."""

    line: int
    cells: Sequence[str]
    after_blank: bool = False

    @property
    def width(self) -> int:
        """The number of fields."""
        return len(self.cells)

    @property
    def filled(self) -> int:
        """The number of fields that hold something."""
        return sum(1 for cell in self.cells if cell and not cell.isspace())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A sample read one way; the table is the records from `start` to `end`, of `width` fields but for a few."""

    ways: Ways
    rows: Sequence[Row]
    width: int
    start: int
    end: int
    agreeing: int
    score: float
    faults: int = 0
    quoted: int = 0

    @property
    def table(self) -> Sequence[Row]:
        """The records of the table, the header among them."""
        return self.rows[self.start : self.end]


def rows_of(masked: str, delimiter: str, *, skip_lines: int = 0, comment: str = "", most: int = 300) -> list[Row]:
    """Return the records of a masked text but for blank and comment lines, and those of the first `skip_lines`."""
    rows: list[Row] = []
    line, blank = 1, False
    for text in masked.split("\n"):
        empty = not text or text.isspace()
        if line > skip_lines and not empty and not (comment and text.startswith(comment)):
            cells = text.split(delimiter) if delimiter else (text,)
            rows.append(Row(line=line, cells=cells, after_blank=blank and bool(rows)))
            if len(rows) >= most:
                break
        blank = empty
        line += 1 + text.count(NEWLINE)
    return rows


def read(ways: Ways, rows: Sequence[Row], looks: LooksOf, *, whole: bool, prior: float = 1.0) -> Reading:
    """Return the likeliest table among records, with its score from 0 to 1."""
    width, start, end, agreeing, consistency = _table(rows, whole)
    body = [row for row in rows[start:end] if row.width == width]
    quality, faults, quoted = _quality(body, width, looks)
    fault_free = 1 - 0.5 * faults / max(1, faults + quoted) if ways.quote == '"' else 1
    score = consistency**2 * quality * _breadth(width) * prior * fault_free * _beginning(rows, start, width, looks)
    return Reading(
        ways=ways,
        rows=rows,
        width=width,
        start=start,
        end=end,
        agreeing=agreeing,
        score=score,
        faults=faults,
        quoted=quoted,
    )


def _breadth(width: int) -> float:
    return 1 - 0.3 / width if width > 1 else 0.66


def _beginning(rows: Sequence[Row], start: int, width: int, looks: LooksOf) -> float:
    """Return less than 1 for a table whose first record has another width, or that begins amid lines without names."""
    first = rows[start]
    if first.width != width:
        return 0.9
    above = rows[start - 1] if start and not first.after_blank else None
    if above is None or above.cells[0].startswith("#"):
        return 1.0
    return 0.6 if any(looks[cell].kind in TYPED for cell in first.cells[:MOST_COLUMNS]) else 0.95


def _table(rows: Sequence[Row], whole: bool) -> tuple[int, int, int, int, float]:
    widths = [row.width for row in rows]
    best = (1, 0, len(rows), widths.count(1), 1.0 if set(widths) <= {1} else 0.0)
    for width, _ in Counter(width for width in widths if width > 1).most_common(3):
        found = (width, *_extent(rows, widths, width, whole))
        if found[-1] * _breadth(width) > best[-1] * _breadth(best[0]):
            best = found
    return best


def _extent(rows: Sequence[Row], widths: list[int], width: int, whole: bool) -> tuple[int, int, int, float]:
    """Return where the records of a width begin and end, how many there are, and how consistent that is (0 to 1)."""
    places = [at for at, found in enumerate(widths) if found == width]
    start = next((at for at in places if 2 * widths[at : at + 4].count(width) >= len(widths[at : at + 4])), places[0])
    # A header that has lost or won a field is a header still.
    if start and not rows[start].after_blank and widths[start - 1] >= max(2, width / 2):
        start -= 1
    end = len(widths) - (widths[::-1].index(width) if whole else 0)
    agreeing = widths[start:end].count(width)
    titles = sum(found < width / 2 for found in widths[:start][:MOST_TITLES])
    against = (end - start - agreeing) + LEADING * titles + (start - titles) / 2 + TRAILING * (len(widths) - end)
    return start, end, agreeing, agreeing / (agreeing + against)


def _quality(body: Sequence[Row], width: int, looks: LooksOf) -> tuple[float, int, int]:
    """Return how much the fields of a table look like fields (0 to 1), and how many are quoted wrongly and well."""
    most = max(4, min(MOST_ROWS, MOST_CELLS // max(1, width)))
    total, faults, quoted = 0.0, 0, 0
    columns = list(zip(*(row.cells[:MOST_COLUMNS] for row in body[:most]), strict=False))
    for place, column in enumerate(columns):
        seen = [looks[cell] for cell in column]
        faults += sum(one.fault for one in seen)
        quoted += sum(one.quoted and not one.fault for one in seen)
        total += _column(seen) - (0.08 if place and _is_padded(column) else 0)
    return (total / len(columns) if columns else 0.0), faults, quoted


def _column(seen: Sequence[tuple[Kind, float, bool, bool]]) -> float:
    data = [one[0] for one in (seen[1:] or seen) if one[0] is not Kind.EMPTY]
    if not data:
        return 0.4
    same = Counter(data).most_common(1)[0]
    alike = same[1] / len(data) if same[0] in TYPED else 0.9
    return sum(one[1] for one in seen) / len(seen) * (0.7 + 0.3 * alike)


def _is_padded(column: Sequence[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and 10 * sum(cell[0] == " " for cell in filled) >= 9 * len(filled)
