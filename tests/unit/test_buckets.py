"""Token buckets: a burst, then a rate, in bounded memory."""

from __future__ import annotations

import pytest

from ingest.web.buckets import Buckets


class Clock:
    """Time that moves when it is told to."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(10, clock)
    assert [buckets.take("a", rate=2, burst=3) for _ in range(3)] == [0, 0, 0]
    assert buckets.take("a", rate=2, burst=3) == pytest.approx(0.5)
    clock.now += 0.5
    assert buckets.take("a", rate=2, burst=3) == 0
    assert buckets.take("a", rate=2, burst=3) > 0
    clock.now += 1000
    assert [buckets.take("a", rate=2, burst=3) > 0 for _ in range(4)] == [False, False, False, True]


def test_looking_takes_nothing() -> None:
    buckets = Buckets(10, Clock())
    for _ in range(5):
        assert buckets.wait_s("a", rate=1, burst=1) == 0
    assert len(buckets) == 0
    buckets.take("a", rate=1, burst=1)
    assert buckets.wait_s("a", rate=1, burst=1) == pytest.approx(1)


def test_a_slow_rate_names_the_whole_wait() -> None:
    buckets = Buckets(10, Clock())
    assert buckets.take("a", rate=0.1, burst=1) == 0
    assert buckets.take("a", rate=0.1, burst=1) == pytest.approx(10)


def test_the_table_stays_bounded_and_forgets_the_oldest() -> None:
    buckets = Buckets(3, Clock())
    for name in range(1000):
        buckets.take(name, rate=1, burst=1)
        buckets.take("kept", rate=1000, burst=1000)
        assert len(buckets) <= 3
    assert buckets.wait_s(0, rate=1, burst=1) == 0
    assert buckets.wait_s(999, rate=1, burst=1) > 0


def test_a_changed_rate_holds_at_once() -> None:
    buckets = Buckets(3, Clock())
    buckets.take("a", rate=1, burst=1)
    assert buckets.take("a", rate=5, burst=5) == 0
