"""Records at the end of a file that belong to no table: sums, notes, counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ingest.detecting.kinds import TYPED, Kind, LooksOf
from ingest.detecting.reading import Row

MOST_FOOTERS = 10

FOOTER = re.compile(
    r"\W*(\(?\d+ (rows?|records?|lines?|results?)\b|(grand )?totals?\b|sum\b|count\b|end of\b|eof\b|source\b|notes?\b|"
    r"footnotes?\b|generated\b|exported\b|created\b|printed\b|page \d|rows?:|records?:|copyright|©|\*)",
    re.IGNORECASE,
)


def footers(rows: Sequence[Row], width: int, first_column: Sequence[Kind | None], looks: LooksOf) -> int:
    """Return how many of the last records of a file are no records of its table of `width` columns.

    They hold a text in their first field alone, and something tells them from a record that was cut: the first column
    has values of another kind, a blank line is before them, or they begin with a word that footers begin with.
    """
    at, first = len(rows), max(len(rows) - MOST_FOOTERS, 1)
    while at > first and rows[at - 1].filled <= 1 and rows[at - 1].width in (1, width):
        at -= 1
    if width < 2 or at == len(rows) or rows[at - 1].width != width or (width == 2 and rows[at].width > 1):
        return 0
    text = rows[at].cells[0].strip()
    odd = first_column and first_column[0] in TYPED and looks[text].kind in (Kind.WORDS, Kind.TEXT, Kind.MESSY)
    apart = rows[at].width == 1 and rows[at].after_blank
    return len(rows) - at if apart or (odd and width > 2) or FOOTER.match(text) else 0
