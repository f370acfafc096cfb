"""What probes and people ask: is it alive, is it ready, how is it. Formats statistics; measures only the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import psutil
import trio

from ingest.errors import DatabaseError
from ingest.memory import peak_bytes
from ingest.web.answers import Answer, json_answer

# A probe waits about this long before it calls the service dead, so the answer must come first.
PROBE_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesInFlight:
    """Batches read but not committed: waiting for a writer, and in one's hands."""

    queued: int = 0
    writing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WritersChange:
    """The number of writers was changed: when, from what, to what, why (the words of `ingest_writer_changes_total`)."""

    age_s: float
    before: int
    writers: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WritersStatistics:
    """How many batches may be at the database at once, and how that came about; the last change comes last."""

    auto: bool
    now: int
    most: int
    busy: int
    bytes_per_s: float  # as measured last, 0 where the number is set
    changes: Sequence[WritersChange]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatistics:
    """The worker of this process. Ages in seconds; None while it has not happened yet."""

    id: str
    heartbeat_age_s: float | None
    chunks: int
    batches_in_flight: BatchesInFlight
    last_batch_s: float | None
    writers: WritersStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """The queue of all workers: chunks that wait, chunks that are claimed, and how long the oldest has waited."""

    pending: int
    processing: int
    oldest_age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStatistics:
    """What the process knows of itself without asking anybody. `worker` is None in the api role."""

    version: str
    role: str
    started: bool  # false until everything that the role needs is up
    uptime_s: float
    pool: Mapping[str, Any]
    storage: Mapping[str, Any]
    worker: WorkerStatistics | None


class HealthSource(Protocol):
    """What health needs of the service."""

    def statistics(self) -> ServiceStatistics:
        """Return the statistics of this moment."""

    async def queue(self) -> QueueStatistics:
        """Ask the database about the queue: one short query. Raises DatabaseError; harmless to cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What one question to the database showed."""

    ok: bool
    latency_ms: float | None
    queue: QueueStatistics | None
    code: str | None  # why not ok


class Health:
    """The answers of the three health endpoints."""

    def __init__(self, source: HealthSource, draining: trio.Event) -> None:
        self._source = source
        self._draining = draining

    async def full(self, *, details: bool = True) -> Answer:
        """Return everything, with 200 whatever the state: it is for people and dashboards, `ready` is for balancers.

        Without `details` the status alone, for whoever may not know more.
        """
        statistics, probe = self._source.statistics(), await self._probe()
        if not details:
            return json_answer(200, {"status": self._status(statistics, probe)})
        return json_answer(
            200,
            {
                "status": self._status(statistics, probe),
                "version": statistics.version,
                "uptime": round(statistics.uptime_s, 1),
                "role": statistics.role,
                "draining": self._draining.is_set(),
                "database": {
                    "ok": probe.ok,
                    "latency_ms": probe.latency_ms,
                    "code": probe.code,
                    "pool": statistics.pool,
                },
                "storage": statistics.storage,
                "worker": statistics.worker,
                "queue": probe.queue,
                "memory": memory(),
            },
        )

    async def ready(self) -> Answer:
        """Return 200 when new work is welcome, 503 while starting, draining or without the database."""
        status = self._status(self._source.statistics(), await self._probe())
        return json_answer(200 if status == "ok" else 503, {"status": status})

    async def live(self) -> Answer:
        """Return 200: that it is answered at all is the answer."""
        return json_answer(200, {"status": "ok"})

    def _status(self, statistics: ServiceStatistics, probe: Probe) -> str:
        if self._draining.is_set():
            return "draining"
        if not statistics.started:
            return "starting"
        return "ok" if probe.ok else "database_unavailable"

    async def _probe(self) -> Probe:
        begun = trio.current_time()
        try:
            with trio.fail_after(PROBE_S):
                queue = await self._source.queue()
        except trio.TooSlowError:
            return Probe(ok=False, latency_ms=None, queue=None, code="E_TIMEOUT")
        except DatabaseError as error:
            return Probe(ok=False, latency_ms=None, queue=None, code=error.code)
        return Probe(ok=True, latency_ms=round((trio.current_time() - begun) * 1000, 2), queue=queue, code=None)


def memory() -> dict[str, int]:
    """Return the resident memory of this process now and at its highest, in bytes."""
    return {"rss_bytes": psutil.Process().memory_info().rss, "peak_bytes": peak_bytes()}
