"""The number of writers stays within its bounds, comes to where the server is used to the full, and stays there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.climbing import FIRST_REST_S, LONGEST_REST_S, Climber
from ingest.throughput import Sample, Trouble
from tests.unit.simulated import Server, best_fixed, simulate

# Where more writers stop to pay: a machine like this one; one far away; batches that are short for the way; a large
# one; one that each further writer makes slower.
SERVERS = {
    "near": Server(cores=2, work_s=0.033, away_s=0.004, crowding=0.01),
    "away": Server(cores=2, work_s=0.037, away_s=0.02, crowding=0.005),
    "short batches": Server(cores=2, work_s=0.007, away_s=0.025),
    "far": Server(cores=8, work_s=0.05, away_s=0.1),
    "large": Server(cores=12, work_s=0.05, away_s=0.01),
    "crowded": Server(cores=2, work_s=0.05, away_s=0.02, crowding=0.1),
}
FOUND_BY_S, UNTIL_S = 10.0, 30.0
MOST = 16

SAMPLES = st.builds(
    Sample,
    seconds=st.floats(0, 100),
    busy_s=st.floats(0, 2000),
    batches=st.integers(0, 10_000),
    loaded_bytes=st.integers(0, 1 << 40),
    batch_s=st.floats(0, 2000),
    trouble=st.sampled_from([None, None, None, "conflict", "lock", "unavailable", "memory"]),
)


@given(
    bounds=st.tuples(st.integers(1, 64), st.integers(1, 64), st.integers(1, 64)).map(sorted),
    samples=st.lists(SAMPLES, max_size=60),
)
def test_it_stays_within_its_bounds(bounds: list[int], samples: list[Sample]) -> None:
    """Whatever is measured; and it says so when it changes, and only then."""
    least, start, most = bounds
    climber = Climber(least=least, start=start, most=most)
    for sample in samples:
        before = climber.writers
        reason = climber.observe(sample)
        assert (reason is not None) == (climber.writers != before)
        assert least <= climber.writers <= most
        if sample.trouble is not None:
            assert climber.writers <= before


@pytest.mark.parametrize("name", SERVERS)
def test_it_finds_what_is_best_within_ten_seconds(name: str) -> None:
    """At least 95 % of the best number that could be set, trials included."""
    _, best = best_fixed(SERVERS[name], UNTIL_S, FOUND_BY_S, most=MOST)
    assert simulate(SERVERS[name], UNTIL_S).rate(FOUND_BY_S, UNTIL_S) >= 0.95 * best


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["near", "short batches", "far"])
def test_it_finds_it_on_a_machine_that_is_never_the_same(name: str, seed: int) -> None:
    """Batches that take 0.6 to 1.4 times as long as the mean, and seconds in which all go 8 % faster or slower."""
    calm = SERVERS[name]
    noisy = Server(cores=calm.cores, work_s=calm.work_s, away_s=calm.away_s, crowding=calm.crowding,
                   noise=0.4, drift=0.08, open_s=0.05)  # fmt: skip
    _, best = best_fixed(calm, UNTIL_S, FOUND_BY_S, most=MOST)
    assert simulate(noisy, UNTIL_S, seed=seed).rate(FOUND_BY_S, UNTIL_S) >= 0.92 * best


def test_a_load_that_becomes_quicker_by_itself_does_not_carry_it_up() -> None:
    """A server that is cold: each measurement is better than the one before, whatever the writers."""
    cold = Server(cores=2, work_s=0.13, away_s=0.01, crowding=0.03, warming=0.4)
    found = simulate(cold, UNTIL_S)
    assert max(writers for at, writers in found.writers if at >= FOUND_BY_S) <= 4
    _, best = best_fixed(cold, UNTIL_S, FOUND_BY_S, most=MOST)
    assert found.rate(FOUND_BY_S, UNTIL_S) >= 0.95 * best


@pytest.mark.parametrize("name", SERVERS)
def test_it_does_not_oscillate(name: str) -> None:
    """From the second minute on it stands still but for a trial now and then, each back within seconds."""
    found = simulate(SERVERS[name], 360.0)
    assert found.changes(60.0) <= 16
    stayed = dict.fromkeys(range(1, MOST + 1), 0.0)
    for (since, writers), (until, _) in zip(found.writers, [*found.writers[1:], (360.0, 0)], strict=True):
        stayed[writers] += max(0.0, until - max(since, 60.0))
    assert max(stayed.values()) >= 0.9 * 300.0


def test_fewer_writers_than_at_the_start_are_not_tried() -> None:
    """It could only lose by that."""
    found = simulate(Server(cores=1, work_s=0.02), 60.0, start=4)
    assert min(writers for _, writers in found.writers) == 4


def test_a_load_that_something_else_holds_up_does_not_make_it_grow() -> None:
    """The lanes are half empty: more of them are of no use."""
    climber = Climber(least=1, start=4, most=16)
    for _ in range(100):
        assert climber.observe(Sample(seconds=0.25, busy_s=0.5, batches=20, loaded_bytes=20_000, batch_s=0.5)) is None


def test_time_without_work_is_no_measurement() -> None:
    """A file an hour says nothing about the number of writers."""
    climber = Climber(least=1, start=2, most=16)
    for _ in range(100):
        assert climber.observe(Sample(seconds=0.5, busy_s=1.0, batches=6, loaded_bytes=6000, batch_s=1.0)) is None
        assert climber.observe(Sample(seconds=3600.0)) is None


@pytest.mark.parametrize(
    ("trouble", "falls"), [("conflict", [8, 4, 2, 1, 1]), ("memory", [12, 9, 6, 4, 4]), ("lock", [8, 4, 2, 1, 1])]
)
def test_trouble_makes_it_smaller_at_once(trouble: Trouble, falls: list[int]) -> None:
    """By half; for memory by a quarter, and not below where it began: that much is meant to be there."""
    climber = Climber(least=1, start=4, most=16)
    climber.writers = 16
    seen = []
    for _ in falls:
        climber.observe(Sample(seconds=1.0, trouble=trouble))
        seen.append(climber.writers)
    assert seen == falls


def test_it_grows_back_when_the_trouble_is_over() -> None:
    """Locks from the 20th second to the 25th."""
    found = simulate(SERVERS["far"], 90.0, trouble=lambda now, _: "lock" if 20 <= now <= 25 else None)
    assert min(writers for at, writers in found.writers if at >= 20) == 1
    assert found.writers[-1][1] >= 12
    assert found.rate(70.0, 90.0) > 0.9 * found.rate(10.0, 20.0)


def test_trouble_that_comes_with_growth_is_asked_for_ever_less() -> None:
    """Deadlocks with more than six writers: in ten minutes a few, not one in every second."""
    met: list[float] = []

    def trouble(now: float, writers: int) -> Trouble | None:
        if writers > 6:
            met.append(now)
            return "conflict"
        return None

    found = simulate(SERVERS["far"], 600.0, trouble=trouble)
    assert len(met) <= 30
    assert found.rate(300.0, 600.0) >= 0.6 * simulate(SERVERS["far"], 60.0, fixed=6).rate(10.0, 60.0)


def test_each_rest_is_longer_than_the_one_before_until_there_was_calm() -> None:
    climber = Climber(least=1, start=2, most=16)

    def rest_s() -> float:
        """How long nothing is measured after trouble, in steps of a second."""
        climber.observe(Sample(seconds=1.0, trouble="conflict"))
        waited = 0.0
        while climber.observe(Sample(seconds=1.0, busy_s=100.0, batches=100, loaded_bytes=100, batch_s=1.0)) is None:
            waited += 1
            assert waited < 1000
        return waited

    assert climber.writers == 2
    first, second, third = rest_s(), rest_s(), rest_s()
    assert first < second < third
    for _ in range(round(LONGEST_REST_S / FIRST_REST_S) + 100):
        climber.observe(Sample(seconds=FIRST_REST_S))
    assert rest_s() == first


def test_another_load_is_climbed_anew() -> None:
    """What loads a tenth of the bytes a second is another table: trials come soon again."""
    climber = Climber(least=1, start=2, most=8)

    def go(rate: float, looks: int) -> int:
        changes = 0
        for _ in range(looks):
            n = climber.writers
            seen = Sample(
                seconds=1.0, busy_s=1.0 * n, batches=20 * n, loaded_bytes=round(rate * 20), batch_s=20.0 / 20 * n
            )
            changes += climber.observe(seen) is not None
        return changes

    go(1e6, 1000)
    still = go(1e6, 100)
    assert go(1e5, 100) > still
