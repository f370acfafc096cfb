"""The lanes of a worker: how many of its batches may be at the database at once, and how fast they get through.

One number, `writers`, is in force for all chunk runs together. So many batches are copied at once, and two more may be
opened or committed meanwhile, each on a connection of its own. A chunk run has a crew: writers up to its share of the
lanes, so that batches are in memory for the lanes there are and not for each chunk anew. The reader hires as the share
grows, writers leave between two batches as it shrinks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import trio

from ingest.climbing import Reason
from ingest.errors import ConflictError, UnavailableError
from ingest.throughput import Sample, Trouble

# Writers that may open or commit a batch while the others copy theirs.
PIPELINED_WRITERS = 2
# Of a chunk whose batches are loaded in order, one is at the database and one at hand: more would only be memory.
WRITERS_IN_ORDER = 2
# Changes that are remembered, for people who look.
REMEMBERED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The number of writers was changed, at a moment of trio's clock."""

    at: float
    before: int
    writers: int
    reason: Reason


class Crew:
    """The writers of one chunk run; at least one as long as the reader reads."""

    def __init__(self, lanes: Lanes, begin: Callable[[], object], *, in_order: bool) -> None:
        self._lanes = lanes
        self._begin = begin
        self._in_order = in_order
        self._size = 0

    def hire(self) -> None:
        """Begin as many writers as the chunk's share of the lanes has grown by."""
        while self._size < self._share():
            self._size += 1
            self._begin()

    def is_spare(self) -> bool:
        """Tell a writer that is free whether to leave; one that is told so must."""
        if self._size <= self._share():
            return False
        self._size -= 1
        return True

    def _share(self) -> int:
        share = self._lanes.share()
        return min(share, WRITERS_IN_ORDER) if self._in_order else share


class Lanes:
    """What writers pass on their way to the database. Used by writers, read and resized by the tuner."""

    def __init__(self, writers: int) -> None:
        self.writers = writers
        self.rate = 0.0  # bytes a second, as the tuner has measured last
        self._changes: deque[Change] = deque(maxlen=REMEMBERED)
        self._connections = trio.CapacityLimiter(writers + PIPELINED_WRITERS)
        self._crews: list[Crew] = []
        self._began: dict[object, float] = {}  # batches that are at the database, and since when
        self._generation = object()  # another one for each number of writers
        self._trouble: Trouble | None = None
        self._now = self._since = trio.current_time()
        self._busy_s = self._batch_s = 0.0
        self._batches = self._bytes = 0

    @property
    def busy(self) -> int:
        """Batches that are at the database."""
        return len(self._began)

    @property
    def oldest_s(self) -> float:
        """For how long the batch that came first has been there; 0 when there is none."""
        return trio.current_time() - min(self._began.values(), default=trio.current_time())

    @property
    def changes(self) -> Sequence[Change]:
        """The latest changes, the last one at the end."""
        return tuple(self._changes)

    def resize(self, writers: int, reason: Reason) -> None:
        """Let so many writers load from now on; those beyond that end their batches first."""
        self._changes.append(Change(at=trio.current_time(), before=self.writers, writers=writers, reason=reason))
        self.writers = writers
        self._connections.total_tokens = writers + PIPELINED_WRITERS
        self._generation = object()
        self._clear()

    def share(self) -> int:
        """Return how many writers each chunk run is to have."""
        return min(self.writers, -(-(self.writers + PIPELINED_WRITERS) // max(1, len(self._crews))))

    @contextmanager
    def crew(self, begin: Callable[[], object], *, in_order: bool) -> Iterator[Crew]:
        """Count a chunk run in while it is read; `begin` begins a writer."""
        crew = Crew(self, begin, in_order=in_order)
        self._crews.append(crew)
        try:
            yield crew
        finally:
            self._crews.remove(crew)

    @asynccontextmanager
    async def through(self, size: int) -> AsyncIterator[None]:
        """Wait for a lane and load a batch of `size` bytes inside; what is raised passes, and is noted."""
        async with self._connections:
            key, generation = object(), self._generation
            self._tick()
            began = self._began[key] = trio.current_time()
            loaded = False
            try:
                yield
                loaded = True
            except ConflictError:
                self._trouble = "conflict"
                raise
            except UnavailableError:
                self._trouble = "unavailable"
                raise
            finally:
                self._tick()
                del self._began[key]
                if generation is self._generation:
                    self._batch_s += trio.current_time() - began
                    self._batches += loaded
                    self._bytes += size * loaded

    def take(self) -> Sample:
        """Return what happened since the last call, or since the number of writers was changed."""
        self._tick()
        sample = Sample(
            seconds=self._now - self._since,
            busy_s=self._busy_s,
            batches=self._batches,
            loaded_bytes=self._bytes,
            batch_s=self._batch_s,
            trouble=self._trouble,
        )
        self._clear()
        return sample

    def _tick(self) -> None:
        now = trio.current_time()
        self._busy_s += len(self._began) * (now - self._now)
        self._now = now

    def _clear(self) -> None:
        self._trouble = None
        self._now = self._since = trio.current_time()
        self._busy_s = self._batch_s = 0.0
        self._batches = self._bytes = 0
