"""Random files in random dialects: written soundly, so that it is known what is in them, or put together from shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests.pollution.pollute import Polluted
from tests.pollution.source import NAMES, RECORDS, Cells, Told

DELIMITERS = (",", ";", "\t", "|", ":", " ", "~", ", ", "||", "\t\t", "::", "§")
QUOTES = ('"', "'", "%", "")
ENCODINGS = ("utf-8", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "iso8859-15")
MAX_CELLS = 4
MAX_RECORDS = 6
FEW = 8  # records that are enough to find a dialect by

# What makes readers disagree, and some plain text of one, two and three bytes between it.
SHARDS = (
    "a",
    "bc",
    "1",
    "é",
    "€",
    "'",
    '"',
    '""',
    "\\",
    "\\\\",
    ",",
    ";",
    " ",
    "  ",
    "\t",
    "|",
    ":",
    "%",
    "~",
    "#",
    "-",
    "NA",
    "\\.",
    "\\N",
)
LINE_ENDS = ("\n", "\r\n", "\r")


@dataclass(frozen=True)
class Writer:
    """How a sound file is written."""

    told: Told
    quote_all: bool

    def file(self, name: str, records: Sequence[Cells]) -> Polluted:
        """Write a file with a header and these records."""
        lines = [self._line(cells) for cells in (self.told.names, *records)]
        first, starts = 1 + len(self._ends(lines[0])), []
        for line in lines[1:]:
            starts.append(first)
            first += len(self._ends(line))
        data = "".join(lines).encode(self.told.encoding)
        return Polluted(name, "sound", data, self.told.names, tuple(records), tuple(starts), self.told, listed=False)

    def _ends(self, text: str) -> list[str]:
        return text.split("\r")[1:] if self.told.newline == "\r" else text.split("\n")[1:]

    def _line(self, cells: Cells) -> str:
        return self.told.delimiter.join(map(self._cell, cells)) + self.told.newline

    def _cell(self, text: str) -> str:
        quote, escape = self.told.quote, self.told.escape
        if not quote or not (self.quote_all or any(char in text for char in self._special())):
            return text
        for char in (escape, quote) if escape else (quote,):
            text = text.replace(char, (escape or quote) + char)
        return quote + text + quote

    def _special(self) -> str:
        return self.told.delimiter + self.told.quote + self.told.escape + "\r\n"


@st.composite
def tolds(draw: st.DrawFn) -> Told:
    """Any dialect that can be told apart."""
    delimiter = draw(st.sampled_from(DELIMITERS))
    quote = draw(st.sampled_from([each for each in QUOTES if not each or each not in delimiter]))
    encoding = draw(st.sampled_from([each for each in ENCODINGS if _fits(delimiter, each)]))
    return Told(
        names=tuple(f"n{place}" for place in range(draw(st.integers(2, MAX_CELLS)))),
        delimiter=delimiter,
        quote=quote,
        escape=draw(st.sampled_from(["", "\\"])) if quote else "",
        newline=draw(st.sampled_from(LINE_ENDS)),
        encoding=encoding,
    )


def _fits(text: str, encoding: str) -> bool:
    try:
        return text.encode(encoding).decode(encoding) == text
    except UnicodeEncodeError:
        return False


@st.composite
def sound_files(draw: st.DrawFn) -> Polluted:
    """A file that somebody wrote who knows how, with cells that make it hard."""
    writer = Writer(draw(tolds()), quote_all=draw(st.booleans()))
    cells = st.tuples(*[_cells(writer.told)] * len(writer.told.names))
    return writer.file("sound", draw(st.lists(cells, max_size=MAX_RECORDS)))


def _cells(told: Told) -> st.SearchStrategy[str]:
    """Return texts that the dialect can say: without quotes, only what needs none."""
    shards = [each for each in (*SHARDS, *LINE_ENDS) if _fits(each, told.encoding)]
    if told.newline == "\r":
        shards.remove("\r\n")  # its LF would be a line's first character
    if not told.quote:
        banned = {*told.delimiter, "\r", "\n"}
        shards = [each for each in shards if not banned & set(each)]
    return st.lists(st.sampled_from(shards), max_size=4).map("".join)


@st.composite
def natural_files(draw: st.DrawFn) -> Polluted:
    """A sound file with records as people have them, in a dialect that people use: one that can be found."""
    told = draw(tolds().filter(lambda each: each.quote in ("'", '"') and each.delimiter not in ("~", "§")))
    told = replace(told, names=NAMES, encoding=draw(st.sampled_from(["utf-8", "cp1252", "utf-16"])))
    start = draw(st.integers(0, len(RECORDS) - FEW))
    records = RECORDS[start : start + draw(st.integers(FEW, 3 * FEW))]
    return Writer(told, quote_all=draw(st.booleans())).file("natural", records)


@st.composite
def shattered_files(draw: st.DrawFn) -> Polluted:
    """A file of shards: quotes that open and do not close, text behind them, records of any width, blank lines.

    Quotes are doubled: outside quotes, no two readers think the same of an escape.
    """
    told = draw(tolds().filter(lambda each: len(each.delimiter) == 1 and bool(each.quote) and each.encoding == "utf-8"))
    told = replace(told, escape="")
    shards = [told.delimiter] * 8 + [told.quote] * 4 + [told.newline] * 5 + ["a", "b c", "1", "é", told.quote * 2, "\\"]
    body = "".join(draw(st.lists(st.sampled_from(shards), max_size=40)))
    data = told.delimiter.join(told.names) + told.newline + body
    return Polluted("shattered", "shattered", data.encode(), told.names, (), (), told, listed=False)
