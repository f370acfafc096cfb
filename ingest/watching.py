"""Jobs as they change, for every stream of this process: one query a tick for all of them, however many read along.

NOTIFY tells of changes of state at once, whichever process made them; how far a load has come is found by looking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog
import trio

from ingest.database import Database
from ingest.errors import DatabaseError
from ingest.events import Wake, tell_of_jobs
from ingest.job import JobView

log = structlog.get_logger(__name__)

# What is shown may be a second behind the database: this, the query and the way to the reader.
TICK_S = 0.85
# Between two looks, however many changes are told: jobs of a few rows change a hundred times a second.
LEAST_GAP_S = 0.1

# A database that has not answered by then is asked again, on another connection.
LOOK_S = 5.0
# Readers are told in groups with a gap, so that a thousand of them do not keep everybody else waiting at once.
TOLD_AT_ONCE = 10
TOLD_GAP_S = 0.001


class JobSource(Protocol):
    """Where jobs are looked at."""

    async def many(self, ids: Sequence[UUID]) -> list[JobView]:
        """Return those of these jobs that exist, by one query. Raises DatabaseError; harmless to cancel."""


@dataclass(frozen=True, slots=True, eq=False)
class Tidings:
    """A job as it was found; None when there is no such job any more."""

    view: JobView | None


class Reader:
    """One reader's slot: it holds the latest tidings only, so whoever is slow misses some and holds up nobody."""

    def __init__(self) -> None:
        # Tells the reader without its task, if that can be done at once; hundreds who wait cost a quarter less.
        self.at_once: Callable[[Tidings], bool] | None = None
        self._tidings: Tidings | None = None
        self._wake = Wake()
        self._waiting = False  # in `next`, with nothing to come back for: else what is told now would be told too early

    def put(self, tidings: Tidings) -> None:
        """Tell the reader at once, or replace what it has not read."""
        if self._waiting and self.at_once is not None and self.at_once(tidings):
            return
        self._tidings = tidings
        self.wake()

    def wake(self) -> None:
        """Let `next` return, with nothing if there is nothing."""
        self._waiting = False
        self._wake.set()

    async def next(self, timeout_s: float) -> Tidings | None:
        """Return what has not been read as soon as there is something; None after `timeout_s` or when woken."""
        self._waiting = self._tidings is None
        await self._wake.wait(timeout_s)
        self._waiting = False
        tidings, self._tidings = self._tidings, None
        return tidings


class Watching:
    """The jobs that somebody reads along with. `run` must be running for anything to be told."""

    def __init__(self, jobs: JobSource) -> None:
        self._jobs = jobs
        self._readers: dict[UUID, set[Reader]] = {}
        self._latest: dict[UUID, Tidings] = {}
        self._wake = Wake()
        self._failing = False  # of a database that is away one line is enough
        self.looks = 0

    @contextmanager
    def follow(self, job_id: UUID) -> Iterator[Reader]:
        """Read along with a job; the state it is in comes first: at once when others read along, else by the next look.

        That there is no such job is told as well. A reader that is woken without tidings before any came has been let
        go of: the database did not answer.
        """
        reader = Reader()
        self._readers.setdefault(job_id, set()).add(reader)
        if job_id in self._latest:
            reader.put(self._latest[job_id])
        else:
            self._wake.set()
        try:
            yield reader
        finally:
            self._readers[job_id].discard(reader)
            if not self._readers[job_id]:
                del self._readers[job_id]
                self._latest.pop(job_id, None)

    @property
    def readers(self) -> int:
        """How many read along now."""
        return sum(map(len, self._readers.values()))

    async def run(self, database: Database | None, stop: trio.Event) -> None:
        """Look and listen until `stop`; without a database only look: somebody else hears and calls `hear`."""
        async with trio.open_nursery() as nursery:
            if database is not None:
                nursery.start_soon(tell_of_jobs, database, self.hear)
            nursery.start_soon(self.look_again_and_again)
            await stop.wait()
            nursery.cancel_scope.cancel(reason="nobody reads any more")

    def hear(self, payload: str) -> None:
        """Look at once if a job changed that somebody reads along with; "" stands for any job."""
        if not payload or any(payload == str(job_id) for job_id in self._readers):
            self._wake.set()

    async def look_again_and_again(self) -> None:
        """Look at the database every tick and whenever woken, as long as anybody reads; runs until cancelled."""
        while True:
            await self._wake.wait(TICK_S - LEAST_GAP_S if self._readers else math.inf)
            await self._look()
            await trio.sleep(LEAST_GAP_S)

    async def _look(self) -> None:
        ids = list(self._readers)
        if not ids:
            return
        self.looks += 1
        try:
            with trio.fail_after(LOOK_S):
                found = {view.id: view for view in await self._jobs.many(ids)}
        except (DatabaseError, trio.TooSlowError) as error:
            self._fail(ids, error)
            return
        self._failing = False
        for job_id in ids:
            await self._tell(job_id, found.get(job_id))

    def _fail(self, ids: Sequence[UUID], error: Exception) -> None:
        """Let go of those who wait for a first answer; the others are told when the database is there again."""
        if not self._failing:
            log.warning("watch_failed", error=type(error).__name__, jobs=len(ids))
        self._failing = True
        for job_id in ids:
            if job_id not in self._latest:
                for reader in self._readers.get(job_id, ()):
                    reader.wake()

    async def _tell(self, job_id: UUID, view: JobView | None) -> None:
        """Hand on what has changed since the last look, to a few readers at a time."""
        readers = self._readers.get(job_id)
        latest = self._latest.get(job_id)
        if not readers or (latest is not None and latest.view == view):
            return
        tidings = self._latest[job_id] = Tidings(view)
        for number, reader in enumerate(list(readers), 1):
            reader.put(tidings)
            if number % TOLD_AT_ONCE == 0:
                await trio.sleep(TOLD_GAP_S)
