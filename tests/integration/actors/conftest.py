"""A worker's shared state over a real database and a real storage, and jobs whose chunks lie there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from uuid_utils.compat import uuid7

from ingest.chunk import Chunk
from ingest.database import Database
from ingest.job import JobView
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_key
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.storage import Storage, open_storage
from ingest.work import Work, create_work
from tests.conftest import emptied
from tests.exposition import Exposition
from tests.integration.build import cut, make_job, spec

SETTINGS = {
    "WORKER_CONCURRENT_BATCHES": "4",
    "WORKER_CONCURRENT_CHUNKS": "2",
    "WORKER_POLL_INTERVAL": "50",
    "WORKER_HEARTBEAT_INTERVAL": "100",
    "WORKER_LEASE_TTL": "20000",
}

MakeWork = Callable[..., Work]
MakeJob = Callable[..., Awaitable[UUID]]


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """DSN of a migrated, empty database."""
    return emptied(shared_dsn)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return open_storage(Settings.from_environment({"INGEST_HOME": str(tmp_path)}))


@pytest.fixture
def make_work(database: Database, storage: Storage) -> MakeWork:
    """Make the state of another worker: `make_work(WORKER_LEASE_TTL="1000")`."""

    def make(database: Database = database, stop: trio.Event | None = None, **environment: str) -> Work:
        settings = Settings.from_environment(SETTINGS | environment)
        return create_work(settings, database, storage, stop or trio.Event())

    return make


@pytest.fixture
def work(make_work: MakeWork) -> Work:
    """The state of a worker."""
    return make_work()


@pytest.fixture
def job(database: Database, storage: Storage) -> MakeJob:
    """Store a job's chunks and make it claimable."""

    async def make(*chunks: bytes, of: LoadSpec | None = None, batch_records: int = 10, **options: Any) -> UUID:
        of = of or spec()
        folder = uuid7()
        cuts = []
        for ordinal, data in enumerate(chunks, 1):
            stored = storage.create(chunk_key(folder, ordinal))
            stored.write(data)
            stored.seal()
            made = cut(data, batch_records=batch_records, single_column=len(of.columns) == 1, dialect=of.dialect)
            cuts.append(replace(made, ordinal=ordinal, object_key=chunk_key(folder, ordinal)))
        return await make_job(database, cuts, of=of, **options)

    return make


async def claim(work: Work) -> Chunk:
    """Claim the one chunk there is."""
    [chunk] = await work.queue.claim(1)
    return chunk


async def view(work: Work, job_id: UUID) -> JobView:
    """The job as it stands."""
    found = await Jobs(work.database).get(job_id)
    assert found is not None
    return found


def settled(work: Work) -> bool:
    """Whether nothing is in flight, and every batch that was read is committed or abandoned."""
    now = work.accounts.statistics()
    return (now.chunks, now.queued, now.writing) == (0, 0, 0) and now.read == now.committed + now.abandoned


def counted(work: Work) -> Exposition:
    """What the worker's metrics have counted."""
    return Exposition(work.metrics.render([]).decode())


async def values(database: Database, table: str = "t") -> Sequence[int]:
    """The table's numbers in order."""
    return [row[0] for row in await database.fetch(f"SELECT a FROM {table} ORDER BY a")]
