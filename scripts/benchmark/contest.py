"""Contenders take turns: in every round each does the same work once, in another order than in the round before."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from scripts.benchmark.measuring import BenchmarkError, Cost, TooLong


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Who takes part: `turn` does the work once, and raises BenchmarkError when it was not done right.

    `missing` says why it cannot take part here.
    """

    name: str
    turn: Callable[[], Cost]
    missing: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A ratio that is wanted: the median of `ours` to that of `theirs`, at most or at least `bound`."""

    ours: str
    theirs: str
    bound: float
    at_least: bool = False
    fact: str | None = None  # compared instead of the seconds
    theirs_fact: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A figure that is wanted: the median of a fact of a contender (None: its seconds), at most or at least `bound`."""

    ours: str
    fact: str | None
    bound: float
    unit: str
    at_least: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """A benchmark: who takes part, in what, and what is wanted. `rows` and `size` are of the work of one turn."""

    name: str
    title: str
    contenders: Sequence[Contender]
    targets: Sequence[Target] = ()
    limits: Sequence[Limit] = ()
    rows: int = 0
    size: int = 0
    rounds: int | None = None  # instead of what was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came out: the costs of each contender by round, and who could not take part."""

    race: Race
    costs: Mapping[str, Sequence[Cost]]
    missing: Mapping[str, str] = field(default_factory=dict)

    def figures(self, name: str, fact: str | None = None) -> list[float]:
        """Return a contender's seconds, or one of its facts, by round; nothing when it did not take part."""
        return [cost.seconds if fact is None else cost.facts[fact] for cost in self.costs.get(name, ())]

    def ratio(self, target: Target) -> tuple[float, float, float] | None:
        """Return the ratio of the medians, and the least and the largest of one round; None when one is missing."""
        ours = self.figures(target.ours, target.fact)
        theirs = self.figures(target.theirs, target.theirs_fact or target.fact)
        if not ours or not theirs:
            return None
        pairs = [one / other for one, other in zip(ours, theirs, strict=True)]
        return statistics.median(ours) / statistics.median(theirs), min(pairs), max(pairs)


def missing_packages(*packages: str) -> str | None:
    """Say why a contender that needs these packages cannot take part; None when it can."""
    absent = [package for package in packages if importlib.util.find_spec(package) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def hold(race: Race, rounds: int, only: Sequence[str] = ()) -> Outcome:
    """Let the contenders take turns, `rounds` of them each. Raises BenchmarkError.

    When TooLong ends it, the rounds that were complete count, if there is one.
    """
    ready = [one for one in race.contenders if one.missing is None and (not only or one.name in only)]
    costs: dict[str, list[Cost]] = {one.name: [] for one in ready}
    for number in range(race.rounds or rounds):
        first = number % max(len(ready), 1)
        for one in ready[first:] + ready[:first]:
            try:
                cost = one.turn()
            except TooLong:
                if not number:
                    raise
                return _outcome(race, {name: of_one[:number] for name, of_one in costs.items()})
            except BenchmarkError as error:
                raise BenchmarkError(f"{race.name}: {one.name}: {error}") from error
            costs[one.name].append(cost)
            print(f"{race.name} {number + 1}: {one.name} {cost.seconds:.3f} s", file=sys.stderr, flush=True)
    return _outcome(race, costs)


def _outcome(race: Race, costs: Mapping[str, Sequence[Cost]]) -> Outcome:
    missing = {one.name: one.missing for one in race.contenders if one.missing is not None}
    return Outcome(race=race, costs=costs, missing=missing)
