"""Leases held by this worker: each is a cancel scope whose deadline every heartbeat moves.

Silence cancels the chunk run by itself, so a worker that cannot reach the database stops writing before its chunk is
given to another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from ingest.chunk import Chunk


@dataclass(slots=True)
class Lease:
    """A chunk that is being run, and the scope that ends the run.

    `ending`: the run is about to give the lease up by a transaction of its own, which the fence guards. Then a lease
    that is gone is no reason to cancel the run; silence still is.
    """

    chunk: Chunk
    scope: trio.CancelScope
    ending: bool = False


class Leases:
    """The leases of this worker. Added and removed by chunk runs, renewed or ended by the heartbeat."""

    def __init__(self) -> None:
        self._held: dict[int, Lease] = {}

    def __iter__(self) -> Iterator[Lease]:
        return iter(list(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)

    def end(self, chunk: Chunk) -> None:
        """Note that the run of a chunk is about to give its lease up."""
        if lease := self._held.get(chunk.id):
            lease.ending = lease.chunk.epoch == chunk.epoch

    @contextmanager
    def hold(self, chunk: Chunk, ttl_s: float) -> Iterator[Lease]:
        """Run the body under the chunk's lease; it is cancelled when the lease runs out or is lost.

        A chunk that was taken from us can come back with a higher epoch while its former run still unwinds.
        """
        with trio.move_on_after(ttl_s) as scope:
            lease = Lease(chunk, scope)
            if former := self._held.get(chunk.id):
                former.scope.cancel(reason="chunk claimed again")
            self._held[chunk.id] = lease
            try:
                yield lease
            finally:
                if self._held.get(chunk.id) is lease:
                    del self._held[chunk.id]
