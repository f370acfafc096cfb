"""Receiving: the bytes of a file become the chunks of a job, while they arrive.

The header is read first and checked against the dataset; only then does the job exist. Nothing can be claimed before
`finish`. A file that ends in any other way leaves neither objects nor chunks behind, only a failed job that says why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from uuid import UUID

import trio

from ingest.admission import JobRows, Target, too_large
from ingest.caller import Caller
from ingest.compression import MAGIC_BYTES, compression_of_bytes, compression_of_name
from ingest.cutter import InPlaceSink, ObjectSink, Sink
from ingest.datasets import Dataset
from ingest.errors import IngestError, RequestError
from ingest.job import JobView
from ingest.objects import Source
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.storage import Storage
from ingest.upload import BLOCK_BYTES, Upload
from ingest.uploadoptions import UploadOptions

__all__ = ["Receiving", "ReceivingStatistics", "Upload", "UploadOptions"]

# Blocks that are worked on at once, of all uploads together; hashing and cutting keep a processor busy each.
THREADS = 8

DEFAULT_QUEUE = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingStatistics:
    """Files that are being received, and bytes received since the start."""

    uploads: int
    bytes_received: int


class DatasetSource(Protocol):
    """The part of `ingest.datasets` that receiving asks."""

    async def find(self, name: str, caller: Caller) -> Dataset: ...

    async def ready(self, spec: LoadSpec) -> LoadSpec: ...


class Receiving:
    """Takes files in. `statistics()` says how many at the moment."""

    def __init__(self, settings: Settings, storage: Storage, jobs: JobRows, datasets: DatasetSource) -> None:
        self._settings = settings
        self._storage = storage
        self._jobs = jobs
        self._datasets = datasets
        self._limiter = trio.CapacityLimiter(THREADS)
        self._uploads: set[Upload] = set()
        self._ended_bytes = 0

    @asynccontextmanager
    async def upload(self, options: UploadOptions, *, queue: str = DEFAULT_QUEUE) -> AsyncIterator[Upload]:
        """Receive a file whose bytes come one after the other, and store its chunks as objects.

        Left without `finish`, by error or cancellation, it removes what was stored and fails the job, in bounded time.
        Raises RequestError (E_DATASET_UNKNOWN, E_OPTION, E_TOO_LARGE) before it takes a byte.
        """
        limit = self._settings.max_upload_bytes
        if options.bytes_total is not None and options.bytes_total > limit:
            raise too_large(limit)
        sink = object_sink(self._settings, self._storage)
        async with self._receive(options, queue, sink, limit) as upload:
            yield upload

    async def scan_file(
        self,
        path: Path,
        options: UploadOptions,
        *,
        queue: str,
        on_progress: Callable[[int], None] = lambda bytes_scanned: None,
        on_job: Callable[[UUID], None] = lambda job_id: None,
    ) -> JobView:
        """Make a job of a local file without copying it: its chunks refer to the file, which must not change.

        The chunks of a file that is compressed or not in UTF-8 are stored, since there is nothing they could refer to.
        `on_progress` is told the bytes scanned so far, `on_job` the job as soon as it exists; both again at each block,
        and what they raise fails the job, as cancellation does. Raises SourceChanged when the file changes meanwhile,
        else what `Upload.feed` and `Upload.finish` raise.
        """
        source = await trio.to_thread.run_sync(Source.of_file, path, limiter=self._limiter)
        size = source.size_bytes or 0
        in_place, options = InPlaceSink(source.key()), replace(options, bytes_total=size)
        async with self._storage.open(source.key()) as reader, AsyncExitStack() as stack:
            start = await reader.read(0, min(MAGIC_BYTES, size))
            compressed = compression_of_name(options.filename) or compression_of_bytes(start)
            stored = object_sink(self._settings, self._storage)

            def sink(job_id: UUID, as_sent: bool) -> Sink:
                return in_place if as_sent and not compressed else stored(job_id, as_sent)

            upload = await stack.enter_async_context(self._receive(options, queue, sink, None))
            for offset in range(0, size, BLOCK_BYTES):
                await upload.feed(await reader.read(offset, min(BLOCK_BYTES, size - offset)))
                if upload.job_id is not None:
                    on_job(upload.job_id)
                on_progress(upload.bytes_received)
            return await upload.finish()

    def statistics(self) -> ReceivingStatistics:
        """Return what is being received now, and how much was since the start."""
        open_bytes = sum(upload.bytes_received for upload in self._uploads)
        return ReceivingStatistics(uploads=len(self._uploads), bytes_received=self._ended_bytes + open_bytes)

    @asynccontextmanager
    async def _receive(
        self, options: UploadOptions, queue: str, sink: Callable[[UUID, bool], Sink], limit_bytes: int | None
    ) -> AsyncIterator[Upload]:
        dataset = await self._datasets.find(options.dataset, options.caller)
        dataset.check_parameters(options.parameters)
        target = Target(dataset=dataset, ready=self._datasets.ready, queue=queue, sink=sink, limit_bytes=limit_bytes)
        upload = Upload(
            options, target, settings=self._settings, storage=self._storage, jobs=self._jobs, limiter=self._limiter
        )
        self._uploads.add(upload)
        try:
            yield upload
        except IngestError as error:
            await upload.abandon(error)
            raise
        finally:
            await upload.abandon(RequestError("the upload ended before the file did", code="E_UPLOAD_INCOMPLETE"))
            self._uploads.discard(upload)
            self._ended_bytes += upload.bytes_received


def object_sink(settings: Settings, storage: Storage) -> Callable[[UUID, bool], Sink]:
    """Return what stores the chunks of a file as objects."""
    packed = settings.storage_compression == "zstd"
    return lambda job_id, as_sent: ObjectSink(storage, job_id, packed=packed)
