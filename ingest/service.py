"""The service: everything is put together here, and taken apart again in the right order.

    signals > database loop and pool > HTTP > worker

The worker drains first and HTTP stops last, so that health can report the drain. The first SIGTERM or SIGINT asks the
worker to drain: no more claims, readers stop at a batch boundary, writers finish. The second one, or the end of the
grace, cancels what is left; its transactions roll back and its chunks are handed back. A process that cannot even do
that is ended by a watchdog thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial

import structlog
import trio
from uuid_utils.compat import uuid7

from ingest import __version__, worker
from ingest.announcing import Announcer
from ingest.control import Control
from ingest.database import Database, migrate_database, open_database
from ingest.datasetfiles import known_definitions
from ingest.datasets import Datasets
from ingest.definitions.model import Definition
from ingest.errors import UnavailableError
from ingest.heartbeat import Pulse
from ingest.idempotency import RequestKeys
from ingest.jobs import Jobs
from ingest.keys import Keys, check_reachable
from ingest.measuring import Measuring, writers_of
from ingest.memory import give_back, settle_down
from ingest.metrics import Metrics, watch_loop
from ingest.queue import Queue
from ingest.receiving import Receiving
from ingest.rejects import Rejects
from ingest.resumable import Resumable
from ingest.retrying import Retrying
from ingest.settings import Settings
from ingest.sources import Sources
from ingest.stopping import HTTP_GRACE_S, Stopping, watch_signals
from ingest.storage import Storage, open_storage
from ingest.uploadrows import UploadRows
from ingest.watching import Watching
from ingest.web.app import Parts, create_app
from ingest.web.edge import serve_http
from ingest.web.health import BatchesInFlight, QueueStatistics, ServiceStatistics, WorkerStatistics
from ingest.web.metrics import MetricsPage
from ingest.work import Work, create_work

log = structlog.get_logger(__name__)

# How often free memory is given back to the system.
GIVE_BACK_S = 1.0
# While the database is still away at the start: how often it is tried again.
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Roles:
    """Which halves of the service this process runs."""

    api: bool
    worker: bool

    def __str__(self) -> str:
        return "serve" if self.api and self.worker else "api" if self.api else "worker"


async def serve(settings: Settings, dsn: str, roles: Roles, announce: Callable[[str], None]) -> None:
    """Run the service until it is told to stop; `announce` gets the ready line.

    Raises SettingsError, DatabaseError when it cannot start.
    """
    stopping = Stopping()
    definitions = known_definitions(settings.datasets_dir)
    async with trio.open_nursery() as beside:
        await beside.start(watch_signals, stopping, settings.shutdown_grace_s)
        with stopping.everything:
            async with _connected(settings, dsn, f"ingest {roles}") as database:
                for name in await migrate_database(database):
                    log.info("migration_applied", migration=name)
                if roles.api:
                    await check_reachable(settings, Keys(database))
                await _serve(settings, roles, database, definitions, announce, stopping)
        beside.cancel_scope.cancel(reason="stopped")
    log.info("stopped")


async def _serve(
    settings: Settings,
    roles: Roles,
    database: Database,
    definitions: Sequence[Definition],
    announce: Callable[[str], None],
    stopping: Stopping,
) -> None:
    datasets = Datasets(database, settings.allowed_schemas, definitions)
    storage, metrics, stop, http_stop = open_storage(settings), Metrics(), stopping.requested, trio.Event()
    announcer = Announcer(database)
    work = (
        create_work(settings, database, storage, stop, metrics=metrics, announcer=announcer) if roles.worker else None
    )
    service = Service(settings, roles, database, storage, work, stopping)
    jobs, rows = Jobs(database, announcer), UploadRows(database, life_s=settings.upload_life_s)
    receiving = Receiving(settings, storage, jobs, datasets)
    resumable = Resumable(settings, storage, jobs, datasets, rows)
    sources = Sources(receiving, jobs, settings.source_roots)
    watching = Watching(jobs)
    if work is not None:
        work.told.append(watching.hear)
    async with trio.open_nursery() as outer:
        outer.start_soon(resumable.run, stop)
        outer.start_soon(sources.run, stop)
        outer.start_soon(announcer.run, http_stop)
        parts = Parts(
            settings=settings,
            keys=Keys(database),
            receiving=receiving,
            resumable=resumable,
            sources=sources,
            jobs=jobs,
            rejects=Rejects(database),
            retrying=Retrying(database, storage),
            control=Control(database, storage),
            datasets=datasets,
            request_keys=RequestKeys(database, ttl_s=settings.idempotency_ttl_s),
            health=service,
            watching=watching,
            metrics=MetricsPage(metrics, Measuring(str(roles), database, (receiving, resumable), work)),
            draining=stop,
        )
        app = create_app(parts, health_only=not roles.api)
        address = await outer.start(
            partial(serve_http, app, host=settings.host, port=settings.port, shutdown=http_stop, grace_s=HTTP_GRACE_S)
        )
        outer.start_soon(_keep_small, http_stop)
        outer.start_soon(watch_loop, metrics, http_stop)
        if roles.api:
            # A worker listens anyway. When it has drained, what changes is found by looking.
            outer.start_soon(watching.run, None if work else database, http_stop)
        settle_down()
        stopping.ready = True
        announce(f"ingest is ready on {address.url}")
        with stopping.work:
            await service.work_until_stopped(stop)
        http_stop.set()


async def _keep_small(http_stop: trio.Event) -> None:
    """Give memory that uploads and batches have left back to the system, until HTTP stops."""
    while not http_stop.is_set():
        with trio.move_on_after(GIVE_BACK_S):
            await http_stop.wait()
        give_back()


class Service:
    """What the process knows of itself; the health endpoint's source."""

    def __init__(
        self,
        settings: Settings,
        roles: Roles,
        database: Database,
        storage: Storage,
        work: Work | None,
        stopping: Stopping,
    ) -> None:
        self._stopping = stopping
        self._settings = settings
        self._roles = roles
        self._database = database
        self._storage = storage
        self._work = work
        self._pulse = Pulse()
        self._began = trio.current_time()
        self._queue = Queue(database, uuid7())

    async def work_until_stopped(self, stop: trio.Event) -> None:
        """Run the worker, or in a process without one wait for the stop."""
        if self._work is None:
            await stop.wait()
        else:
            await worker.run(self._work, self._pulse)

    def statistics(self) -> ServiceStatistics:
        """Return what is known without asking anybody."""
        return ServiceStatistics(
            version=__version__,
            role=str(self._roles),
            started=self._stopping.ready,
            uptime_s=trio.current_time() - self._began,
            pool=asdict(self._database.statistics()),
            storage=asdict(self._storage.statistics()),
            worker=self._worker_statistics(self._work) if self._work else None,
        )

    def _worker_statistics(self, work: Work) -> WorkerStatistics:
        in_flight = work.accounts.statistics()
        return WorkerStatistics(
            id=str(work.queue.worker_id),
            heartbeat_age_s=round(self._pulse.age_s, 1),
            chunks=in_flight.chunks,
            batches_in_flight=BatchesInFlight(queued=in_flight.queued, writing=in_flight.writing),
            last_batch_s=round(in_flight.last_batch_s, 4) if in_flight.last_batch_s is not None else None,
            writers=writers_of(work),
        )

    async def queue(self) -> QueueStatistics:
        """Ask the database how much work there is."""
        depth = await self._queue.depth()
        return QueueStatistics(pending=depth.pending, processing=depth.processing, oldest_age_s=depth.oldest_age_s)


@asynccontextmanager
async def _connected(settings: Settings, dsn: str, name: str) -> AsyncIterator[Database]:
    """Open the database; one that is starting or away is waited for, at most `database_wait_s`."""
    await _await_database(settings, dsn, name)
    async with open_database(dsn, pool_size=settings.pool_size, slots=settings.writer_count, name=name) as database:
        yield database


async def _await_database(settings: Settings, dsn: str, name: str) -> None:
    deadline = trio.current_time() + settings.database_wait_s
    while True:
        try:
            async with open_database(dsn, pool_size=1, name=name) as database:
                await database.value("SELECT 1")
                return
        except UnavailableError as error:
            if trio.current_time() + RETRY_S > deadline:
                raise
            log.warning("database_unavailable", detail=error.detail, sqlstate=error.sqlstate)
        await trio.sleep(RETRY_S)
