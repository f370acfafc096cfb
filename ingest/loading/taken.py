"""Texts that their types take for certain: PostgreSQL need not be asked about a column that holds no others.

Of a batch with bad values nearly always one column is bad, and asking about the others took as long as all else that is
done for a reject. The patterns are narrower than the types: what they do not know is asked.
"""

from __future__ import annotations

import re
from functools import lru_cache

YEAR = r"(?:1[0-9]|2[0-9])[0-9][0-9]"
DAY = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    r"|02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
DATE = rf"{YEAR}-{DAY}"
TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
FIXED = {
    "smallint": r"-?[0-9]{1,4}",
    "integer": r"-?[0-9]{1,9}",
    "bigint": r"-?[0-9]{1,18}",
    "numeric": r"-?[0-9]{1,100}(?:\.[0-9]{1,100})?",
    "real": r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?",
    "double precision": r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?",
    "boolean": r"true|false|t|f|yes|no|1|0",
    "date": DATE,
    "timestamp without time zone": rf"{DATE}[ T]{TIME}",
    "timestamp with time zone": rf"{DATE}[ T]{TIME}(?:Z|[+-](?:0[0-9]|1[0-2])(?::00)?)?",
    "uuid": r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
}
NUMERIC = re.compile(r"numeric\(([0-9]+),([0-9]+)\)")
LIMITED = re.compile(r"character(?: varying)?\(([0-9]+)\)")


def are_taken(kind: str, packed: str, end: str, null: str) -> bool:
    """Say whether a type takes all texts of a column for certain; `packed`, `end` and `null` are those of `joined`."""
    pattern = _column(kind, end, null)
    return pattern is not None and pattern.fullmatch(packed) is not None


# The marks are the same two characters but for texts that hold them, and then they are new each time.
@lru_cache(maxsize=256)
def _column(kind: str, end: str, null: str) -> re.Pattern[str] | None:
    text = FIXED.get(kind) or _limited(kind)
    # Possessive: texts that have matched are not tried again, so a column that fails costs one look, too.
    return None if text is None else re.compile(rf"(?:(?:{text}|{re.escape(null)}){re.escape(end)})*+")


def _limited(kind: str) -> str | None:
    if found := NUMERIC.fullmatch(kind):
        precision, scale = int(found[1]), int(found[2])
        if scale < precision:
            return rf"-?[0-9]{{1,{precision - scale}}}" + (rf"(?:\.[0-9]{{1,{scale}}})?" if scale else "")
    if found := LIMITED.fullmatch(kind):  # ASCII: a server may count bytes
        return rf"[ -~]{{0,{found[1]}}}"
    return None
