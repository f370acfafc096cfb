"""The order of batches within a chunk: of records that collide with one another, the first in the file wins.

Batches of a chunk are written side by side, and of two records with the same key the one whose writer was faster would
be in the table; a record that refers to one before it would be refused. So where a key or such a reference looks at the
records, each batch waits until all before it are in the ledger; such a chunk is loaded batch by batch, beside other
chunks. (Waiting only from the first collision on is not enough: the later record may be in by then.)
"""

from __future__ import annotations

import trio


class Order:
    """The unsettled batches of one chunk, by first byte. `keyed`: whether the order matters at all."""

    def __init__(self, *, keyed: bool) -> None:
        self.keyed = keyed
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

    async def turn(self, start: int) -> None:
        """Wait until no earlier batch is unsettled; returns at once where the order does not matter."""
        while self.keyed and min(self._unsettled) < start:
            await self._changed.wait()
