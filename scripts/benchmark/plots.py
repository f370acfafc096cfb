"""Pictures of what came out: a bar for each contender, and a line where something went on for a while."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot
from matplotlib.axes import Axes

from scripts.benchmark.contest import Outcome

OURS, THEIRS = "#1f6f54", "#b8bfc6"
WIDTH_IN, BAR_IN, FRAME_IN = 8.0, 0.42, 1.0


def draw(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Write a picture of each outcome into a folder."""
    # The same figures give the same bytes.
    matplotlib.rcParams["svg.hashsalt"] = "ingest"
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in outcomes:
        name = outcome.race.name.replace(" ", "-")
        if outcome.costs:
            _write(folder / f"{name}.svg", outcome)
        for contender, costs in outcome.costs.items():
            if costs[0].series:
                _write_series(folder / f"{name}-time.svg", outcome, contender)


def _write(path: Path, outcome: Outcome) -> None:
    figure, axes = pyplot.subplots(figsize=(WIDTH_IN, FRAME_IN + BAR_IN * len(outcome.costs)))
    _bars(axes, outcome)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _bars(axes: Axes, outcome: Outcome) -> None:
    rows = outcome.race.rows
    for place, name in enumerate(reversed(list(outcome.costs))):
        figures = [rows / seconds if rows else seconds for seconds in outcome.figures(name)]
        median = statistics.median(figures)
        spread = [[median - min(figures)], [max(figures) - median]]
        color = OURS if name.startswith("this service") else THEIRS
        axes.barh(place, median, xerr=spread, color=color, ecolor="#444444", capsize=3)
        axes.annotate(f" {median:,.0f}" if rows else f" {median:.2f}", (max(figures), place), va="center")
    axes.set_yticks(range(len(outcome.costs)), list(reversed(list(outcome.costs))))
    axes.set_xlabel("rows per second" if rows else "seconds")
    axes.set_title(outcome.race.title, loc="left", fontsize=10)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _write_series(path: Path, outcome: Outcome, contender: str) -> None:
    figure, axes = pyplot.subplots(figsize=(WIDTH_IN, 3.0))
    for name, series in outcome.costs[contender][0].series.items():
        axes.plot([x for x, _ in series], [y for _, y in series], label=name)
    axes.set_xlabel("seconds")
    axes.set_title(f"{outcome.race.title}, {outcome.race.size / 1e9:.1f} GB", loc="left", fontsize=10)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
