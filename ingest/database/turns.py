"""Many callbacks of asyncio in one turn of its loop, where trio-asyncio makes a turn of each.

A turn is a trip through Trio's scheduler and, by way of epoll, through the kernel, and a single statement takes a dozen
callbacks. asyncio itself runs all that wait in one turn, too.
"""

from __future__ import annotations

import heapq

import trio
import trio_asyncio

# Then the other tasks of the process have their turn.
MOST_AT_ONCE = 64
# Timers that were cancelled stay until their time has come, which for a connection's idle time is minutes: asyncio
# drops them when they are many, trio-asyncio does not.
LEAST_TIMERS = 1000


def take_many_at_once(loop: trio_asyncio.TrioEventLoop) -> None:
    """Make `loop`, which is open, run all callbacks that wait in each of its turns.

    trio-asyncio has no setting for it, so its private method is replaced (the version is pinned).
    """
    one_callback = loop._main_loop_one
    most_timers = LEAST_TIMERS

    async def turn(no_wait: bool = False) -> None:
        nonlocal most_timers
        await one_callback(no_wait)
        try:
            for _ in range(MOST_AT_ONCE - 1):
                await one_callback(no_wait=True)
        except trio.WouldBlock:
            pass  # none is left
        if len(loop._timers) > most_timers:
            loop._timers = [timer for timer in loop._timers if not timer.cancelled()]
            heapq.heapify(loop._timers)
            most_timers = max(LEAST_TIMERS, 2 * len(loop._timers))

    loop._main_loop_one = turn
