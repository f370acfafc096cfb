"""The loop of trio-asyncio, made to cost less: for a single statement it takes a dozen callbacks.

Each callback is a turn of its loop: a trip through Trio's scheduler and, by way of epoll, through the kernel. asyncio
itself runs all that wait in one turn, and so do we. Nor is a socket left unwatched until all callbacks have run: what
had come was read by then.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from typing import Any

import trio
import trio_asyncio

# Then the other tasks of the process have their turn.
MOST_AT_ONCE = 64
# Timers that were cancelled stay until their time has come, which for a connection's idle time is minutes: asyncio
# drops them when they are many, trio-asyncio does not.
LEAST_TIMERS = 1000


def hasten(loop: trio_asyncio.TrioEventLoop) -> None:
    """Make `loop`, which is open, run all callbacks that wait in each of its turns, and make them without ado.

    trio-asyncio has no settings for that, so private methods of it are replaced (the version is pinned).
    """
    loop._main_loop_one = _turns(loop)
    loop._io_task = _watch
    loop.call_soon = _soon(loop)


def _turns(loop: trio_asyncio.TrioEventLoop) -> Callable[..., Awaitable[None]]:
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

    return turn


def _soon(loop: trio_asyncio.TrioEventLoop) -> Callable[..., asyncio.Handle]:
    """Return `call_soon` without its check whether the callback is a coroutine function, which took longer than it."""

    def soon(callback: Callable[..., object], *args: object, **context: Any) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, loop, **context)
        loop._queue_handle(handle)
        return handle

    return soon


async def _watch(fd: int, handle: Any, wait_ready: Callable[[int], Awaitable[None]]) -> None:
    """Run `handle` whenever `fd` is ready, until it is cancelled."""
    with handle._scope:
        try:
            while not handle._cancelled:
                try:
                    await wait_ready(fd)
                except OSError:
                    if handle._cancelled:  # and its socket closed, before we were told
                        return
                    raise
                if not handle._cancelled:
                    handle._run()
        except Exception as error:
            handle._raise(error)
