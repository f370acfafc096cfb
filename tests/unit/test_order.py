"""Batches of a keyed chunk are loaded in file order, all others side by side."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from ingest.order import GaveWay, Order


async def load(order: Order, start: int, seconds: float, loaded: list[int]) -> None:
    """What a writer does with one batch."""
    await order.turn(start)
    await trio.sleep(seconds)
    loaded.append(start)
    order.settle(start)


@pytest.mark.parametrize("seed", range(20))
async def test_keyed_batches_are_loaded_in_file_order(seed: int, autojump_clock: trio.testing.MockClock) -> None:
    """However long each takes and in whatever order the writers wake, each follows its elders."""
    chance = random.Random(seed)
    order, loaded = Order(keyed=True), list[int]()
    async with trio.open_nursery() as nursery:
        for start in range(0, 100, 10):
            order.add(start)
            nursery.start_soon(load, order, start, chance.random(), loaded)
    assert loaded == list(range(0, 100, 10))


async def test_other_batches_do_not_wait(autojump_clock: trio.testing.MockClock) -> None:
    """Without a key a batch that is slow holds nobody up."""
    order, loaded = Order(keyed=False), list[int]()
    async with trio.open_nursery() as nursery:
        for start, seconds in ((0, 5), (10, 1), (20, 2)):
            order.add(start)
            nursery.start_soon(load, order, start, seconds, loaded)
    assert (loaded, trio.current_time()) == ([10, 20, 0], 5)


async def test_an_elder_that_is_cancelled_does_not_let_the_next_one_pass(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A batch that was given up is not in the ledger: who waits for it waits until the run has ended."""
    order = Order(keyed=True)
    order.add(0)
    order.add(10)
    with trio.move_on_after(1):
        await load(order, 0, 5, [])
    with trio.move_on_after(60) as waiting:
        await order.turn(10)
    assert waiting.cancelled_caught


async def test_a_batch_begins_when_all_before_it_have_begun_and_goes_on_in_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Staging overlaps, merging does not."""
    order, events = Order(keyed=True), list[tuple[str, int]]()

    async def load_ahead(start: int) -> None:
        await order.begin(start)
        events.append(("begun", start))
        await trio.sleep(10 - start)
        await order.turn_within(start)
        events.append(("merged", start))
        order.settle(start)

    for start in (0, 1, 2):
        order.add(start)
    async with trio.open_nursery() as nursery:
        for start in (2, 1, 0):
            nursery.start_soon(load_ahead, start)
    assert events == [(what, start) for what in ("begun", "merged") for start in (0, 1, 2)]


async def test_a_batch_gives_way_to_one_before_it_that_begins_again(autojump_clock: trio.testing.MockClock) -> None:
    """Its connection may be the one that the other waits for; and nobody rests in a transaction for ever."""
    order = Order(keyed=True)
    for start in (0, 1):
        order.add(start)
        await order.begin(start)
    with pytest.raises(GaveWay):
        await order.turn_within(1)  # the batch before takes longer than a transaction may rest
    order.stop(0)
    with pytest.raises(GaveWay):
        await order.turn_within(1)
    with trio.move_on_after(60) as waiting:
        await order.begin(1)
    assert waiting.cancelled_caught
    await order.begin(0)
    order.settle(0)
    await order.turn_within(1)
