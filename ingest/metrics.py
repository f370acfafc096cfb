"""Metrics: what this process has done, counted where it happens, in a registry of its own.

One `Metrics` is made at the start and handed down. Names follow Prometheus: seconds and bytes, `_total` for what only
grows. Labels have few values, whatever clients send: names beyond the first MOST_NAMES of a kind count as `other`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol

import trio
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric

from ingest.batch import BatchResult
from ingest.errors import ConflictError, IngestError, RowError, UnavailableError
from ingest.reject import Reject

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
OUTCOMES = ("inserted", "updated", "unchanged", "skipped", "rejected")
MOST_NAMES = 100
OTHER = "other"

# How often the loop is asked how late it is; what a burst of less than this does to it may go unseen.
LAG_EVERY_S = 0.25

LAG_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
BATCH_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
HTTP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0)

Way = Literal["direct", "staged", "isolated"]
Result = Literal["loaded", "refused", "conflict", "unavailable", "duplicate", "fenced", "failed", "cancelled"]
LeaseEnd = Literal["expired", "revoked", "fenced"]

# What became of a try that did not load: by the error's code, else by its class.
RESULTS_BY_CODE: dict[str, Result] = {"E_ALREADY_COMMITTED": "duplicate", "E_LEASE_LOST": "fenced"}
RESULTS: tuple[tuple[type[IngestError], Result], ...] = (
    (RowError, "refused"),
    (ConflictError, "conflict"),
    (UnavailableError, "unavailable"),
    (IngestError, "failed"),
)


class Channel(Protocol):
    """What is asked of a channel between a reader and its writers."""

    def statistics(self) -> trio.MemoryChannelStatistics: ...


class Names:
    """The values of one label: the first MOST_NAMES as they are, any further one as `other`."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def label(self, name: str) -> str:
        """Return the label's value for a name."""
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class Metrics:
    """The counters and histograms of one process. Any task may add to them; only `render` reads them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._datasets, self._codes, self._classes = Names(), Names(), Names()
        self._channels: set[Channel] = set()
        self._rows = self._counter("ingest_rows", "Records of committed batches.", "dataset", "outcome")
        self._rejects = self._counter("ingest_rejects", "Reasons stored for rejected records.", "code")
        self._batches = self._counter(
            "ingest_batches", "Tries to load a batch, by what came of each.", "path", "result"
        )
        self._retries = self._counter("ingest_batch_retries", "Batches tried again.", "sqlstate_class")
        self._leases = self._counter("ingest_lease_losses", "Chunk runs that lost their lease.", "reason")
        self._changes = self._counter("ingest_writer_changes", "Changes of the number of writers.", "reason")
        self._requests = self._counter("ingest_http_requests", "Answered requests.", "method", "route", "status")
        self._batch_s = self._histogram("ingest_batch_seconds", "Time of a try to load a batch.", BATCH_S, "path")
        self._http_s = self._histogram(
            "ingest_http_request_seconds", "Time from a request to the end of its answer.", HTTP_S, "method", "route"
        )
        self._lag_s = self._histogram("ingest_loop_lag_seconds", "How late a timer of the event loop fires.", LAG_S)

    def committed(self, dataset: str, result: BatchResult) -> None:
        """Records are in the ledger."""
        label = self._datasets.label(dataset)
        for outcome in OUTCOMES:
            self._rows.labels(label, outcome).inc(getattr(result, outcome))
        self.rejected(result.rejects)

    def rejected(self, rejects: Iterable[Reject]) -> None:
        """Reasons are stored."""
        for reject in rejects:
            self._rejects.labels(self._codes.label(reject.code)).inc()

    @contextmanager
    def trying(self, path: Way) -> Iterator[None]:
        """Count and time what happens inside as one try to load a batch; whatever is raised passes."""
        began, result = trio.current_time(), "cancelled"
        try:
            yield
            result = "loaded"
        except IngestError as error:
            result = RESULTS_BY_CODE.get(error.code) or next(name for base, name in RESULTS if isinstance(error, base))
            raise
        finally:
            self._batches.labels(path, result).inc()
            self._batch_s.labels(path).observe(trio.current_time() - began)

    def retried(self, sqlstate: str) -> None:
        """A batch will be tried again because of a SQLSTATE."""
        self._retries.labels(self._classes.label(sqlstate[:2] or "none")).inc()

    def lease_lost(self, reason: LeaseEnd) -> None:
        """A chunk run lost its lease: it ran out, the database took it, or a commit came too late."""
        self._leases.labels(reason).inc()

    def writers_changed(self, reason: str) -> None:
        """The number of writers was changed."""
        self._changes.labels(reason).inc()

    def answered(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """A request was answered, or its client left before that (None, counted as 499)."""
        self._requests.labels(method, route, str(status or 499)).inc()
        self._http_s.labels(method, route).observe(seconds)

    def late(self, seconds: float) -> None:
        """A timer fired so late."""
        self._lag_s.observe(seconds)

    @contextmanager
    def channel(self, channel: Channel) -> Iterator[None]:
        """Count the batches that wait in a channel while the context lasts."""
        self._channels.add(channel)
        try:
            yield
        finally:
            self._channels.discard(channel)

    def channel_fill(self) -> tuple[int, int]:
        """Return the batches that wait in open channels, and how many these can hold."""
        found = [channel.statistics() for channel in self._channels]
        return sum(one.current_buffer_used for one in found), sum(int(one.max_buffer_size) for one in found)

    def render(self, readings: Iterable[Metric]) -> bytes:
        """Return all metrics, with those that were read for this answer, in Prometheus' text format 0.0.4."""
        return generate_latest(_Everything(self._registry, readings))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)


class _Everything:
    """What is rendered; without the moments of creation, which double the number of series for little."""

    def __init__(self, registry: CollectorRegistry, readings: Iterable[Metric]) -> None:
        self._registry = registry
        self._readings = readings

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield from self._readings


async def watch_loop(metrics: Metrics, stop: trio.Event) -> None:
    """Measure how late the loop is, until `stop` is set."""
    while not stop.is_set():
        due = trio.current_time() + LAG_EVERY_S
        with trio.move_on_at(due) as waiting:
            await stop.wait()
        if waiting.cancelled_caught:
            metrics.late(max(0.0, trio.current_time() - due))
