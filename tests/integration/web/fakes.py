"""Fakes of the layers below the web: they keep what they were given, so that tests can look at it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import trio

from ingest.caller import Caller
from ingest.census import Counts
from ingest.database import Database
from ingest.definitions.tables import TableDataset
from ingest.errors import FileError, IngestError, RequestError
from ingest.idempotency import RequestKeys
from ingest.job import JobState, JobView
from ingest.keys import Grant, KeyRow
from ingest.metrics import Metrics
from ingest.receiving import UploadOptions
from ingest.rejects import RejectFilter, RejectPage
from ingest.settings import Settings
from ingest.watching import Watching
from ingest.web.app import Parts
from ingest.web.health import (
    BatchesInFlight,
    QueueStatistics,
    ServiceStatistics,
    WorkerStatistics,
    WritersChange,
    WritersStatistics,
)
from ingest.web.metrics import MetricsPage, Readings


def job_view(**changes: Any) -> JobView:
    """Return a job as the layer below would, with some fields changed."""
    fields: dict[str, Any] = dict.fromkeys(JobView.__dataclass_fields__, 0)
    nothing = dict.fromkeys(
        (
            "owner",
            "rows_per_second",
            "eta_seconds",
            "error",
            "parent_id",
            "sha256",
            "started_at",
            "completed_at",
            "total_rows",
            "duplicate_of",
            "compression",
            "dialect",
        )
    )
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    return JobView(
        **{
            **fields,
            **nothing,
            "id": uuid4(),
            "dataset": "public.t",
            "filename": "f.csv",
            "status": JobState.PENDING,
            "mode": "batches",
            "chunks": {"pending": 1},
            "warnings": [],
            "created_at": now,
            "updated_at": now,
            **changes,
        }
    )


@dataclass
class FakeUpload:
    """An upload that hashes what it is fed."""

    options: UploadOptions
    on_feed: Callable[[bytes], Awaitable[None]]
    refuse_at_end: bool = False
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)
    head: bytes = b""
    finished: bool = False
    aborted_with: BaseException | None = None

    async def feed(self, data: bytes) -> None:
        """Take some bytes."""
        self.size += len(data)
        self.digest.update(data)
        self.head = (self.head + data)[:100] if len(self.head) < 100 else self.head
        await self.on_feed(data)
        if self.head.startswith(b"wrong"):
            raise FileError("the header does not fit", code="E_HEADER_MISMATCH", missing=["a"], unknown=["wrong"])

    async def stay(self) -> None:
        """Say that nobody wants the rest."""
        raise RequestError("the job no longer takes data", code="E_UPLOAD_GONE")

    async def finish(self) -> JobView:
        """Return the job."""
        if self.size == 0:
            raise FileError("the file is empty", code="E_EMPTY")
        self.finished = True
        return job_view(
            dataset=self.options.dataset,
            filename=self.options.filename,
            bytes_received=self.size,
            sha256=self.digest.hexdigest(),
        )


class FakeReceiving:
    """Offers uploads; `uploads` has them all, `aborted` is set when one was left unfinished."""

    def __init__(self) -> None:
        self.uploads: list[FakeUpload] = []
        self.aborted = trio.Event()
        self.fed = trio.Event()
        self.on_feed: Callable[[bytes], Awaitable[None]] = self._note

    async def _note(self, data: bytes) -> None:
        self.fed.set()

    @asynccontextmanager
    async def upload(self, options: UploadOptions) -> AsyncIterator[FakeUpload]:
        """Open an upload."""
        if options.dataset == "nowhere":
            raise RequestError("there is no dataset 'nowhere'", code="E_DATASET_UNKNOWN")
        FakeDatasets.dataset.check_parameters(options.parameters)
        upload = FakeUpload(options, self.on_feed)
        self.uploads.append(upload)
        try:
            yield upload
        except BaseException as error:
            upload.aborted_with = error
            self.aborted.set()
            raise


class FakeJobs:
    """Holds jobs and their rejects; raises `failure` when it is set."""

    def __init__(self) -> None:
        self.views: list[JobView] = []
        self.failure: Exception | None = None
        self.asked: dict[str, Any] = {}

    def _ask(self, **asked: Any) -> None:
        self.asked = asked
        if self.failure is not None:
            raise self.failure

    async def get(self, job_id: UUID) -> JobView | None:
        """Return a job."""
        self._ask(job_id=job_id)
        return next((view for view in self.views if view.id == job_id), None)

    async def page(self, *, page: int, limit: int, **wanted: JobState | str | None) -> tuple[list[JobView], int]:
        """Return all jobs as one page."""
        self._ask(page=page, limit=limit, **wanted)
        return self.views, len(self.views)

    async def chunks(self, job_id: UUID, *, page: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return a chunk."""
        self._ask(job_id=job_id, page=page, limit=limit)
        return [{"ordinal": 1, "claimed_at": datetime(2026, 1, 1, tzinfo=UTC)}], 1

    async def many(self, ids: Sequence[UUID]) -> list[JobView]:
        """Return those of these jobs that there are."""
        self._ask(ids=ids)
        return [view for view in self.views if view.id in ids]

    async def statistics(self) -> dict[str, Any]:
        """Return a number."""
        self._ask()
        return {"jobs": {"total": len(self.views)}}


