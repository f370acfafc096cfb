"""The name and the type that a column may get from what a file says of it. Pure.

A type is found only if every value has it, written as PostgreSQL reads it. What could lose something on the way stays
text: numbers with leading zeros are codes, dates like 01/02/2026 have two meanings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})", re.ASCII)
NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?", re.ASCII)
DAY = re.compile(r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}", re.ASCII)
MOMENT = re.compile(DAY.pattern + r"[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?", re.ASCII)
ZONED = re.compile(f"{MOMENT.pattern} ?(Z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)", re.ASCII)
HYPHENATED = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
TRUTHS = {"true", "false", "t", "f", "yes", "no"}
LONGEST_NAME = 60


def type_of(values: Sequence[str]) -> str:
    """Return the narrowest of a few types that all values have; text when there are none."""
    if values:
        for type_name, fits in KINDS:
            if all(map(fits, values)):
                return type_name
    return "text"


def name_of(text: str, otherwise: str) -> str:
    """Return a text as the name of a dataset or column: small letters, digits and _."""
    name = re.sub(r"[^a-z0-9]+", "_", text.casefold()).strip("_")[:LONGEST_NAME].rstrip("_")
    return name if re.match(r"[a-z]", name) else f"{otherwise}_{name}".rstrip("_")


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text[:19])  # the calendar: no 30th of February, no hour 25
    except ValueError:
        return False
    return True


def _is_uuid(text: str) -> bool:
    return bool(HYPHENATED.fullmatch(text) and UUID(text))


KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("bigint", lambda text: bool(WHOLE.fullmatch(text))),
    ("numeric", lambda text: bool(NUMBER.fullmatch(text))),
    ("date", lambda text: bool(DAY.fullmatch(text)) and _is_moment(text)),
    ("timestamptz", lambda text: bool(ZONED.fullmatch(text)) and _is_moment(text)),
    ("timestamp", lambda text: bool(MOMENT.fullmatch(text)) and _is_moment(text)),
    ("boolean", lambda text: text.lower() in TRUTHS),
    ("uuid", _is_uuid),
)
