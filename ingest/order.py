"""The order of batches within a chunk: of records that collide with one another, the first in the file wins.

Batches of a chunk are written side by side, and of two records with the same key the one whose writer was faster would
be in the table; a record that refers to one before it would be refused. So where a key or such a reference looks at the
records, each batch waits until all before it are in the ledger; such a chunk is loaded batch by batch, beside other
chunks. (Waiting only from the first collision on is not enough: the later record may be in by then.)

A batch that is staged first may begin sooner: as soon as all before it have begun. It then waits in the middle, with a
connection that one before it might need to begin again; so when that happens, it gives way and begins anew itself.
"""

from __future__ import annotations

import trio

# A transaction that rests for longer is ended by the server (SESSION_SETTINGS in database/opening).
LONGEST_REST_S = 10.0


class GaveWay(Exception):
    """A batch that had begun before its turn has to begin again, for the sake of those before it."""


class Order:
    """The unsettled batches of one chunk, by first byte. `keyed`: whether the order matters at all."""

    def __init__(self, *, keyed: bool) -> None:
        self.keyed = keyed
        self._unsettled: set[int] = set()
        self._begun: set[int] = set()
        self._changed = trio.Event()

    def add(self, start: int) -> None:
        """The reader is about to hand out the batch that begins at `start`; called in file order."""
        self._unsettled.add(start)

    def settle(self, start: int) -> None:
        """The batch is in the ledger."""
        self._unsettled.discard(start)
        self._begun.discard(start)
        self._change()

    async def turn(self, start: int) -> None:
        """Wait until no earlier batch is unsettled; returns at once where the order does not matter."""
        while self.keyed and min(self._unsettled) < start:
            await self._changed.wait()

    async def begin(self, start: int) -> None:
        """Wait until all earlier batches have begun or are settled, then begin; `settle` or `stop` must follow."""
        while self.keyed and not self._elders(start) <= self._begun:
            await self._changed.wait()
        self._begun.add(start)
        self._change()

    def stop(self, start: int) -> None:
        """The batch that had begun is not in the ledger: it has to begin again, or is given up."""
        self._begun.discard(start)
        self._change()

    async def turn_within(self, start: int) -> None:
        """Wait for the turn of a batch that has begun. Raises GaveWay when an earlier one has to begin again."""
        with trio.move_on_after(LONGEST_REST_S):
            while self.keyed and (elders := self._elders(start)):
                if not elders <= self._begun:
                    raise GaveWay("a batch before this one begins again")
                await self._changed.wait()
            return
        raise GaveWay("the batches before this one take long")

    def _elders(self, start: int) -> set[int]:
        return {elder for elder in self._unsettled if elder < start}

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
