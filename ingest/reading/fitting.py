"""Whether a text may be a value of a type, as far as that can be told without asking PostgreSQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

WHOLE = rb"\s*[+-]?\d{1,20}\s*"
NUMBER = rb"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?\s*|\s*[+-]?(?:NaN|Inf(?:inity)?)\s*"
DATE = rb"\s*\d{4}-\d{1,2}-\d{1,2}\s*"
TIME = rb"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?\s*(?:Z|[+-]\d{1,2}(?::?\d{2})?)?\s*"
PATTERNS = (
    (re.compile(r"(bigint|integer|smallint|int[248]?)$"), WHOLE),
    (re.compile(r"(numeric|decimal|real|double precision|float[48]?)\b"), NUMBER),
    (re.compile(r"bool(ean)?$"), rb"(?i:\s*(?:t|f|true|false|y|n|yes|no|on|off|1|0)\s*)"),
    (re.compile(r"date$"), DATE),
    (re.compile(r"timestamp"), DATE[:-3] + rb"(?:[ T]" + TIME + rb")?\s*"),
    (re.compile(r"time\b"), rb"\s*" + TIME),
    (re.compile(r"uuid$"), rb"\s*\{?[0-9a-fA-F]{4}(?:-?[0-9a-fA-F]{4}){7}\}?\s*"),
)


@lru_cache(maxsize=256)
def _pattern(kind: str) -> re.Pattern[bytes] | None:
    return next((re.compile(pattern) for name, pattern in PATTERNS if name.match(kind)), None)


def fits(text: bytes, kind: str) -> bool:
    """Tell whether a text may be a value of a type; of types that are not known here, any text may."""
    pattern = _pattern(kind)
    return pattern is None or not text or pattern.fullmatch(text) is not None


def are_values(texts: Sequence[str], types: Sequence[str]) -> bool:
    """Tell whether texts are values of columns rather than their names: all may be, and one is more than a text."""
    fit = [fits(text.encode(), kind) for text, kind in zip(texts, types, strict=True)]
    return all(fit) and any(text and _pattern(kind) is not None for text, kind in zip(texts, types, strict=True))
