"""Where in a TOML text a key stands, so that an error can name the line. Pure: text in, line numbers out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

Path = Sequence[str | int]

TABLE = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
ENTRY = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
KEY = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def line_of(text: str, path: Path) -> int:
    """Return the line (from 1) of the key at `path`, or of the nearest table or key around it.

    Table arrays have their index in the path. What is inside an inline table has the line of the whole table.
    """
    best, found = 0, 1
    for number, here in _keys_by_line(text):
        depth = _common(here, path)
        if depth > best and depth == min(len(here), len(path)):
            best, found = depth, number
    return found


def _keys_by_line(text: str) -> Iterator[tuple[int, tuple[str | int, ...]]]:
    table: tuple[str | int, ...] = ()
    arrays: Counter[tuple[str, ...]] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        if header := TABLE.match(line):
            keys = _split(header[2])
            table = (*keys, arrays[keys]) if header[1] == "[[" else keys
            arrays[keys] += header[1] == "[["
            yield number, table
        elif entry := ENTRY.match(line):
            yield number, (*table, *_split(entry[1]))


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(key.strip("\"'") for key in KEY.findall(dotted))


def _common(one: Path, other: Path) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
