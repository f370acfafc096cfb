"""`GET /metrics`: what this process has counted, what it is doing, and what the database holds, for Prometheus.

The database is asked at most every few seconds, however often this is; without it, its part is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import psutil
import trio
from hypercorn.typing import HTTPScope, WebsocketScope
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from ingest.census import Counts
from ingest.errors import DatabaseError
from ingest.job import JobState
from ingest.memory import peak_bytes
from ingest.metrics import CONTENT_TYPE, OTHER, Metrics
from ingest.web.answers import Answer
from ingest.web.openapi import document
from ingest.web.routes import Routes

# A scrape is given up after ten seconds by default; the rest of the answer must not wait for a slow database.
DATABASE_S = 2.0

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CHUNK_STATES = ("receiving", "pending", "processing", "completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What the process is doing at the moment; the worker's part is zero in a process without one."""

    version: str
    role: str
    pool_open: int
    pool_idle: int
    pool_limit: int
    uploads: int
    upload_bytes: int  # since the start
    chunks_running: int
    batches_queued: int
    batches_writing: int
    writers: int
    writers_limit: int


class MetricsSource(Protocol):
    """What the metrics ask the service, beside what was counted."""

    def readings(self) -> Readings:
        """Return what is known without asking anybody."""

    async def counts(self) -> Counts:
        """Return what the database holds. Raises DatabaseError; harmless to cancel."""


class MetricsPage:
    """The answer of `/metrics`, and the count of requests by their route."""

    def __init__(self, metrics: Metrics, source: MetricsSource) -> None:
        self._metrics = metrics
        self._source = source
        self._routes = Routes(document()["paths"])

    async def answer(self) -> Answer:
        """Return all metrics as text."""
        counts = await self._counts()
        now = [*_process(), *_readings(self._source.readings()), *self._channel(), *_database(counts)]
        body = self._metrics.render(now)
        headers = (("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body))))
        return Answer(200, headers, body)

    async def _counts(self) -> Counts | None:
        try:
            with trio.fail_after(DATABASE_S):
                return await self._source.counts()
        except (trio.TooSlowError, DatabaseError):
            return None

    def observe(self, scope: HTTPScope | WebsocketScope, status: int | None, seconds: float) -> None:
        """Count a request that was answered with `status`, or left without an answer; a WebSocket began as a GET."""
        method = scope.get("method", "GET")
        label = method if method in METHODS else OTHER
        self._metrics.answered(label, self._routes.label(scope["path"]), status, seconds)

    def _channel(self) -> Iterator[Metric]:
        used, size = self._metrics.channel_fill()
        yield _gauge("ingest_channel_batches", "Batches that wait in the channels between readers and writers.", used)
        yield _gauge("ingest_channel_capacity_batches", "Batches that these channels can hold.", size)


def _process() -> Iterator[Metric]:
    process = psutil.Process()
    cpu = process.cpu_times()
    yield _gauge("process_resident_memory_bytes", "Resident memory.", process.memory_info().rss)
    yield _gauge("ingest_peak_memory_bytes", "The most resident memory since the start.", peak_bytes())
    yield _gauge("process_open_fds", "Open file descriptors.", process.num_fds())
    yield _gauge("process_start_time_seconds", "When the process began, in seconds since 1970.", process.create_time())
    yield _counter("process_cpu_seconds", "Processor time, of user and system.", cpu.user + cpu.system)


def _readings(now: Readings) -> Iterator[Metric]:
    info = GaugeMetricFamily("ingest_build_info", "Always 1; the labels say what runs.", labels=("version", "role"))
    info.add_metric((now.version, now.role), 1)
    yield info
    in_use = {"used": now.pool_open - now.pool_idle, "idle": now.pool_idle}
    yield _by("ingest_database_pool_connections", "Open connections to the database.", "state", in_use)
    yield _gauge("ingest_database_pool_limit_connections", "Connections that may be open.", now.pool_limit)
    yield _gauge("ingest_uploads", "Files that are being received.", now.uploads)
    yield _counter("ingest_upload_bytes", "Bytes of files received.", now.upload_bytes)
    yield _gauge("ingest_chunks_running", "Chunks that this worker has at work.", now.chunks_running)
    in_flight = {"queued": now.batches_queued, "writing": now.batches_writing}
    yield _gauge("ingest_writers", "Batches that the worker may have at the database at once, for now.", now.writers)
    yield _gauge("ingest_writers_limit", "What that number may grow to.", now.writers_limit)
    yield _by("ingest_batches_in_flight", "Batches read and not committed.", "stage", in_flight)


def _database(counts: Counts | None) -> Iterator[Metric]:
    yield _gauge("ingest_database_up", "Whether the database answered, 1 or 0.", 0 if counts is None else 1)
    if counts is not None:
        jobs = {state.value: counts.jobs.get(state, 0) for state in JobState}
        chunks = {state: counts.chunks.get(state, 0) for state in CHUNK_STATES}
        yield _by("ingest_jobs", "Jobs in the database.", "state", jobs)
        yield _by("ingest_chunks", "Chunks in the database.", "state", chunks)
        text = "How long the oldest chunk that could be claimed has waited."
        yield _gauge("ingest_queue_oldest_age_seconds", text, counts.oldest_age_s)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, number in values.items():
        family.add_metric((value,), number)
    return family
