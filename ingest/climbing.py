"""How many writers pay: a climb to where another writer would bring nothing, decided from what the last ones brought.

Throughput is measured, at two numbers of writers, and compared as in TCP Vegas (Brakmo, O'Malley, Peterson 1994), which
holds what was expected of a larger window against what came of it, and begins like that: double, measure, compare, and
stay at the knee. Throughput itself and not latency decides, since a table's batches take longer as its indexes grow
(Netflix' concurrency-limits has to let its baseline drift for that). Trouble (conflicts, waits for locks, a database
without connections left, memory) halves the number, and it grows back step by step: additive increase, multiplicative
decrease (Chiu, Jain 1989). As there, nothing is concluded while the writers are not what holds the load up.

What keeps it still: a number is left only for one that pays by PRICE, and each trial that finds nothing doubles the
time until the next one. Pure: no clock, no I/O.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from ingest.throughput import Level, Sample, Trouble

Reason = Literal["climb", "trial", "return", "conflict", "lock", "unavailable", "memory"]

# Below this share of the writers at work, something else holds the load up.
LIMITED = 0.75
# What comes right after a change is not measured: connections are opened, writers find their places.
SETTLE_ROUNDS = 1  # batches of each writer
# A measurement is as long as all of these ask; the last two give the shares of single batches less weight.
WINDOW_S = 0.75
WINDOW_BATCHES = 16
WINDOW_ROUNDS = 4
# Of slow batches fewer have to do, or nothing would be decided for minutes.
LONG_WINDOW_S = 3.0
FEW_ROUNDS = 2
# A measurement that is so far off the ones before says that another load has begun.
ANOTHER_LOAD = 0.3
# A trial is given up after its first measurement if that is not worth so much.
HOPELESS = 0.96
# Windows between trials, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 2, 64
# Trouble comes to several writers at about the same time; it is answered once.
SAME_TROUBLE_S = 1.0
# Seconds without any change after trouble, at first and at most.
FIRST_REST_S, LONGEST_REST_S = 2.0, 60.0
# A step of the climb that seems to pay, but not by this, is held against what the number before brings once more: loads
# begin slowly, and one that becomes quicker by itself carried the number up.
SURE = 1.25
# How much of the new measurement goes into the mean.
WEIGHT = 0.3


class Climber:
    """Decides the number of writers, from `least` to `most`. One task calls `observe`, often; `writers` is in force.

    It is always in one of four states. `climb`: double until that does not pay. `doubt`: back at the number before, to
    see whether it was the writers. `stay`: at the best number known. `trial`: beside it, to see whether the neighbour
    is better.
    """

    def __init__(self, *, least: int, start: int, most: int) -> None:
        self.writers = start
        self.rate = 0.0  # bytes a second, as last measured
        self._least, self._start, self._most = least, start, most
        self._state: Literal["climb", "doubt", "stay", "trial"] = "climb"
        self._knee = most  # the climb ends here, after trouble
        self._base: Level | None = None  # the best number so far; what a trial is compared with
        self._open = Sample()
        self._step = 1  # up or down, for the next trial
        self._first: Level | None = None  # of a trial, which takes two measurements
        self._doubted: Level | None = None  # the step of the climb that may not have been worth it
        self._settling = 0  # batches that are still to be passed over
        self._pause = self._left = FIRST_PAUSE
        self._strays = 0
        self._deaf_s = self._rest_s = 0.0  # still to come
        self._whole_rest_s = FIRST_REST_S
        self._next_rest_s = FIRST_REST_S
        self._calm_s = 0.0  # since the last trouble

    def observe(self, sample: Sample) -> Reason | None:
        """Take note of the next seconds; says why `writers` has changed, or None when it has not.

        After a change the next sample must begin with it.
        """
        self._deaf_s -= sample.seconds
        if sample.trouble is not None:
            return self._back_off(sample.trouble)
        if self._is_resting(sample.seconds):
            return None
        if self._settling > 0:
            self._settling -= sample.batches
            return None
        self._open = self._open + sample if sample.busy_s else Sample()  # what nothing was done in is no part of it
        if not self._is_measured():
            return None
        window, self._open = self._open, Sample()
        self.rate = window.rate
        found = Level(writers=self.writers, rate=window.rate)
        if self._state == "trial":
            return self._judge(found, window.busy)
        if self._state == "doubt":
            return self._decide(found, window.busy)
        return self._climb(found, window.busy) if self._state == "climb" else self._stay(found, window.busy)

    def _is_resting(self, seconds: float) -> bool:
        """Count down the rest, and after it the calm that makes the next one short again."""
        self._calm_s += seconds
        if self._calm_s >= LONGEST_REST_S:
            self._next_rest_s = FIRST_REST_S
        self._rest_s -= seconds
        return self._rest_s > 0

    def _is_measured(self) -> bool:
        window, rounds = self._open, self._open.batches / self.writers
        if window.seconds < WINDOW_S:
            return False
        if window.seconds >= LONG_WINDOW_S and rounds >= FEW_ROUNDS:
            return True
        return rounds >= WINDOW_ROUNDS and window.batches >= WINDOW_BATCHES

    def _climb(self, found: Level, busy: float) -> Reason | None:
        if self._base is not None and found.worth(self._base) < 1:
            self._settle(self._base)
            return self._go(self._base.writers, "return")
        if self._base is not None and found.rate < SURE * self._base.rate:
            self._state, self._doubted = "doubt", found
            return self._go(self._base.writers, "return")
        return self._climb_on(found, busy)

    def _climb_on(self, found: Level, busy: float) -> Reason | None:
        """Double again, from a number that is worth it."""
        if busy < LIMITED * found.writers:
            return None
        if found.writers >= self._knee:
            self._settle(found)
            return self._go(found.writers, "climb") if found.writers != self.writers else None
        self._base = found
        return self._go(min(found.writers * 2, self._knee), "climb")

    def _decide(self, again: Level, busy: float) -> Reason | None:
        """Hold a step against what came before and after it, whose mean is what the same moment would have brought."""
        assert self._base is not None
        assert self._doubted is not None
        before = replace(again, rate=(self._base.rate + again.rate) / 2)
        if self._doubted.worth(before) < 1:
            self._settle(before)
            return None
        self._state = "climb"
        return self._climb_on(self._doubted, busy * self._doubted.writers / again.writers)

    def _settle(self, level: Level) -> None:
        self._state, self._base, self._step = "stay", level, 1
        self._left = self._pause

    def _stay(self, found: Level, busy: float) -> Reason | None:
        assert self._base is not None
        self._follow(found)
        if busy < LIMITED * found.writers:
            return None
        self._left -= 1
        if self._left > 0:
            return None
        candidate = self._candidate()
        if candidate is None:
            return None
        self._state, self._first = "trial", None
        return self._go(candidate, "trial")

    def _follow(self, found: Level) -> None:
        """Mix a measurement into the mean; two that are far off it begin a new one, and new trials."""
        assert self._base is not None
        is_stray = abs(found.rate - self._base.rate) > ANOTHER_LOAD * self._base.rate
        self._strays = self._strays + 1 if is_stray else 0
        if self._strays == 2:
            self._base, self._strays = found, 0
            self._pause = FIRST_PAUSE
            self._left = min(self._left, FIRST_PAUSE)
        elif not is_stray:
            self._base = replace(self._base, rate=self._base.rate + WEIGHT * (found.rate - self._base.rate))

    def _candidate(self) -> int | None:
        """Return the neighbour to try, a fourth away; the other one when there is none on this side."""
        for _ in range(2):
            candidate = self.writers + self._step * max(1, self.writers // 4)
            candidate = max(self._floor(), min(candidate, self._most))
            if candidate != self.writers:
                return candidate
            self._step = -self._step
        return None

    def _floor(self) -> int:
        """Fewer writers than it began with are not tried for their own sake: that costs more than it can save."""
        return max(self._least, min(self._start, self.writers))

    def _judge(self, found: Level, busy: float) -> Reason | None:
        assert self._base is not None
        if busy < LIMITED * min(found.writers, self._base.writers):
            self._state, self._left = "stay", self._pause  # the load has ended meanwhile: that says nothing
            return self._go(self._base.writers, "return")
        if self._first is None and found.worth(self._base) >= HOPELESS:
            self._first = found
            return None
        if self._first is not None:
            found = replace(found, rate=(self._first.rate + found.rate) / 2)
        if found.worth(self._base) < 1:
            self._step = -self._step
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._state, self._left = "stay", self._pause
            return self._go(self._base.writers, "return")
        # The same direction goes on at once; the pause is as it was, so that there and back again takes ever longer.
        self._state, self._base, self._left = "stay", found, 1
        return None

    def _back_off(self, trouble: Trouble) -> Reason | None:
        """Halve, or for memory take a fourth away, and rest; each time longer, unless there was a long calm."""
        if self._deaf_s > 0:
            return None
        began_at, floor = self.writers, self._least
        wanted = began_at // 2
        if trouble == "memory":
            wanted, floor = began_at * 3 // 4, min(self._start, began_at)
        if self._rest_s <= 0:
            self._knee, self._whole_rest_s = max(1, wanted), self._next_rest_s
            self._next_rest_s = min(self._next_rest_s * 2, LONGEST_REST_S)
        self._rest_s, self._calm_s, self._deaf_s = self._whole_rest_s, 0.0, SAME_TROUBLE_S
        self._state, self._base, self._open = "climb", None, Sample()
        self._pause = self._left = FIRST_PAUSE
        wanted = max(floor, wanted)
        return self._go(wanted, trouble) if wanted != began_at else None

    def _go(self, writers: int, reason: Reason) -> Reason:
        self.writers = writers
        self._open, self._settling = Sample(), SETTLE_ROUNDS * writers
        return reason
