"""The heartbeat: one statement an interval renews all leases of the worker and says that it lives."""

from __future__ import annotations

import structlog
import trio

from ingest.errors import DatabaseError
from ingest.leases import Lease
from ingest.statements import statement
from ingest.work import Work

log = structlog.get_logger(__name__)

# Jobs tell of their beginning and their end, too: most that ask for a beat have ended before anybody could look.
ASKED_S = 0.1


class Pulse:
    """When the database last heard of this worker; written by the heartbeat, read by the health endpoint."""

    def __init__(self) -> None:
        self._beaten_at = trio.current_time()

    def beat(self) -> None:
        """The database has heard of this worker."""
        self._beaten_at = trio.current_time()

    @property
    def age_s(self) -> float:
        """Seconds since then."""
        return trio.current_time() - self._beaten_at


async def run(work: Work, pulse: Pulse) -> None:
    """Renew leases until cancelled, each interval and when asked. A lease the database no longer knows is ended."""
    while True:
        try:
            await _renew(work, pulse)
        except DatabaseError as error:
            log.warning("heartbeat_failed", code=error.code, sqlstate=error.sqlstate)
        await _next(work)


async def _next(work: Work) -> None:
    """Wait until the next beat is due, or was asked for by somebody who is still there a moment later."""
    due = trio.current_time() + work.settings.heartbeat_interval_s
    while trio.current_time() < due:
        await work.beat.wait(due - trio.current_time())
        with trio.move_on_at(due):
            await trio.sleep(ASKED_S)
        if len(work.leases):
            return


async def _renew(work: Work, pulse: Pulse) -> None:
    held: list[Lease] = list(work.leases)
    began = trio.current_time()
    rows = await work.database.reserved.fetch(
        statement("renew_leases"),
        work.queue.worker_id,
        [lease.chunk.id for lease in held],
        [lease.chunk.epoch for lease in held],
        work.stop.is_set(),
    )
    pulse.beat()
    renewed = {row["chunk_id"] for row in rows}
    for lease in held:
        if lease.chunk.id in renewed:
            # From before the statement was sent: the database's clock started to count no earlier.
            lease.scope.deadline = began + work.settings.lease_ttl_s
        elif not lease.ending:
            lease.scope.cancel(reason="lease lost")
