"""The command `scripts/bench`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.benchmark import damage, dialects, loads, memory, resting, scaling, small, tuning, uploads
from scripts.benchmark.contest import Outcome, Race, hold
from scripts.benchmark.measuring import BenchmarkError, TooLong
from scripts.benchmark.report import machine, show, write_json
from scripts.benchmark.server import Server, postgres

Benchmark = Callable[[Server, Path, float], list[Race]]

BENCHMARKS: dict[str, Benchmark] = {
    "load": loads.load,
    "dirty": loads.dirty,
    "keyed": loads.keyed,
    "upsert": loads.upsert,
    "upload": uploads.races,
    "small": small.races,
    "memory": memory.races,
    "dialects": dialects.races,
    "quote": damage.races,
    "scale": scaling.races,
    "tuning-load": tuning.load,
    "tuning-upsert": tuning.upsert,
    "tuning-slow": tuning.slow,
    "idle": resting.idle,
    "start": resting.start,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write what was asked for; returns the exit code."""
    given = _parser().parse_args(arguments)
    draw = _drawing() if given.plot else None  # early: a package that is missing is known before hours of measuring
    names = list(BENCHMARKS) if "all" in given.benchmarks else given.benchmarks
    began = time.monotonic()
    if given.at_most:
        signal.signal(signal.SIGALRM, _too_long)
        signal.setitimer(signal.ITIMER_REAL, given.at_most)
    with ExitStack() as held:
        folder = given.folder or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ingest-bench-")))
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="ingest-bench-postgres-")))
        server = held.enter_context(postgres(own))
        about = machine(server)
        outcomes: list[Outcome] = []
        failed = False
        for name in names:
            try:
                for race in BENCHMARKS[name](server, folder, given.scale):
                    outcomes.append(hold(race, given.runs, given.only))
                    if given.at_most and time.monotonic() - began > given.at_most:
                        _too_long()  # the signal ended this race after some rounds
            except BenchmarkError as error:
                print(f"bench: {error}", file=sys.stderr)
                failed = True
                if isinstance(error, TooLong):
                    break
    show(about, outcomes)
    if given.json:
        write_json(given.json, about, outcomes, scale=given.scale)
    if draw is not None:
        draw(given.plot, outcomes)
    return 1 if failed else 0


def _drawing() -> Callable[[Path, Sequence[Outcome]], None]:
    from scripts.benchmark.plots import draw

    return draw


def _too_long(*_: object) -> None:
    raise TooLong("this has taken longer than --at-most allows")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures this service and its peers in turn, on one PostgreSQL with the same settings for all.",
    )
    parser.add_argument(
        "benchmarks", nargs="*", choices=[*BENCHMARKS, "all"], default=["all"], metavar="BENCHMARK",
        help=f"any of: {', '.join(BENCHMARKS)}, all (default)",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, default=0.5, help="TPC-H scale: 0.5 (default) is 3 million rows, 380 MB")
    parser.add_argument("--runs", type=int, default=5, help="turns of each contender (default: 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures of all turns")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw the results")
    parser.add_argument("--at-most", type=float, metavar="SECONDS", help="give up what is not measured by then")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="let these contenders run alone")
    parser.add_argument("--folder", type=Path, help="keep the generated files here for the next time")
    return parser


if __name__ == "__main__":
    sys.exit(main())
