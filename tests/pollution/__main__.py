"""Every reader on every polluted file: `scripts/pollution`. The service is loaded in each way; `--quick` takes a part.

Prints three scores of at most 10 a reader (files, kinds, or what the survey met weighing the same), the kinds it lost
points on, and what the service got silently wrong.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

import trio

from ingest import logs
from ingest.database import migrate
from ingest.database.embedded import embedded_postgres
from tests.pollution.copying import copied
from tests.pollution.honesty import silent
from tests.pollution.peers import csv_sniffed, csv_told, with_duckdb
from tests.pollution.pollute import Polluted, polluted, sampled
from tests.pollution.score import Read, Reader, scores
from tests.pollution.service import Loaded, Service, Way

QUICK = 10  # files of a kind
FULL_MARKS = 9.995

WAYS = (
    Way(told=True, lenient=True, typed=True),
    Way(told=False, lenient=True, typed=True),
    Way(told=True, lenient=True, typed=False),
    Way(told=False, lenient=True, typed=False),
    Way(told=True, lenient=False, typed=True),
    Way(told=False, lenient=False, typed=True),
    Way(told=True, lenient=False, typed=False),
    Way(told=False, lenient=False, typed=False),
)


def main() -> None:
    """Read the command line, run every reader and print what came out."""
    parser = argparse.ArgumentParser(prog="pollution", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"at most {QUICK} files of a kind")
    parser.add_argument("--way", type=int, action="append", metavar="N", help=f"one of the ways 0 to {len(WAYS) - 1}")
    parser.add_argument("--no-peers", action="store_true", help="only the service")
    arguments = parser.parse_args()
    logs.configure("ERROR", "console")
    files = list(polluted())
    if arguments.quick:
        files = sampled(files, QUICK)
    with tempfile.TemporaryDirectory(prefix="ingest-pollution-") as folder:
        if not arguments.no_peers:
            _show_peers(files, Path(folder))
        ways = [WAYS[number] for number in arguments.way] if arguments.way else WAYS
        with embedded_postgres(Path(folder) / "postgres") as dsn:
            trio.run(migrate, dsn)
            trio.run(_show_service, files, ways, dsn, Path(folder), not arguments.no_peers)


def _show_peers(files: Sequence[Polluted], folder: Path) -> None:
    peers: dict[str, Reader] = {
        "csv, told": csv_told,
        "csv, sniffed": csv_sniffed,
        "DuckDB, told": with_duckdb(folder, told=True),
        "DuckDB, sniffed": with_duckdb(folder, told=False),
    }
    for name, read in peers.items():
        began = time.perf_counter()
        reads = {file.name: read(file) for file in files}
        _show(name, files, reads, time.perf_counter() - began)


async def _show_service(files: Sequence[Polluted], ways: Sequence[Way], dsn: str, folder: Path, peers: bool) -> None:
    async with Service(dsn, folder) as service:
        if peers:
            began = time.perf_counter()
            reads = {file.name: await copied(service.database, file) for file in files}
            _show("COPY, told", files, reads, time.perf_counter() - began)
        for way in ways:
            began = time.perf_counter()
            loaded = await service.load(files, way)
            seconds = time.perf_counter() - began
            _show(f"ingest, {way}", files, {name: each.success for name, each in loaded.items()}, seconds)
            _show_rest(files, loaded)


def _show(name: str, files: Sequence[Polluted], reads: Mapping[str, Read | None], seconds: float) -> None:
    found = scores(files, reads)
    figures = f"files {found.simple:6.3f}   kinds {found.equal_kinds:6.3f}   survey {found.survey:6.3f}"
    print(f"{name:40} {figures}   {seconds:.1f} s", flush=True)
    lost = {kind: fmean(each) for kind, each in found.by_kind.items() if fmean(each) < FULL_MARKS}
    print("    " + ", ".join(f"{kind} {mean:.2f}" for kind, mean in lost.items()))


def _show_rest(files: Sequence[Polluted], loaded: Mapping[str, Loaded]) -> None:
    refused = Counter(f"{file.kind} {loaded[file.name].refused}" for file in files if loaded[file.name].refused)
    print(f"    refused: {_counted(refused)}")
    wrong = [each for file in files for each in silent(file, loaded[file.name])]
    counted = Counter(f"{each.file.kind} {'loaded' if each.wrong else 'lost'}" for each in wrong)
    print(f"    silently wrong: {_counted(counted)}", flush=True)


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{each} {count}" for each, count in counter.items()) or "none"


if __name__ == "__main__":
    main()
