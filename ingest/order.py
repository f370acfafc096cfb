"""The order of batches within a chunk: when a batch must be isolated, its elders go first.

Batches of a chunk are written side by side. Where records can collide with one another (a unique key), which of two
wins must not depend on which writer was faster: from the first batch that fails on, batches wait until every earlier
one is in the ledger, so that the first line in the file wins.
"""

from __future__ import annotations

import trio


class Order:
    """The unsettled batches of one chunk, by first byte. `keyed`: whether the order matters at all."""

    def __init__(self, *, keyed: bool) -> None:
        self._keyed = keyed
        self._strict = False
        self._unsettled: set[int] = set()
        self._changed = trio.Event()

    def add(self, start: int) -> None:
        """The reader is about to hand out the batch that begins at `start`; called in file order."""
        self._unsettled.add(start)

    def settle(self, start: int) -> None:
        """The batch is in the ledger."""
        self._unsettled.discard(start)
        self._changed.set()
        self._changed = trio.Event()

    def tighten(self) -> None:
        """A batch could not be copied: from now on earlier batches go first."""
        self._strict = self._keyed

    async def turn(self, start: int) -> None:
        """Wait until no earlier batch is unsettled; returns at once while the order does not matter."""
        while self._strict and min(self._unsettled) < start:
            await self._changed.wait()