class FakeRejects:
    """Holds rejects, and the pieces of a file of them; each piece is a trio checkpoint."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.after: tuple[int, int] | None = None
        self.pieces: Iterable[bytes] = (b"header\n",)
        self.taken = 0
        self.failure: Exception | None = None
        self.asked: dict[str, Any] = {}

    async def page(
        self, job_id: UUID, wanted: RejectFilter, *, limit: int, page: int, after: tuple[int, int]
    ) -> RejectPage:
        """Return all rejects as one page."""
        self.asked = {"job_id": job_id, "wanted": wanted, "limit": limit, "page": page, "after": after}
        return RejectPage(items=self.rows, after=self.after, total=len(self.rows), stored=len(self.rows))

    async def summary(self, job_id: UUID) -> dict[str, Any]:
        """Return one group."""
        return {"stored": 1, "groups": [{"column": "a", "code": "E_TYPE", "count": 1}]}

    async def export(self, job_id: UUID, *, resolved: bool | None) -> AsyncIterator[bytes]:
        """Return the pieces."""
        self.asked = {"job_id": job_id, "resolved": resolved}
        return FakeFile(self)


class FakeFile:
    """The pieces of a file, counted as they are taken."""

    def __init__(self, rejects: FakeRejects) -> None:
        self._rejects = rejects
        self._left = iter(rejects.pieces)

    def __aiter__(self) -> FakeFile:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._rejects.failure is not None:
            raise self._rejects.failure
        for piece in self._left:
            self._rejects.taken += 1
            return piece
        raise StopAsyncIteration


def no_request_keys() -> RequestKeys:
    """Keys without a database: nothing is asked of them for requests that have none."""
    return RequestKeys(cast(Database, None), ttl_s=1)


class FakeRetrying:
    """Retries a job of its own, or raises `failure`."""

    def __init__(self) -> None:
        self.failure: Exception | None = None

    async def retry(self, job_id: UUID, actor: str | None) -> JobView:
        """Return the job, pending again."""
        if self.failure is not None:
            raise self.failure
        return job_view(id=job_id)


class FakeControl:
    """Does to jobs what it is asked, or raises `failure`; `calls` has what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failure: Exception | None = None

    def _call(self, *call: Any) -> None:
        self.calls.append(call)
        if self.failure is not None:
            raise self.failure

    async def cancel(self, job_id: UUID, actor: str | None) -> JobView:
        """Return the job, cancelled."""
        self._call("cancel", job_id, actor)
        return job_view(id=job_id, status=JobState.CANCELLED)

    async def pause(self, job_id: UUID, actor: str | None) -> JobView:
        """Return the job, paused."""
        self._call("pause", job_id, actor)
        return job_view(id=job_id, status=JobState.PAUSED)

    async def resume(self, job_id: UUID, actor: str | None) -> JobView:
        """Return the job, pending."""
        self._call("resume", job_id, actor)
        return job_view(id=job_id)

    async def prioritise(self, job_id: UUID, priority: int, actor: str | None) -> JobView:
        """Return the job with its priority."""
        self._call("prioritise", job_id, priority, actor)
        return job_view(id=job_id, priority=priority)

    async def delete(self, job_id: UUID, actor: str | None) -> None:
        """Do nothing."""
        self._call("delete", job_id, actor)

    async def audit(self, job_id: UUID) -> list[dict[str, Any]]:
        """Return a line."""
        return [{"at": datetime(2026, 1, 1, tzinfo=UTC), "actor": None, "action": "pause", "detail": {}}]


class FakeDatasets:
    """Knows one dataset."""

    dataset = TableDataset(name="public.t", schema="public", table="t", columns=())

    async def find(self, name: str, caller: Caller) -> TableDataset:
        """Return the dataset."""
        if name != self.dataset.name:
            raise RequestError(f"there is no dataset {name!r}", code="E_DATASET_UNKNOWN")
        return self.dataset

    async def all(self, caller: Caller) -> list[TableDataset]:
        """Return every dataset."""
        return [self.dataset]


