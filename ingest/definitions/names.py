"""How names of columns are compared: to the letter, else folded, else squeezed. Pure."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

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


@lru_cache(maxsize=64)
def squeezed(names: tuple[str, ...]) -> frozenset[str]:
    """Return names squeezed, in any order."""
    return frozenset(map(squeeze, names))


NORMALS: tuple[Normal, ...] = (exact, fold, squeeze)


def unambiguous(names: Iterable[tuple[str, str]], normal: Normal) -> Mapping[str, tuple[str, str]]:
    """Return (name, column) by normalised name, without those that name several columns."""
    return _unambiguous(tuple(names), normal)


@lru_cache(maxsize=512)  # a dataset is asked about many headers while it is found out how a file is written
def _unambiguous(names: tuple[tuple[str, str], ...], normal: Normal) -> Mapping[str, tuple[str, str]]:
    pairs = list(dict.fromkeys(names))
    columns = {(normal(name), column) for name, column in pairs}
    counts = Counter(name for name, _ in columns)
    return {normal(name): (name, column) for name, column in reversed(pairs) if counts[normal(name)] == 1}
