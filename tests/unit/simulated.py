"""A database that exists only as numbers, and a worker with a virtual clock that loads into it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from ingest.climbing import Climber
from ingest.throughput import Sample, Trouble

LOOK_S = 0.25
PIPELINED = 2
BATCH_BYTES = 1000


@dataclass(frozen=True, kw_only=True)
class Server:
    """`cores` that each take `work_s` for a batch; `away_s` passes on the way for each one.

    `crowding`: by what share the work grows with each writer beyond the cores. `noise` is of single batches, `drift` of
    the machine as a whole: it changes with each second. `warming`: by what share it is slower in the beginning, and
    half of that four seconds later.
    """

    cores: int
    work_s: float
    away_s: float = 0.0
    crowding: float = 0.0
    noise: float = 0.0
    drift: float = 0.0
    open_s: float = 0.0
    warming: float = 0.0


@dataclass(kw_only=True)
class Run:
    """What happened: the number of writers from a moment on, and the moments at which batches were loaded."""

    writers: list[tuple[float, int]] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)

    def rate(self, since_s: float, until_s: float) -> float:
        """Return the batches a second."""
        return sum(since_s <= at < until_s for at in self.loaded) / (until_s - since_s)

    def changes(self, since_s: float) -> int:
        """Return how often the number was changed from then on."""
        return sum(at >= since_s for at, _ in self.writers)


class World:
    """Writers, connections, cores, and what the tuner does beside them."""

    def __init__(self, server: Server, writers: int, seed: int) -> None:
        self.server, self.writers, self.now = server, writers, 0.0
        self._random = random.Random(seed)
        self._speed = 1.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._running = self._opened = 0
        self._queue: list[float] = []
        self._cores: list[float] = [0.0] * server.cores
        self._generation = 0
        self.run = Run(writers=[(0.0, writers)])
        self._clear()

    def at(self, moment: float, do: Callable[[], None]) -> None:
        """Have something happen."""
        self._number += 1
        heapq.heappush(self._events, (moment, self._number, do))

    def go_on(self, until_s: float) -> None:
        """Let time pass."""
        self.fill()
        while self._events and self._events[0][0] <= until_s:
            moment, _, do = heapq.heappop(self._events)
            self._tick(moment)
            do()
        self._tick(until_s)

    def fill(self) -> None:
        """Begin as many batches as there are free connections."""
        while self._running < self.writers + PIPELINED:
            self._running += 1
            opening = self.server.open_s if self._running > self._opened else 0.0
            self._opened = max(self._opened, self._running)
            began, generation = self.now, self._generation
            self.at(self.now + opening + self.server.away_s, lambda b=began, g=generation: self._serve(b, g))

    def resize(self, writers: int) -> None:
        """Change the number of writers."""
        self.writers = writers
        self._generation += 1
        self.run.writers.append((self.now, writers))
        self._clear()
        self.fill()

    def take(self, trouble: Trouble | None = None) -> Sample:
        """Return what was measured, as `Lanes.take` does."""
        sample = Sample(
            seconds=self.now - self._since,
            busy_s=self._busy_s,
            batches=self._batches,
            loaded_bytes=self._batches * BATCH_BYTES,
            batch_s=self._batch_s,
            trouble=trouble,
        )
        self._clear()
        return sample

    def drift(self) -> None:
        """Let the machine be faster or slower for the next second."""
        cold = self.server.warming * 0.5 ** (self.now / 4)
        self._speed = (1 - cold) * (1 + self._random.uniform(-1, 1) * self.server.drift)

    def _serve(self, began: float, generation: int) -> None:
        core = min(range(self.server.cores), key=self._cores.__getitem__)
        crowd = max(0, self._running - PIPELINED - self.server.cores) * self.server.crowding
        blur = 1 + self._random.uniform(-1, 1) * self.server.noise
        ends = max(self.now, self._cores[core]) + self.server.work_s * (1 + crowd) * blur / self._speed
        self._cores[core] = ends
        self.at(ends, lambda: self._end(began, generation))

    def _end(self, began: float, generation: int) -> None:
        self._running -= 1
        self.run.loaded.append(self.now)
        if generation == self._generation:
            self._batches += 1
            self._batch_s += self.now - began
        self.fill()

    def _tick(self, now: float) -> None:
        self._busy_s += self._running * (now - self.now)
        self.now = now

    def _clear(self) -> None:
        self._since, self._busy_s, self._batch_s, self._batches = self.now, 0.0, 0.0, 0


def simulate(
    server: Server,
    seconds: float,
    *,
    fixed: int | None = None,
    start: int = 2,
    most: int = 16,
    seed: int = 0,
    trouble: Callable[[float, int], Trouble | None] = lambda _now, _writers: None,
) -> Run:
    """Load for some seconds with a number of writers that is fixed, or with one that is found.

    `trouble` says what goes wrong at a moment with a number of writers.
    """
    world, climber = World(server, fixed or start, seed), Climber(least=1, start=start, most=most)
    looks = round(seconds / LOOK_S)
    for look in range(1, looks + 1):
        if look % 4 == 1:
            world.drift()
        world.go_on(look * LOOK_S)
        if fixed is None and climber.observe(world.take(trouble(world.now, world.writers))) is not None:
            world.resize(climber.writers)
    return world.run


def best_fixed(server: Server, seconds: float, since_s: float, *, most: int = 16) -> tuple[int, float]:
    """Return the number of writers that loads most, and its batches a second."""
    rates = {n: simulate(server, seconds, fixed=n).rate(since_s, seconds) for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, most)}
    best = max(rates, key=rates.__getitem__)
    return best, rates[best]
