"""How names of columns are compared: to the letter, else folded, else squeezed. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

# Beside white space, what spreadsheets and web pages leave around a name and nobody sees: zero-width characters, BOM.
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"

# From the strictest to the most forgiving; a name that two columns share in one of these belongs to neither there.
Normal = Callable[[str], str]


def tidy(name: str) -> str:
    """Return a name of a header in NFC and without what surrounds it invisibly."""
    return unicodedata.normalize("NFC", name).strip().strip(INVISIBLE).strip()


def exact(name: str) -> str:
    """Return the name itself."""
    return name


def fold(name: str) -> str:
    """Return a column name as it is compared when it does not match to the letter."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def squeeze(name: str) -> str:
    """Return the folded name without blanks, punctuation and underscores, or the folded one if nothing else is left."""
    folded = fold(name)
    return "".join(char for char in folded if char.isalnum()) or folded


NORMALS: tuple[Normal, ...] = (exact, fold, squeeze)


def unambiguous(names: Iterable[tuple[str, str]], normal: Normal) -> dict[str, tuple[str, str]]:
    """Return (name, column) by normalised name, without those that name several columns."""
    pairs = list(dict.fromkeys(names))
    columns = {(normal(name), column) for name, column in pairs}
    counts = Counter(name for name, _ in columns)
    return {normal(name): (name, column) for name, column in reversed(pairs) if counts[normal(name)] == 1}
