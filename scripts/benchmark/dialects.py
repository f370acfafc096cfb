"""The same table as it is written by others: semicolons and Windows-1252, tabs and UTF-16, beside commas and UTF-8."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

from ingest.dialect import Dialect
from ingest.opening import SAMPLE_BYTES, Opening
from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Limit, Race, Target
from scripts.benchmark.measuring import Cost
from scripts.benchmark.server import Server
from scripts.benchmark.tables import Arena, arena
from scripts.benchmark.uploads import after_turn
from tests.acceptance.tables import LINEITEM

# Most files are plain ASCII to the last byte, which is UTF-8 and Windows-1252 at once: these are not.
FOREIGN = ("requests", "requêtes")
TIMES = 5  # that the detection is timed, for its median
LINES = 10_000  # that are written at once
MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Form:
    """A way to write the table."""

    name: str
    delimiter: str
    encoding: str
    suffix: str


USUAL = Form("commas, UTF-8", ",", "utf-8", ".utf8.csv")
FORMS = (
    USUAL,
    Form("semicolons, Windows-1252", ";", "cp1252", ".cp1252.csv"),
    Form("tabs, UTF-16", "\t", "utf-16", ".utf16.csv"),
)


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """Each form is found out by itself, and then loaded."""
    files = {form.name: written(data.lineitem(folder, scale), form) for form in FORMS}
    path = files[USUAL.name]
    table = arena(server, "lineitem", LINEITEM, path)
    contenders = [Contender(name=name, turn=partial(turn, table, file)) for name, file in files.items()]
    others = [form.name for form in FORMS if form is not USUAL]
    targets = [
        Target(ours=name, theirs=USUAL.name, fact=fact, bound=1.3) for name in others for fact in (None, "load_s")
    ]
    limits = [Limit(ours=form.name, fact="detect_ms", bound=30.0, unit="ms") for form in FORMS]
    title, size = "lineitem in three dialects, HTTP to completed", path.stat().st_size
    return [
        Race(
            name="dialects",
            title=title,
            contenders=contenders,
            targets=targets,
            limits=limits,
            rows=table.rows,
            size=size,
        )
    ]


def turn(table: Arena, path: Path) -> Cost:
    """Send the file, let it be loaded when it is stored, and time how long it takes to find out how it is written."""
    found = after_turn(table, path)
    return replace(found, facts={**found.facts, "detect_ms": detecting_ms(path)})


def detecting_ms(path: Path) -> float:
    """Return the processor time to find out how a file is written, for a table that knows its columns, in ms."""
    with path.open("rb") as file:
        sample = file.read(SAMPLE_BYTES)
    return statistics.median(_detecting_ms(sample) for _ in range(TIMES))


def _detecting_ms(sample: bytes) -> float:
    known = set(data.COLUMNS)
    opening = Opening(
        Dialect(), {}, lambda names: len(known & set(names)) / len(known), max_record_bytes=MAX_RECORD_BYTES
    )
    began = time.thread_time()
    opening.feed(sample)
    return (time.thread_time() - began) * 1000


def written(source: Path, form: Form) -> Path:
    """Write the table in a form, once."""
    path = source.with_suffix(form.suffix)
    if not path.exists():
        partial_file = path.with_suffix(".partial")
        with (
            source.open(encoding="utf-8", newline="") as lines,
            partial_file.open("w", encoding=form.encoding, newline="") as out,
        ):
            for piece in _pieces(lines):
                out.write(_in_form(piece, form))
        partial_file.rename(path)
    return path


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    left = iter(lines)
    while piece := "".join(islice(left, LINES)):
        yield piece


def _in_form(text: str, form: Form) -> str:
    """Return lines in a form; what is in quotes holds its commas, and no other delimiter."""
    stretches = text.replace(*FOREIGN).split('"')
    for place in range(0, len(stretches), 2):
        stretches[place] = stretches[place].replace(",", form.delimiter)
    return '"'.join(stretches)
