"""The dialect of a file from its first bytes: every way to read them is tried, and the likeliest one is taken. Pure.

What the request says is never questioned. What the dataset expects is the strongest evidence: of two ways to read, the
one whose header it knows. Then come fields of equal count, whole fields, columns of one kind.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ingest.detecting.candidates import Frame, end_of, readings
from ingest.detecting.encoding import Encoding
from ingest.detecting.kinds import LooksOf
from ingest.detecting.layout import FITS, Expected, Layout, layout_of
from ingest.detecting.lines import BOM, Lines, comment_of, lines_of
from ingest.detecting.reading import Reading
from ingest.detecting.wording import evidence_of, options_of
from ingest.dialect import Dialect
from ingest.dialectoptions import dialect_of

AUTO = "auto"
# These say nothing about how a file is divided.
INDIFFERENT = frozenset({"null", "on_header", "on_ragged", "on_quote", "encoding"})
SURE = 0.999
# What is not found in a file that is written as usual, or means something else there.
ODDITIES = (b'\\"', b"\\,", b",'", b"\n'", b"\n#")
# Two ways are equally good when the one is so close to the other.
CLOSE = 0.97
# A header that the dataset knows does not help a way under which all else is nonsense, if there is a good one.
GOOD = 0.5
LEAST = 0.25
MOST_TRIED = 16  # of the ways, by the dataset
MOST_ALTERNATIVES = 4
FEW_FAULTS = 3
# For a file of one column: a delimiter that its records do not hold.
UNUSED = (",", "\t", ";", "|", "~", "^")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """A dialect, why (`evidence`, short sentences), and the `options` of a request that pin it.

    When other ways to read are as good, `alternatives` has the options of each and of the dialect itself; else it is
    empty. `names` is the header as it was read, () when there is none.
    """

    dialect: Dialect
    evidence: tuple[str, ...]
    options: str
    alternatives: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def detect(
    sample: bytes,
    *,
    ended: bool,
    expected: Expected | None = None,
    given: Mapping[str, str] | None = None,
    encoding: Encoding | None = None,
) -> Detected:
    """Return the dialect of a file whose first bytes, in UTF-8, are `sample`; `ended`: there are no more.

    `expected` says how well the dataset knows the names of a header (0 to 1). `given` are the options of the request,
    as text; `auto` is as if left out. `encoding` is what the bytes were in before. Raises RequestError (E_OPTION) for
    what is given.
    """
    at_once = detect_at_once(sample, ended=ended, expected=expected, given=given, encoding=encoding)
    if at_once is not None:
        return at_once
    told, base, why = _told(given, encoding)
    found = _looked_at(sample, ended, base, told, expected)
    return replace(found, evidence=(*why, *found.evidence))


def detect_at_once(
    sample: bytes,
    *,
    ended: bool,
    expected: Expected | None = None,
    given: Mapping[str, str] | None = None,
    encoding: Encoding | None = None,
) -> Detected | None:
    """Return what `detect` does where the first lines of a file are enough to tell, else None."""
    told, base, why = _told(given, encoding)
    found = _at_once(sample, ended, base, expected) if expected and INDIFFERENT.issuperset(told) else None
    return found and replace(found, evidence=(*why, *found.evidence))


def _told(
    given: Mapping[str, str] | None, encoding: Encoding | None
) -> tuple[frozenset[str], Dialect, tuple[str, ...]]:
    """Return what the request decides, the dialect that says so, and why the encoding is what it is."""
    told = {name: text for name, text in (given or {}).items() if text != AUTO}
    base = dialect_of(told)
    if encoding is not None:
        base = replace(base, encoding=encoding.name)
    return frozenset(told), base, (encoding.evidence,) if encoding else ()


def _at_once(sample: bytes, ended: bool, base: Dialect, expected: Expected) -> Detected | None:
    """Return the usual dialect when the first line is, in it, what the dataset expects, and no oddity is in sight."""
    line, found, rest = sample.partition(b"\n")
    if not found or b"\r" in line[:-1] or any(sign in sample for sign in ODDITIES) or _ends_oddly(line, rest, ended):
        return None
    try:
        names = next(csv.reader([line.decode().removeprefix(BOM).rstrip("\r")], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None
    if expected(names) < SURE or any(name != name.strip() for name in names):
        return None
    text = "The first line, read with commas between the names, is what the dataset expects."
    return Detected(dialect=base, evidence=(text,), options=options_of(base), names=tuple(names))


def _ends_oddly(line: bytes, rest: bytes, ended: bool) -> bool:
    """Tell whether the first line holds no comma though others do, or the last one is short or nearly empty."""
    header = line.rstrip(b"\r")
    last = rest.rstrip()[-len(line) - 1000 :].rsplit(b"\n", 1)[-1]
    short = ended and b'"' not in last and last.count(b",") < header.count(b",")
    last_filled = len(last.strip(b",")) and b"," in last.strip(b",")
    lonely = ended and header.count(b",") > 1 and not last_filled
    return short or lonely or (b"," not in header and b"," in rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tried:
    reading: Reading
    layout: Layout

    @property
    def rank(self) -> tuple[int, float]:
        """How good it is: what the dataset says counts first, if it says anything."""
        fit = self.layout.fit if self.layout.fit >= FITS else 0.0
        return round(20 * fit), self.reading.score


def _looked_at(sample: bytes, ended: bool, base: Dialect, told: frozenset[str], expected: Expected | None) -> Detected:
    lines = lines_of(sample, ended=ended, newline=base.newline if "newline" in told else None)
    frame = _frame(lines, base, told)
    found = readings(frame)
    if not found:
        return Detected(dialect=base, evidence=("There are no records to look at.",), options=options_of(base))
    looks = LooksOf()
    asked = None if expected is None else lru_cache(maxsize=None)(lambda names: expected(names))
    tried = [
        _Tried(reading=reading, layout=layout_of(reading, looks, end=end_of(reading, frame), expected=asked))
        for reading in (found[:MOST_TRIED] if expected else found[:MOST_ALTERNATIVES])
    ]
    least = LEAST * found[0].score if found[0].score >= GOOD else 0.0
    likely = [one for one in tried if one.reading.score >= least]
    best = max(likely, key=lambda one: one.rank)
    dialect = _dialect(best, frame, base, told, found)
    return Detected(
        dialect=dialect,
        evidence=tuple(evidence_of(best.reading, best.layout, dialect, told)),
        options=options_of(dialect),
        alternatives=tuple(dict.fromkeys(_alternatives(best, likely, frame, base, told, found))),
        names=best.layout.names,
    )


def _frame(lines: Lines, base: Dialect, told: frozenset[str]) -> Frame:
    skip = base.skip_rows if "skip_rows" in told else (1 if lines.excel else 0)
    return Frame(
        lines=lines,
        skip_lines=skip,
        comment=base.comment if "comment" in told else comment_of(lines),
        delimiter=base.delimiter if "delimiter" in told else lines.excel,
        quote=base.quote if "quote" in told else None,
        escape=base.escape if "escape" in told else None,
    )


def _dialect(tried: _Tried, frame: Frame, base: Dialect, told: frozenset[str], found: Sequence[Reading]) -> Dialect:
    reading, layout = tried.reading, tried.layout
    header = 0 if "skip_rows" in told else layout.header
    # Blank lines before the first record are no preamble: they are left out in any case.
    preamble = frame.skip_lines or header > 0
    padded = _is_padded(reading)
    delimiter = reading.ways.delimiter if reading.width > 1 else _unused(reading, frame.lines.text, found)
    detected: dict[str, Any] = {
        "delimiter": (delimiter.strip() or delimiter) if padded else delimiter,
        "quote": _quote(reading, found),
        "escape": reading.ways.escape,
        "newline": frame.lines.newline,
        "skip_rows": reading.rows[header].line - 1 if preamble else 0,
        "header_rows": layout.header_rows,
        "comment": frame.comment,
        "footer_rows": layout.footer_rows,
        "trim": padded,
    }
    decided = told | ({"header_rows"} if "header" in told else frozenset())
    return replace(base, **{name: value for name, value in detected.items() if name not in decided})


def _quote(reading: Reading, found: Sequence[Reading]) -> str:
    """Return the quote; none when no field is quoted and several hold the usual one, which then is text."""
    ways = reading.ways
    if ways.quote == "'" or (not ways.quote and ways.escape):
        return ways.quote
    usual = replace(ways, quote='"')
    quoted = sum(one.quoted for one in found if one.ways == usual)
    return "" if not quoted and reading.faults >= FEW_FAULTS else '"'


def _unused(reading: Reading, text: str, found: Sequence[Reading]) -> str:
    """Return the delimiter for one column: the one that is why fields are quoted, else one that is not there."""
    alike = [
        one for one in found if one.width == 1 == one.agreeing / len(one.rows) and one.ways.quote == reading.ways.quote
    ]
    quoted = [sign for one in alike if reading.quoted and (sign := one.ways.delimiter) in UNUSED]
    return next((sign for sign in UNUSED if sign in quoted or sign not in text), "\t")


def _is_padded(reading: Reading) -> bool:
    """Tell whether nearly all fields behind a delimiter begin with a space, or spaces are left where it has its own."""
    delimiter = reading.ways.delimiter
    if reading.width < 2 or delimiter.isspace():
        return False
    cells = [cell for row in reading.table for cell in row.cells[1:] if cell]
    if " " in delimiter:
        return any(cell[0] == " " or cell[-1] == " " for row in reading.table for cell in row.cells if cell)
    return bool(cells) and 10 * sum(cell[0] == " " for cell in cells) >= 9 * len(cells)


def _alternatives(
    best: _Tried, tried: Sequence[_Tried], frame: Frame, base: Dialect, told: frozenset[str], found: Sequence[Reading]
) -> Iterator[str]:
    rivals = [one for one in tried if _rivals(best, one)]
    for one in (best, *rivals) if rivals else ():
        yield options_of(_dialect(one, frame, base, told, found))


def _rivals(best: _Tried, other: _Tried) -> bool:
    """Tell whether two ways make other fields of the records, and are equally good."""
    if best.reading.width == other.reading.width == 1:
        return False
    mine, yours = best.reading.ways.delimiter, other.reading.ways.delimiter
    if mine in yours or yours in mine:
        return bool(mine != yours and not (mine and yours)) and _equal(best, other)
    return _equal(best, other)


def _equal(best: _Tried, other: _Tried) -> bool:
    return other.rank[0] == best.rank[0] and other.reading.score >= CLOSE * best.reading.score
