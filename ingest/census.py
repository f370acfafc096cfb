"""The census: how many jobs and chunks there are in each state, in all queues, and how long the oldest has waited.

Counting reads every job, so what was counted is kept for a while: whoever asks how often costs the database little.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import trio

from ingest.database import Database
from ingest.statements import statement

# How long a count is kept at least; with many jobs for longer, so that counting takes at most a share of the time.
KEEP_S = 5.0
SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Jobs and chunks by state, those without any left out, and the age of the oldest chunk that could be claimed."""

    jobs: Mapping[str, int]
    chunks: Mapping[str, int]
    oldest_age_s: float


class Census:
    """Counts when it is asked and its last count is too old; several askers share one count."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting = trio.Lock()
        self._counts: Counts | None = None  # this and the next: written under the lock
        self._good_until = 0.0

    async def counts(self) -> Counts:
        """Return the counts, at most a few seconds old. Raises DatabaseError; harmless to cancel."""
        async with self._counting:
            if self._counts is None or trio.current_time() >= self._good_until:
                self._counts = await self._count()
            return self._counts

    async def _count(self) -> Counts:
        began = trio.current_time()
        jobs = await self._database.fetch(statement("count_jobs_by_state"))
        chunks = await self._database.fetch(statement("count_chunks_by_state"))
        depth = (await self._database.fetch(statement("queue_depth")))[0]
        took_s = trio.current_time() - began
        self._good_until = began + took_s + max(KEEP_S, took_s / SHARE)
        return Counts(
            jobs={row["state"]: row["count"] for row in jobs},
            chunks={row["state"]: row["count"] for row in chunks},
            oldest_age_s=max(0.0, depth["oldest_age_s"]),  # chunks may have to wait for their next try
        )