class FakeKeys:
    """Holds keys and whose the jobs are; raises `failure` when it is set. `calls` has the names of all calls."""

    def __init__(self) -> None:
        self.rows: dict[str, KeyRow] = {}
        self.sessions: dict[bytes, KeyRow] = {}
        self.owners: dict[UUID, str] = {}
        self.left: int | None = None
        self.used = 0
        self.failure: IngestError | None = None
        self.calls: list[str] = []

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure

    async def find(self, prefix: str) -> KeyRow | None:
        """Return the key."""
        self._called("find")
        return self.rows.get(prefix)

    async def find_by_session(self, digest: bytes) -> KeyRow | None:
        """Return the key of the session."""
        self._called("find_by_session")
        return self.sessions.get(digest)

    async def begin_session(self, key_id: UUID, digest: bytes, life_s: float) -> None:
        """Keep the session."""
        self._called("begin_session")
        self.sessions[digest] = next(row for row in self.rows.values() if row.id == key_id)

    async def end_session(self, digest: bytes) -> None:
        """Forget the session."""
        self._called("end_session")
        self.sessions.pop(digest, None)

    async def note_use(self, key_id: UUID) -> None:
        """Do nothing."""
        self._called("note_use")

    async def owner_of_job(self, job_id: UUID) -> str | None:
        """Return the owner."""
        self._called("owner_of_job")
        return self.owners.get(job_id)

    async def take_bytes(self, key_id: UUID, want: int) -> Grant:
        """Take from what is left."""
        self._called("take_bytes")
        granted = want if self.left is None else min(want, self.left)
        self.used += granted
        if self.left is not None:
            self.left -= granted
        return Grant(granted=granted, remaining=self.left, day=date(2026, 1, 1), resets_in_s=60)

    async def give_back_bytes(self, key_id: UUID, day: date, unused: int) -> None:
        """Take it back."""
        self._called("give_back_bytes")
        self.used -= unused
        if self.left is not None:
            self.left += unused


class FakeReadings:
    """A process without a worker, and a database that is away when `failure` is set."""

    def __init__(self) -> None:
        self.failure: IngestError | None = None

    def readings(self) -> Readings:
        """Return the readings."""
        return Readings(
            version="1.2.3", role="api", pool_open=3, pool_idle=2, pool_limit=8, uploads=1, upload_bytes=1000,
            chunks_running=0, batches_queued=0, batches_writing=0, writers=0, writers_limit=0,
        )  # fmt: skip

    async def counts(self) -> Counts:
        """Return the counts."""
        if self.failure is not None:
            raise self.failure
        return Counts(jobs={"completed": 2}, chunks={"completed": 3}, oldest_age_s=0.0)


class FakeHealth:
    """A service in good health, until told otherwise."""

    def __init__(self) -> None:
        self.started = True
        self.failure: IngestError | None = None
        self.hangs = False

    def statistics(self) -> ServiceStatistics:
        """Return the statistics."""
        return ServiceStatistics(
            version="1.2.3",
            role="serve",
            started=self.started,
            uptime_s=12.34,
            pool={"size": 10, "idle": 9},
            storage={"objects": 0},
            worker=WorkerStatistics(
                id="w1",
                heartbeat_age_s=0.5,
                chunks=1,
                batches_in_flight=BatchesInFlight(queued=1),
                last_batch_s=None,
                writers=WritersStatistics(
                    auto=True,
                    now=6,
                    most=16,
                    busy=5,
                    bytes_per_s=1000,
                    changes=[WritersChange(age_s=2.5, before=3, writers=6, reason="climb")],
                ),
            ),
        )

    async def queue(self) -> QueueStatistics:
        """Return the queue."""
        if self.hangs:
            await trio.sleep_forever()
        if self.failure is not None:
            raise self.failure
        return QueueStatistics(pending=3, processing=1, oldest_age_s=1.5)


def parts(settings: Settings, **own: Any) -> Parts:
    """What an application over fakes is made of, with some of them the test's own."""
    jobs = own.get("jobs") or FakeJobs()
    fakes: dict[str, Any] = {
        "keys": FakeKeys(), "receiving": FakeReceiving(), "jobs": jobs, "rejects": FakeRejects(),
        "retrying": FakeRetrying(), "control": FakeControl(), "datasets": FakeDatasets(), "health": FakeHealth(),
        "watching": Watching(jobs), "draining": trio.Event(), "request_keys": no_request_keys(),
        "metrics": MetricsPage(Metrics(), own.pop("readings", None) or FakeReadings()),
        "resumable": None, "sources": None,  # tested over the whole service
    }  # fmt: skip
    return Parts(settings=settings, **(fakes | own))
