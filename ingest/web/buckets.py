"""Rates held by token buckets, one for each key or address, in a table that cannot grow without bound."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import trio


@dataclass(slots=True)
class Bucket:
    """Tokens: `rate` a second come in, up to `burst`; `left` of them were there at `at`."""

    rate: float
    burst: float
    left: float
    at: float

    def refill(self, now: float) -> None:
        """Let the tokens come in that have become due."""
        self.left = min(self.burst, self.left + (now - self.at) * self.rate)
        self.at = now


class Buckets:
    """Buckets by name, at most `most`: the one that was not used for longest gives way, and begins full again."""

    def __init__(self, most: int, clock: Callable[[], float] = trio.current_time) -> None:
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: Hashable, *, rate: float, burst: float) -> float:
        """Take a token: 0 when there was one, else the seconds until there is."""
        bucket = self._bucket(name, rate, burst)
        if bucket.left >= 1:
            bucket.left -= 1
            return 0.0
        return (1 - bucket.left) / rate

    def wait_s(self, name: Hashable, *, rate: float, burst: float) -> float:
        """Return the seconds until there is a token, without taking it; a name that is not known has all of its."""
        if name not in self._buckets:
            return 0.0
        return max(0.0, 1 - self._bucket(name, rate, burst).left) / rate

    def _bucket(self, name: Hashable, rate: float, burst: float) -> Bucket:
        now = self._clock()
        bucket = self._buckets.get(name)
        if bucket is None or (bucket.rate, bucket.burst) != (rate, burst):
            bucket = self._buckets[name] = Bucket(rate, burst, burst, now)
        bucket.refill(now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return bucket
