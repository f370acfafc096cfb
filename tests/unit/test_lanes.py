"""The lanes: what is measured of the batches that pass, and how the writers of chunk runs follow their number."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import trio
from trio.testing import MockClock

from ingest.errors import ConflictError, RowError, UnavailableError
from ingest.lanes import PIPELINED_WRITERS, REMEMBERED, WRITERS_IN_ORDER, Crew, Lanes


async def pass_through(lanes: Lanes, seconds: float, size: int = 100) -> None:
    async with lanes.through(size):
        await trio.sleep(seconds)


async def test_what_passes_is_measured(autojump_clock: MockClock) -> None:
    """Two batches side by side for a second, one of them for another."""
    lanes = Lanes(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_through, lanes, 1.0)
        nursery.start_soon(pass_through, lanes, 2.0)
        await trio.sleep(1.5)
        assert (lanes.busy, lanes.oldest_s) == (1, pytest.approx(1.5))
    found = lanes.take()
    assert (found.seconds, found.busy_s, found.batch_s) == pytest.approx((2.0, 3.0, 3.0))
    assert (found.batches, found.loaded_bytes, found.trouble) == (2, 200, None)
    assert found.rate == pytest.approx(100.0)
    assert lanes.take().batches == 0
    assert lanes.oldest_s == 0


async def test_no_more_pass_than_there_are_lanes(autojump_clock: MockClock) -> None:
    """And that number can be changed while batches are under way; those that are beyond it end."""
    lanes = Lanes(3)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(pass_through, lanes, 1.0)
        await trio.sleep(0.5)
        assert lanes.busy == 3 + PIPELINED_WRITERS
        lanes.resize(1, "conflict")
        await trio.sleep(0.1)
        assert lanes.busy == 3 + PIPELINED_WRITERS
        await trio.sleep(1.0)
        assert lanes.busy == 1 + PIPELINED_WRITERS
        lanes.resize(6, "climb")
        await trio.sleep(0.1)
        assert lanes.busy == 6 + PIPELINED_WRITERS


async def test_batches_that_began_before_a_change_are_not_counted(autojump_clock: MockClock) -> None:
    """They went with another number of writers beside them."""
    lanes = Lanes(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pass_through, lanes, 1.0)
        await trio.sleep(0.5)
        lanes.resize(4, "climb")
        nursery.start_soon(pass_through, lanes, 1.0, 7)
    found = lanes.take()
    assert (found.batches, found.loaded_bytes, found.busy_s) == (1, 7, pytest.approx(1.5))


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (ConflictError("x", sqlstate="40P01"), "conflict"),
        (UnavailableError("x", sqlstate="53300"), "unavailable"),
        (RowError("x", sqlstate="23505"), None),
    ],
)
async def test_trouble_is_noted_and_passed_on(autojump_clock: MockClock, error: Exception, trouble: str | None) -> None:
    """What is wrong with a record is no trouble of the database. Time is time, whatever came of it."""
    lanes = Lanes(2)

    async def fail() -> None:
        async with lanes.through(100):
            await trio.sleep(1.0)
            raise error

    with pytest.raises(type(error)):
        await fail()
    found = lanes.take()
    assert (found.trouble, found.batches, found.loaded_bytes) == (trouble, 0, 0)
    assert (found.batch_s, found.busy_s, lanes.busy) == (1.0, 1.0, 0)


async def test_a_cancelled_batch_leaves_its_lane(autojump_clock: MockClock) -> None:
    lanes = Lanes(1)
    with trio.move_on_after(1.0):
        await pass_through(lanes, 10.0)
    assert (lanes.busy, lanes.take().batches) == (0, 0)


async def test_the_latest_changes_are_remembered(autojump_clock: MockClock) -> None:
    """So many and no more."""
    lanes = Lanes(1)
    for writers in range(2, 2 + 2 * REMEMBERED):
        lanes.resize(writers, "climb")
    assert len(lanes.changes) == REMEMBERED
    assert (lanes.changes[-1].before, lanes.changes[-1].writers) == (2 * REMEMBERED, 2 * REMEMBERED + 1)


class Writers:
    """Counts the writers of a chunk run, as they are begun and as they leave."""

    def __init__(self) -> None:
        self.number = 0

    def begin(self) -> None:
        self.number += 1

    def ask(self, crew: Crew) -> None:
        """Each of them ends a batch."""
        for _ in range(self.number):
            self.number -= crew.is_spare()


@pytest.mark.parametrize(
    ("writers", "chunks", "share"), [(1, 1, 1), (2, 2, 2), (4, 1, 4), (4, 2, 3), (16, 2, 9), (4, 64, 1)]
)
async def test_chunk_runs_share_the_lanes(autojump_clock: MockClock, writers: int, chunks: int, share: int) -> None:
    """All together hold hardly more batches than there are lanes, and each has a writer."""
    lanes = Lanes(writers)
    with ExitStack() as held:
        for _ in range(chunks):
            held.enter_context(lanes.crew(lambda: None, in_order=False))
        assert lanes.share() == share


async def test_a_crew_follows_the_number_of_lanes(autojump_clock: MockClock) -> None:
    """It grows when its reader asks, and shrinks when a writer has ended a batch; one always stays."""
    lanes, writers = Lanes(4), Writers()
    with lanes.crew(writers.begin, in_order=False) as crew:
        crew.hire()
        assert writers.number == 4
        lanes.resize(8, "climb")
        crew.hire()
        assert writers.number == 8
        with lanes.crew(lambda: None, in_order=False):
            writers.ask(crew)
            assert writers.number == 5
        lanes.resize(1, "lock")
        writers.ask(crew)
        writers.ask(crew)
        assert writers.number == 1


async def test_batches_that_wait_for_each_other_get_two_writers(autojump_clock: MockClock) -> None:
    """More would only hold batches in memory."""
    lanes, writers = Lanes(8), Writers()
    with lanes.crew(writers.begin, in_order=True) as crew:
        crew.hire()
    assert writers.number == WRITERS_IN_ORDER
