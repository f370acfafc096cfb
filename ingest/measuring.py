"""What the metrics, and health, ask the service: what its parts are doing now, and what the database holds."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from ingest import __version__
from ingest.accounts import InFlight
from ingest.census import Census, Counts
from ingest.database import Database
from ingest.receiving import Receiving
from ingest.resumable import Resumable
from ingest.web.health import WritersChange, WritersStatistics
from ingest.web.metrics import Readings
from ingest.work import Work


class Measuring:
    """The parts of one process, as its metrics see them: all that take files in, and `work`, None in the api role."""

    def __init__(
        self, role: str, database: Database, receiving: Sequence[Receiving | Resumable], work: Work | None
    ) -> None:
        self._role = role
        self._database = database
        self._receiving = receiving
        self._work = work
        self._census = Census(database)

    def readings(self) -> Readings:
        """Return what is known without asking anybody."""
        pool, work = self._database.statistics(), self._in_flight()
        receiving = [each.statistics() for each in self._receiving]
        return Readings(
            version=__version__,
            role=self._role,
            pool_open=pool.open,
            pool_idle=pool.idle,
            pool_limit=pool.limit,
            uploads=sum(each.uploads for each in receiving),
            upload_bytes=sum(each.bytes_received for each in receiving),
            chunks_running=work.chunks if work else 0,
            batches_queued=work.queued if work else 0,
            batches_writing=work.writing if work else 0,
            writers=self._work.lanes.writers if self._work else 0,
            writers_limit=self._work.settings.most_writers if self._work else 0,
        )

    async def counts(self) -> Counts:
        """Return what the database holds. Raises DatabaseError; harmless to cancel."""
        return await self._census.counts()

    def _in_flight(self) -> InFlight | None:
        return self._work.accounts.statistics() if self._work else None


def writers_of(work: Work) -> WritersStatistics:
    """Return how many writers the worker has now, and the latest changes of that."""
    lanes, now = work.lanes, trio.current_time()
    return WritersStatistics(
        auto=work.settings.writers == "auto",
        now=lanes.writers,
        most=work.settings.most_writers,
        busy=lanes.busy,
        bytes_per_s=round(lanes.rate),
        changes=[
            WritersChange(age_s=round(now - one.at, 1), before=one.before, writers=one.writers, reason=one.reason)
            for one in lanes.changes
        ],
    )
