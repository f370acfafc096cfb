"""What came out, for people as tables and for programs as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from scripts.benchmark.contest import Limit, Outcome, Target
from scripts.benchmark.server import Server

# Tables are also read in logs, where nobody can make the window wider.
WIDTH = 160

# Whose versions the figures depend on.
PACKAGES = ("asyncpg", "hypercorn", "numpy", "trio", "uvicorn", "pyarrow", "adbc-driver-postgresql")


def machine(server: Server) -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_before": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "postgresql": server.settings(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def show(about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> None:
    """Print the tables."""
    console = Console(width=WIDTH, highlight=False)
    settings = about["postgresql"]
    console.print(f"{about['processor']}, {about['processors']} processors, load {about['load_before'][0]} before")
    console.print(f"PostgreSQL for all: {', '.join(f'{name}={value}' for name, value in settings.items())}")
    for outcome in outcomes:
        console.print(_table(outcome))
        for line in _judgements(outcome):
            console.print(f"  {line}")


def _table(outcome: Outcome) -> Table:
    race = outcome.race
    size = f": {race.rows:,} rows, {race.size / 1e6:,.0f} MB" if race.rows else ""
    table = Table(title=f"{race.name}: {race.title}{size}", title_justify="left")
    table.add_column("contender")
    for name in (
        "seconds (least - most)",
        "rows/s",
        "own CPU s",
        "database CPU s",
        "peak RSS MB",
        "database MB",
        "more",
    ):
        table.add_column(name, justify="right")
    for name in outcome.costs:
        table.add_row(name, *_row(outcome, name))
    for name, why in outcome.missing.items():
        table.add_row(f"{name}: {why}")
    return table


def _row(outcome: Outcome, name: str) -> list[str]:
    costs, seconds = outcome.costs[name], outcome.figures(name)
    median = statistics.median(seconds)
    processes = [max(cost.peak_rss_mb.get(process, 0) for cost in costs) for process in costs[0].peak_rss_mb]
    return [
        f"{median:.3f} ({min(seconds):.3f} - {max(seconds):.3f})",
        f"{outcome.race.rows / median:,.0f}" if outcome.race.rows else "",
        _number(statistics.median(cost.cpu_s for cost in costs)),
        _number(statistics.median(cost.database_cpu_s for cost in costs)),
        " + ".join(f"{peak:.0f}" for peak in processes),
        _number(max(cost.database_peak_mb for cost in costs)),
        "\n".join(f"{fact} {_number(statistics.median(outcome.figures(name, fact)))}" for fact in costs[0].facts),
    ]


def _number(value: float) -> str:
    return "" if not value else f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def _judgements(outcome: Outcome) -> list[str]:
    found = []
    for target in outcome.race.targets:
        if (ratio := outcome.ratio(target)) is not None:
            what = f"{_named(target.ours, target.fact)} / {_named(target.theirs, target.theirs_fact or target.fact)}"
            found.append(f"{what} = {ratio[0]:.2f} ({ratio[1]:.2f} - {ratio[2]:.2f}), {_judgement(target, ratio[0])}")
    for limit in outcome.race.limits:
        if figures := outcome.figures(limit.ours, limit.fact):
            median = statistics.median(figures)
            what = f"{_named(limit.ours, limit.fact)} = {_number(median) or 0} {limit.unit}"
            found.append(
                f"{what} ({_number(min(figures)) or 0} - {_number(max(figures)) or 0}), {_judgement(limit, median)}"
            )
    return found


def _named(name: str, fact: str | None) -> str:
    return f"{name} ({fact})" if fact else name


def _judgement(wanted: Target | Limit, figure: float) -> str:
    met = figure >= wanted.bound if wanted.at_least else figure <= wanted.bound
    return f"wanted {'>=' if wanted.at_least else '<='} {wanted.bound:g}: {'met' if met else 'MISSED'}"


def write_json(path: Path, about: Mapping[str, Any], outcomes: Sequence[Outcome], *, scale: float) -> None:
    """Write a summary first, then everything that was measured."""
    document = {
        "summary": {outcome.race.name: _judgements(outcome) for outcome in outcomes},
        "scale": scale,
        "machine": about,
        "benchmarks": [_as_json(outcome) for outcome in outcomes],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _as_json(outcome: Outcome) -> dict[str, Any]:
    race = outcome.race
    return {
        "name": race.name,
        "title": race.title,
        "rows": race.rows,
        "bytes": race.size,
        "contenders": {name: _contender_json(outcome, name) for name in outcome.costs},
        "missing": dict(outcome.missing),
        "ratios": [_ratio_json(outcome, target) for target in race.targets if outcome.ratio(target)],
    }


def _contender_json(outcome: Outcome, name: str) -> dict[str, Any]:
    seconds = outcome.figures(name)
    figures = {"median_s": statistics.median(seconds), "least_s": min(seconds), "most_s": max(seconds)}
    return {**figures, "turns": [asdict(cost) for cost in outcome.costs[name]]}


def _ratio_json(outcome: Outcome, target: Target) -> dict[str, Any]:
    ratio = outcome.ratio(target)
    assert ratio is not None
    figures = dict(zip(("median", "least", "most"), ratio, strict=True))
    return {**asdict(target), **figures, "judgement": _judgement(target, ratio[0])}
