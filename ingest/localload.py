"""`ingest load`: load local files in this process, without a server, by the same chunks, batches and ledger.

Every file's job has a queue of its own, named after the file, so no other worker takes it, and the same command given
again after a crash finds the unfinished job and goes on with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from uuid import UUID

import structlog
import trio
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ingest import worker
from ingest.database import Database, migrate_database, open_database
from ingest.datasetfiles import known_definitions
from ingest.datasets import Datasets
from ingest.errors import IngestError, Interrupted, StorageError, UnavailableError
from ingest.heartbeat import Pulse
from ingest.job import FINAL, JobView
from ingest.jobs import Jobs
from ingest.receiving import Receiving, UploadOptions
from ingest.rejects import Rejects
from ingest.settings import Settings
from ingest.statements import statement
from ingest.storage import Storage, open_storage
from ingest.work import create_work

log = structlog.get_logger(__name__)

LOOK_S = 0.1
BLOCK_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one file: its job, or why there is none."""

    filename: str
    job: JobView | None
    error: IngestError | None


async def load_files(
    settings: Settings,
    dsn: str,
    paths: Sequence[Path | None],
    options: UploadOptions,
    *,
    quiet: bool,
    write_rejects: Callable[[bytes], object] | None = None,
) -> list[Result]:
    """Load files one after the other (None stands for standard input) and return what became of each.

    `options` hold for all of them; their names and sizes are put in. `write_rejects` is given the rejected records as a
    CSV file, piece by piece.

    A file that cannot be loaded does not stop the others. Raises DatabaseError when the database is not there, and
    Interrupted after SIGINT or SIGTERM: open batches are rolled back, and the same call goes on with the job.
    """
    async with trio.open_nursery() as beside:
        caught = await beside.start(_cancel_on_signal, beside.cancel_scope)
        async with open_database(
            dsn, pool_size=settings.pool_size, slots=settings.writer_count, name="ingest load"
        ) as database:
            await migrate_database(database)
            loader = Loader(settings, database, open_storage(settings), options)
            results = [await _load(loader, path, quiet) for path in paths]
            if write_rejects is not None:
                await _write_rejects(Rejects(database), results, write_rejects)
        beside.cancel_scope.cancel(reason="loaded")
        return results
    raise Interrupted(caught[0], "" if None in paths else "; give the same command again to go on where it stopped")


async def _cancel_on_signal(
    scope: trio.CancelScope, *, task_status: trio.TaskStatus[list[int]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Cancel on SIGINT and SIGTERM, and note which it was.

    Left to Python, KeyboardInterrupt would be raised wherever the process is just then. Halfway through the asyncio
    loop, that loop would never run again, and the load hang.
    """
    caught: list[int] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started(caught)
        async for number in signals:
            caught.append(number)
            scope.cancel(reason="interrupted")


async def _load(loader: Loader, path: Path | None, quiet: bool) -> Result:
    name = path.name if path else "stdin"
    try:
        with _progress(quiet) as progress:
            return Result(filename=name, job=await loader.load(path, progress), error=None)
    except IngestError as error:
        return Result(filename=name, job=None, error=error)


async def _write_rejects(rejects: Rejects, results: Sequence[Result], write: Callable[[bytes], object]) -> None:
    for result in results:
        if result.job is not None:
            async for piece in await rejects.export(result.job.id, resolved=None):
                write(piece)


class Loader:
    """Loads files with the same options into one dataset."""

    def __init__(self, settings: Settings, database: Database, storage: Storage, options: UploadOptions) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._options = options
        self._jobs = Jobs(database)
        datasets = Datasets(database, settings.allowed_schemas, known_definitions(settings.datasets_dir))
        self._receiving = Receiving(settings, storage, self._jobs, datasets)

    async def load(self, path: Path | None, progress: Progress) -> JobView:
        """Load one file and return its job when it has ended."""
        if path is None:
            queue = f"load {platform.node()} stdin {datetime.now().isoformat()}"
            view = await self._receive_stdin(queue)
        else:
            queue = self._queue_of(path)
            view = await self._unfinished(queue) or await self._scan(path, queue, progress)
        return view if view.status in FINAL else await self._work(view.id, queue, progress)

    def _queue_of(self, path: Path) -> str:
        """Return the queue of a file's job: the same for the same unchanged file, loaded in the same way."""
        try:
            status = path.stat()
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}", code="E_SOURCE_MISSING") from error
        dataset, dialect, mode = self._options.dataset, self._options.dialect.to_json(), self._options.mode
        identity = [str(path.resolve()), status.st_size, status.st_mtime_ns, dataset, dialect, mode]
        identity += sorted({**self._options.parameters, **(self._options.told or {})}.items())
        return f"load {platform.node()} {hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]}"

    def _options_for(self, filename: str, bytes_total: int | None) -> UploadOptions:
        return dataclasses.replace(self._options, filename=filename, bytes_total=bytes_total)

    async def _unfinished(self, queue: str) -> JobView | None:
        rows = await self._database.fetch(statement("unfinished_job_of_queue"), queue)
        return await self._jobs.get(rows[0]["id"]) if rows else None

    async def _scan(self, path: Path, queue: str, progress: Progress) -> JobView:
        size = (await trio.Path(path).stat()).st_size
        task = progress.add_task(f"reading {path.name}", total=size)
        return await self._receiving.scan_file(
            path,
            self._options_for(path.name, size),
            queue=queue,
            on_progress=lambda done: progress.update(task, completed=done),
        )

    async def _receive_stdin(self, queue: str) -> JobView:
        async with self._receiving.upload(self._options_for("stdin", None), queue=queue) as upload:
            # Not through sys.stdin: an abandoned thread would hold its lock, and Python abort for it at the end.
            read = partial(os.read, sys.stdin.fileno(), BLOCK_BYTES)
            while data := await trio.to_thread.run_sync(read, abandon_on_cancel=True):
                await upload.feed(data)
            return await upload.finish()

    async def _work(self, job_id: UUID, queue: str, progress: Progress) -> JobView:
        """Run a worker on the job's queue until the job has ended."""
        stop = trio.Event()
        work = create_work(self._settings, self._database, self._storage, stop, queue)
        told = trio.Event()
        update = partial(progress.update, progress.add_task("loading", total=None))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, work, Pulse())
            nursery.start_soon(work.announcer.run, told)
            view = await self._watch(job_id, update)
            stop.set()
            told.set()
        return view

    async def _watch(self, job_id: UUID, on_change: Callable[..., None]) -> JobView:
        while True:
            try:
                view = await self._jobs.get(job_id)
            except UnavailableError as error:
                log.warning("database_unavailable", detail=error.detail, sqlstate=error.sqlstate)
            else:
                if view is None:
                    raise StorageError("the job was deleted while it was loaded", code="E_NOT_FOUND")
                on_change(total=view.bytes_total, completed=view.bytes_processed)
                if view.status in FINAL:
                    return view
            await trio.sleep(LOOK_S)


def _progress(quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty())
