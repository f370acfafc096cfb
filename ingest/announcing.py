"""Announcements: what NOTIFY tells of the changes that small files make, many of which happen at once.

A transaction with a pending NOTIFY holds a lock of the whole server while its COMMIT waits for the disk, so all such
transactions wait for each other, one write to the disk each. So those of a small job leave it out (`ingest.hush`), and
whoever has committed one tells this process' announcer: its transaction writes nothing, waits for no disk, and speaks
for all that were committed meanwhile. What a crash keeps from being told is found by polling, as ever.
"""

from __future__ import annotations

import math
from uuid import UUID

import structlog
import trio

from ingest.database import Database
from ingest.errors import DatabaseError
from ingest.events import Wake
from ingest.statements import statement

# More jobs than these at once are told of as "any job".
MOST_JOBS = 1000
ANY_JOB = ""

log = structlog.get_logger(__name__)


class Announcer:
    """Tells other processes, and this one, of committed changes. `run` must run beside for anything to be told."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._jobs: set[str] = set()
        self._queues: set[str] = set()
        self._wake = Wake()

    def tell(self, job_id: UUID, *, queue: str | None = None) -> None:
        """Say soon that a job has changed its state, and if `queue` is given that there is work in it."""
        self._jobs.add(str(job_id))
        if len(self._jobs) > MOST_JOBS:
            self._jobs = {ANY_JOB}
        if queue is not None:
            self._queues.add(queue)
        self._wake.set()

    async def run(self, stop: trio.Event) -> None:
        """Tell what there is to tell, until `stop`, and then what is left. Cancelled, that may not be told."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wake_on, stop)
            ended = False
            while not ended:
                await self._wake.wait(math.inf)
                ended = stop.is_set()
                await self._announce()

    async def _wake_on(self, stop: trio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _announce(self) -> None:
        jobs, self._jobs = self._jobs, set()
        queues, self._queues = self._queues, set()
        if not jobs and not queues:
            return
        try:
            await self._database.fetch(statement("announce"), list(jobs), list(queues))
        except DatabaseError as error:
            log.info("not_announced", jobs=len(jobs), code=error.code)  # whoever waits for it looks by itself
