"""Receiving on the real disk and the real queue: memory behind a slow consumer, and jobs as PostgreSQL has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
import trio

from ingest.budget import Budget
from ingest.chunk import ChunkCut
from ingest.control import Control
from ingest.database import Database, open_database
from ingest.datasets import Datasets
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.job import JobMode, JobState
from ingest.jobs import Jobs
from ingest.receiving import Receiving, UploadOptions
from ingest.settings import Settings
from ingest.storage import LocalStorage
from tests.conftest import Psql
from tests.unit.test_receiving import MemoryJobs, OneDataset

MIB = 1024 * 1024
PEOPLE = b"id,name\n" + b"".join(b'%d,"one\n%d"\n' % (n, n) for n in range(5000))


def order(dataset: str = "public.people") -> UploadOptions:
    return UploadOptions(dataset=dataset, filename="people.csv", dialect=Dialect(), priority=5, bytes_total=None)


class SlowJobs(MemoryJobs):
    """A queue that takes a chunk only when the sender is stuck, and then drops its object; samples the memory."""

    def __init__(self, storage: LocalStorage) -> None:
        super().__init__()
        self.storage = storage
        self.rss: list[int] = []

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self.rss.append(psutil.Process().memory_info().rss)
        await self.storage.remove(cut.object_key)


async def test_memory_stays_flat_behind_a_slow_consumer(tmp_path: Path) -> None:
    """A sender that is faster than the queue waits: 1 GiB passes through in less than 30 MiB."""
    storage = LocalStorage(tmp_path)
    jobs = SlowJobs(storage)
    receiving = Receiving(Settings.from_environment({}), storage, jobs, OneDataset())
    piece = b'1234,"some ""quoted""\ntext"\n' * 2340
    send, receive = trio.open_memory_channel[bytes](0)

    async def sender() -> None:
        with send:
            for _ in range(1024 * MIB // len(piece)):
                await send.send(piece)

    async with trio.open_nursery() as nursery, receiving.upload(order()) as upload:
        nursery.start_soon(sender)
        await upload.feed(b"id,name\n")
        with receive:
            async for data in receive:
                await upload.feed(data)
        done = await upload.finish()

    assert done.total_rows == 1024 * MIB // len(piece) * 2340
    assert len(jobs.rss) >= 60
    assert max(jobs.rss) - jobs.rss[2] < 30 * MIB


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn, pool_size=2) as database:
        yield database


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "objects")


@pytest.fixture
def receiving(database: Database, storage: LocalStorage, psql: Psql) -> Receiving:
    psql("create table public.people (id int not null, name text)")
    settings = Settings.from_environment(
        {"CHUNK_SIZE": "8192", "WORKER_BATCH_BYTES": "4096", "MAX_RECORD_BYTES": "4096", "MAX_STORED_REJECTS": "123"}
    )
    return Receiving(settings, storage, Jobs(database), Datasets(database, frozenset({"public"})))


async def send(receiving: Receiving, data: bytes) -> UUID:
    async with receiving.upload(order()) as upload:
        await upload.feed(data)
        return (await upload.finish()).id


async def test_a_file_that_corrects_another_is_linked_to_it(receiving: Receiving, psql: Psql) -> None:
    """With its mode, its budget and the number of rejects that are kept."""
    parent = await send(receiving, PEOPLE)
    options = replace(order(), parent_id=parent, mode=JobMode.VALIDATE, budget=Budget(percent=5.0))
    async with receiving.upload(options) as upload:
        await upload.feed(PEOPLE)
        view = await upload.finish()
    assert (view.parent_id, view.mode) == (parent, "validate")
    assert psql(
        f"select max_rejects is null, max_rejects_percent, max_stored_rejects from ingest.jobs where id = '{view.id}'"
    ) == ("t|5|123")


async def test_a_parent_must_exist_and_be_of_the_same_dataset(receiving: Receiving, psql: Psql) -> None:
    """Else the file is refused by name, before there is a job."""
    parent = await send(receiving, PEOPLE)
    psql("update ingest.jobs set dataset = 'public.dogs'")
    for parent_id, words in ((uuid4(), "there is no job"), (parent, "loaded dataset 'public.dogs'")):
        with pytest.raises(RequestError, match=words) as refused:
            async with receiving.upload(replace(order(), parent_id=parent_id)) as upload:
                await upload.feed(PEOPLE)
        assert refused.value.code == "E_PARENT"
    assert psql("select count(*) from ingest.jobs") == "1"


async def test_an_upload_is_claimable_when_it_is_complete(
    receiving: Receiving, storage: LocalStorage, psql: Psql
) -> None:
    """Not before: until then its chunks wait in the state `receiving`."""
    async with receiving.upload(order()) as upload:
        await upload.feed(PEOPLE)
        assert psql("select state, bytes_total is null from ingest.jobs") == "receiving|t"
        await upload.feed(b"5000,x\n")
        assert psql("select distinct state from ingest.chunks") == "receiving"
        view = await upload.finish()

    assert (view.status, view.total_rows, view.bytes_total) == (JobState.PENDING, 5001, len(PEOPLE) + 7)
    assert psql("select distinct state from ingest.chunks") == "pending"
    assert psql("select sum(records), min(first_line), max(file_offset + length_bytes) from ingest.chunks") == (
        f"5001|2|{len(PEOPLE) + 7}"
    )
    stored = {stored.key: stored.bytes for stored in await storage.listing()}
    rows = psql("select object_key, length_bytes from ingest.chunks").splitlines()
    assert stored == {key: int(size) for key, size in (row.split("|") for row in rows)}


async def test_a_broken_upload_leaves_a_failed_job_only(
    receiving: Receiving, storage: LocalStorage, psql: Psql
) -> None:
    """No chunk, no object; the job says why."""
    with pytest.raises(FileError, match="E_RECORD_TOO_LARGE"):
        await send(receiving, PEOPLE + b"1," + b"x" * 5000)
    assert psql("select state, error_code from ingest.jobs") == "failed|E_RECORD_TOO_LARGE"
    assert psql("select count(*) from ingest.chunks") == "0"
    assert await storage.listing() == []


async def test_a_cancelled_upload_leaves_a_failed_job_only(
    receiving: Receiving, storage: LocalStorage, psql: Psql
) -> None:
    """As when the client has gone."""
    with trio.CancelScope() as scope:
        async with receiving.upload(order()) as upload:
            await upload.feed(PEOPLE)
            await upload.feed(b"1,a\n")
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert psql("select state, error_code from ingest.jobs") == "failed|E_UPLOAD_INCOMPLETE"
    assert psql("select count(*) from ingest.chunks") == "0"
    assert await storage.listing() == []


async def test_a_header_only_file_is_a_completed_job(receiving: Receiving, psql: Psql) -> None:
    """It has no records to wait for."""
    await send(receiving, b"id,name\n")
    assert psql("select state, records from ingest.jobs") == "completed|0"


@pytest.mark.parametrize("header", [b"id,nome\n", b"id,id,name\n", b"name\n"])
async def test_a_header_that_does_not_fit_is_refused_without_a_job(
    receiving: Receiving, psql: Psql, header: bytes
) -> None:
    """Unknown, doubled or missing columns."""
    with pytest.raises(FileError, match="E_HEADER_MISMATCH"):
        await send(receiving, header + b"1,a\n")
    assert psql("select count(*) from ingest.jobs") == "0"


async def test_an_upload_whose_job_was_ended_stops(receiving: Receiving, storage: LocalStorage, psql: Psql) -> None:
    """By the janitor, or by request: the next chunk is refused, and nothing stays."""
    async with receiving.upload(order()) as upload:
        await upload.feed(b"id,name\n" + b"1,a\n" * 1100)
        psql("select ingest.fail_upload(id, 'E_UPLOAD_INCOMPLETE', 'silent') from ingest.jobs")
        await upload.feed(PEOPLE)
        with pytest.raises(RequestError, match="E_UPLOAD_GONE"):
            await upload.finish()
    assert await storage.listing() == []


async def test_a_local_file_is_queued_in_place(receiving: Receiving, tmp_path: Path, psql: Psql) -> None:
    """In the queue it was asked for, with chunks that point into the file."""
    path = tmp_path / "people.csv"
    path.write_bytes(PEOPLE)
    view = await receiving.scan_file(path, order(), queue="local")
    assert (view.status, view.total_rows) == (JobState.PENDING, 5000)
    assert psql("select distinct queue, object_offset = file_offset from ingest.chunks") == "local|t"
    assert psql("select distinct object_key from ingest.chunks").startswith(f"file://{path}?size={len(PEOPLE)}&")


async def test_an_upload_learns_that_its_job_was_cancelled(
    receiving: Receiving, storage: LocalStorage, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it next reports how far it is, long before a chunk is full; it leaves nothing."""
    monkeypatch.setattr("ingest.uploadjob.TOUCH_S", 0)
    async with receiving.upload(order()) as upload:
        await upload.feed(PEOPLE[:-10])
        assert upload.job_id is not None
        await Control(database, storage).cancel(upload.job_id)
        with pytest.raises(RequestError) as caught:
            await upload.feed(PEOPLE[-10:])
    assert (caught.value.code, "cancelled" in caught.value.detail) == ("E_UPLOAD_GONE", True)
    assert await storage.listing() == []
