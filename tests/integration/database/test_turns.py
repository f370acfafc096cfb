"""The loop of asyncio inside Trio: quick, in order, and fair to all others."""

from __future__ import annotations

import trio
import trio_asyncio

from ingest.database.opening import open_loop
from ingest.database.turns import LEAST_TIMERS, MOST_AT_ONCE


async def test_callbacks_run_in_the_order_they_were_asked_for() -> None:
    """However many they are, and with those that they ask for themselves behind them."""
    ran: list[int] = []
    async with open_loop() as loop:
        for number in range(3 * MOST_AT_ONCE):
            loop.call_soon(ran.append, number)
        loop.call_soon(lambda: loop.call_soon(ran.append, -2))
        loop.call_soon(ran.append, -1)
        await loop.synchronize()
        await loop.synchronize()
    assert ran == [*range(3 * MOST_AT_ONCE), -1, -2]


async def test_callbacks_without_end_leave_the_others_their_turn() -> None:
    """A task of Trio's goes on beside a callback that asks for itself again and again."""
    async with open_loop() as loop:
        stopped = False

        def again() -> None:
            if not stopped:
                loop.call_soon(again)

        loop.call_soon(again)
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        stopped = True


async def test_timers_that_were_cancelled_do_not_pile_up() -> None:
    """Each statement leaves one, which would stay for minutes."""
    async with open_loop() as loop:

        async def many() -> None:
            for _ in range(5 * LEAST_TIMERS):
                loop.call_later(300, print).cancel()

        await trio_asyncio.aio_as_trio(many)()
        await loop.synchronize()
        await trio.lowlevel.checkpoint()
        assert len(loop._timers) <= LEAST_TIMERS + MOST_AT_ONCE
