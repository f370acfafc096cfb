"""What all jobs come to, for the page: read at most once in a while, however many look at it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import trio

from ingest.database import Database
from ingest.job import JobState
from ingest.statements import statement

# Of what has ended, this much is looked at in detail: the cost stays that of a day, however long the service has run.
LATELY = timedelta(hours=24)
# Counting 100,000 jobs takes some 50 ms of the database.
KEPT_S = 1.0

OUTCOMES = ("inserted", "updated", "unchanged", "skipped", "rejected")


class Statistics:
    """The totals of this database, at most KEPT_S old."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading = trio.Lock()
        self._found: dict[str, Any] = {}
        self._found_at = -KEPT_S

    async def read(self) -> dict[str, Any]:
        """Return jobs by state, what ended lately, queue, workers, and rows per second. Raises DatabaseError."""
        async with self._reading:
            if trio.current_time() - self._found_at >= KEPT_S:
                self._found = await self._read()
                self._found_at = trio.current_time()
            return self._found

    async def _read(self) -> dict[str, Any]:
        row = (await self._database.fetch(statement("statistics"), LATELY))[0]
        depth = (await self._database.fetch(statement("queue_depth")))[0]
        workers = await self._database.fetch(statement("newest_workers"))
        ended = {name: row[name] for name in ("completed", "failed", "cancelled")}
        judged = ended["completed"] + ended["failed"]
        states = {str(state): row["states"].get(state, 0) for state in JobState}
        return {
            "jobs": {"total": sum(states.values()), **states},
            "rows_per_second": round(row["rows_per_second"], 1),
            "queue": {**depth, "oldest_age_s": round(depth["oldest_age_s"], 1)},
            "workers": [{**row, "heartbeat_age_s": round(row["heartbeat_age_s"], 1)} for row in workers],
            "lately": {
                "hours": LATELY // timedelta(hours=1),
                "jobs": ended,
                "success_rate": round(ended["completed"] / judged, 4) if judged else None,
                "rows": {name: row[name] for name in OUTCOMES},
                "bytes": row["bytes"],
            },
        }
