"""Slots bound how many sessions keep the server busy; their number can be changed meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ingest.database.slots import Slots

STEPS = 10


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on a plain asyncio loop; its task is not Trio's."""
    loop = asyncio.SelectorEventLoop()
    try:
        loop.run_until_complete(test())
    finally:
        loop.close()


class Holders:
    """Sessions that want a slot, hold it until they are told, and note when they had it."""

    def __init__(self, slots: Slots, number: int) -> None:
        self.holding: list[int] = []
        self.order: list[int] = []
        self._slots = slots
        self._ends = [asyncio.Event() for _ in range(number)]
        self.tasks = [asyncio.ensure_future(self._hold(i)) for i in range(number)]

    async def _hold(self, number: int) -> None:
        await self._slots.acquire()
        self.holding.append(number)
        self.order.append(number)
        try:
            await self._ends[number].wait()
        finally:
            self.holding.remove(number)
            self._slots.release()

    async def end(self, *numbers: int) -> None:
        """Let some go on, and all others as far as they come by that."""
        for number in numbers:
            self._ends[number].set()
        for _ in range(STEPS):
            await asyncio.sleep(0)


def test_no_more_hold_than_there_are_slots() -> None:
    """The others come in their order."""

    async def test() -> None:
        holders = Holders(Slots(2), 5)
        await holders.end()
        assert holders.holding == [0, 1]
        await holders.end(1)
        assert holders.holding == [0, 2]
        await holders.end(0, 2, 3, 4)
        assert holders.order == [0, 1, 2, 3, 4]

    run(test)


def test_the_number_can_be_changed() -> None:
    """Fewer as slots are given back, more as soon as somebody comes or goes."""

    async def test() -> None:
        slots = Slots(3)
        holders = Holders(slots, 8)
        await holders.end()
        slots.limit = 1
        await holders.end(0, 1)
        assert holders.holding == [2]
        slots.limit = 4
        await holders.end(2)
        assert holders.holding == [3, 4, 5, 6]
        await holders.end(3, 4, 5, 6, 7)
        assert not holders.holding

    run(test)


def test_who_is_cancelled_holds_nothing() -> None:
    """Waiting, holding, or just called."""

    async def test() -> None:
        slots = Slots(1)
        holders = Holders(slots, 5)
        await holders.end()
        holders.tasks[1].cancel()  # waits
        holders.tasks[0].cancel()  # holds
        await holders.end()
        assert holders.holding == [2]
        holders._ends[2].set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        holders.tasks[3].cancel()  # is called, or about to be
        await holders.end()
        assert holders.holding == [4]
        await holders.end(4)
        async with asyncio.timeout(60):
            await slots.acquire()

    run(test)
