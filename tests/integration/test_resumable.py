"""Resumable uploads on the real disk and the real queue: takeovers, lost state, cancellation at every step."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from ingest import uploadrows
from ingest.admission import UploadOptions
from ingest.budget import Budget
from ingest.caller import ANYBODY
from ingest.database import Database, open_database
from ingest.datasets import Datasets
from ingest.dialect import Dialect
from ingest.errors import IngestError, RequestError
from ingest.job import JobMode
from ingest.jobs import Jobs
from ingest.resumable import Resumable
from ingest.settings import Settings
from ingest.statements import statement
from ingest.storage import LocalStorage, spool_key
from ingest.uploadrows import UploadRows
from tests.conftest import Psql

PEOPLE = b"id,name\n" + b"\n" * 9000 + b"".join(b'%d,"one\n%d"\n' % (n, n) for n in range(5000)) + b"\n" * 9000

SETTINGS = Settings.from_environment(
    {"CHUNK_SIZE": "8192", "WORKER_BATCH_BYTES": "4096", "MAX_RECORD_BYTES": "4096", "MAX_UPLOAD_BYTES": "1000000"}
)
# Every bit of an upload's options is kept over the days that it may take.
OPTIONS = UploadOptions(
    dataset="public.people",
    filename="people.csv",
    dialect=Dialect(null="NA"),
    priority=7,
    bytes_total=None,
    mode=JobMode.ATOMIC,
    budget=Budget(percent=5.0),
    parameters={},
)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    async with open_database(dsn, pool_size=4) as database:
        yield database


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "objects")


class Processes:
    """Any number of processes that share a database and a storage."""

    def __init__(self, database: Database, storage: LocalStorage) -> None:
        self.rows = UploadRows(database, life_s=3600)
        self._database = database
        self._storage = storage

    def start(self) -> Resumable:
        jobs, datasets = Jobs(self._database), Datasets(self._database, frozenset({"public"}))
        return Resumable(SETTINGS, self._storage, jobs, datasets, self.rows)


@pytest.fixture
def processes(database: Database, storage: LocalStorage, psql: Psql) -> Processes:
    psql("create table public.people (id int not null, name text)")
    return Processes(database, storage)


async def send(resumable: Resumable, upload_id: UUID, most: int) -> int:
    """Go on with an upload by a request of at most `most` bytes; returns how far it is then."""
    async with resumable.hold(upload_id, ANYBODY) as held:
        await held.write(PEOPLE[held.row.received : held.row.received + most])
        await held.acknowledge()
        await held.follow()
        return held.row.received


def assert_exact(psql: Psql) -> None:
    """The job's chunks are the records of the file without gap and overlap, apart from blank lines."""
    assert (
        psql("select state, bytes_total, bytes_received, records from ingest.jobs")
        == f"pending|{len(PEOPLE)}|{len(PEOPLE)}|5000"
    )
    assert psql("select encode(sha256, 'hex') from ingest.jobs") == sha256(PEOPLE).hexdigest()
    assert psql("select sum(records), min(ordinal), max(ordinal) - count(*) from ingest.chunks") == "5000|1|0"
    assert psql("select count(*) from (select file_offset - lag(file_offset + length_bytes) over (order by ordinal) as gap"
                " from ingest.chunks) as c where gap <> 0") == "0"  # fmt: skip
    lines = [
        row.split("|")
        for row in psql("select file_offset, first_line from ingest.chunks order by ordinal").splitlines()
    ]
    assert all(PEOPLE[: int(offset)].count(b"\n") + 1 == int(line) for offset, line in lines)


@pytest.mark.parametrize("most", [1, 7, 4095, 4097, 30_001, len(PEOPLE)])
async def test_the_cut_of_the_requests_does_not_matter(processes: Processes, psql: Psql, most: int) -> None:
    """Nor where they meet a new process: the chunks are those of the file."""
    row = await processes.start().create(OPTIONS, len(PEOPLE), "")
    start = len(PEOPLE) - 40 if most < 10 else 0
    if start:
        await send(processes.start(), row.id, start)
    while await send(processes.start(), row.id, most) < len(PEOPLE):
        pass
    assert_exact(psql)
    assert (
        psql("select mode, priority, max_rejects_percent, spec->'dialect'->>'null' from ingest.jobs") == "atomic|7|5|NA"
    )


class CancelAt(trio.abc.Instrument):
    """Cancels a scope when its task has been scheduled so many times."""

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, steps: int) -> None:
        self._task, self._scope, self._left = task, scope, steps

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


async def test_a_request_may_be_cancelled_at_any_step(processes: Processes, psql: Psql) -> None:
    """What was acknowledged stays, and the next request of the same process goes on from there."""
    resumable = processes.start()
    row = await resumable.create(OPTIONS, len(PEOPLE), "")
    steps = received = 0
    while received < len(PEOPLE):
        steps += 1
        with trio.CancelScope() as scope:
            cancel = CancelAt(trio.lowlevel.current_task(), scope, steps % 60 + 1)
            trio.lowlevel.add_instrument(cancel)
            try:
                await send(resumable, row.id, 5000)
            finally:
                trio.lowlevel.remove_instrument(cancel)
        now = int(psql("select received from ingest.uploads"))
        assert now >= received
        received = now
        assert steps < 3000
    async with resumable.hold(row.id, ANYBODY) as held:
        await held.follow()
    assert_exact(psql)


async def test_two_requests_of_one_process(processes: Processes, psql: Psql) -> None:
    """The older one is woken and told; what it has taken counts."""
    resumable, stop = processes.start(), trio.Event()
    row = await resumable.create(OPTIONS, len(PEOPLE), "")
    told: list[str] = []

    async def hang(task_status: trio.TaskStatus[None]) -> None:
        try:
            async with resumable.hold(row.id, ANYBODY) as held:
                await held.write(PEOPLE[:9000])
                task_status.started()
                try:
                    await held.next(trio.sleep_forever)  # type: ignore[arg-type]
                except RequestError:
                    await held.acknowledge()
                    raise
        except RequestError as error:
            told.append(error.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resumable.run, stop)
        await nursery.start(hang)
        async with resumable.hold(row.id, ANYBODY) as held:
            assert held.row.received == 9000
        stop.set()
    assert told == ["E_UPLOAD_TAKEN"]


async def test_a_request_whose_upload_was_taken_changes_nothing(processes: Processes, psql: Psql) -> None:
    """Every statement that it could still send names it, and fails."""
    rows, resumable = processes.rows, processes.start()
    row = await resumable.create(OPTIONS, 10, "")
    old, new = uuid4(), uuid4()
    assert await rows.hold(row.id, old)
    await rows.advance(row.id, old, 0, 10)
    assert await rows.hold(row.id, new)
    with pytest.raises(RequestError, match="taken"):
        await rows.advance(row.id, old, 10, 10)
    with pytest.raises(RequestError, match="taken"):
        await rows.finish(row.id, old, length=10, sha256=bytes(32), records=0)
    assert not await rows.refuse(row.id, old, IngestError("no"))
    assert not await rows.set_length(row.id, old, 11)
    assert await rows.taken({row.id: old}) == [row.id]
    assert await rows.taken({row.id: new}) == []
    assert psql("select state, received, length from ingest.uploads") == "open|10|10"


async def test_an_advance_goes_on_where_the_last_one_ended(processes: Processes) -> None:
    rows, resumable = processes.rows, processes.start()
    row = await resumable.create(OPTIONS, 10, "")
    holder = uuid4()
    await rows.hold(row.id, holder)
    await rows.advance(row.id, holder, 0, 4)
    with pytest.raises(RequestError):
        await rows.advance(row.id, holder, 0, 4)
    with pytest.raises(IngestError):
        await rows.advance(row.id, holder, 4, 11)  # more than the whole


async def test_a_job_that_ended_meanwhile_ends_its_upload(
    processes: Processes, psql: Psql, storage: LocalStorage
) -> None:
    resumable = processes.start()
    row = await resumable.create(OPTIONS, len(PEOPLE), "")
    await send(resumable, row.id, 20_000)
    psql("update ingest.jobs set state = 'cancelled', finished_at = now()")
    with pytest.raises(RequestError) as refused:
        await send(resumable, row.id, 20_000)
    assert refused.value.code == "E_UPLOAD_ENDED"
    assert await storage.listing() == []
    assert psql("select state from ingest.uploads") == "failed"


async def test_a_request_that_is_too_late_is_told_to_look_again(
    processes: Processes, psql: Psql, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that the upload has gone: between its look and its open, another one finished, and the job was loaded."""
    resumable = processes.start()
    row = await resumable.create(OPTIONS, len(PEOPLE), "")
    find = processes.rows.find

    async def slow_find(upload_id: UUID) -> uploadrows.UploadRow:
        monkeypatch.setattr(processes.rows, "find", find)
        found = await find(upload_id)
        await send(processes.start(), row.id, len(PEOPLE))
        await storage.remove(spool_key(row.job_id))
        return found

    monkeypatch.setattr(processes.rows, "find", slow_find)
    with pytest.raises(RequestError) as late:
        await send(resumable, row.id, 1)
    assert late.value.code == "E_UPLOAD_TAKEN"
    assert resumable.statistics().uploads == 0


async def test_not_more_uploads_than_so_many_are_open(
    processes: Processes, monkeypatch: pytest.MonkeyPatch, storage: LocalStorage
) -> None:
    """The one too many leaves no file behind."""
    monkeypatch.setattr(uploadrows, "MOST_OPEN", 2)
    resumable = processes.start()
    rows = [await resumable.create(OPTIONS, 10, "") for _ in range(2)]
    with pytest.raises(RequestError) as refused:
        await resumable.create(OPTIONS, 10, "")
    assert refused.value.code == "E_TOO_MANY_UPLOADS"
    assert len(await storage.listing()) == 2
    await resumable.remove(rows[0].id, ANYBODY)
    await resumable.create(OPTIONS, 10, "")


async def test_the_sweep_knows_the_objects_of_uploads(processes: Processes, database: Database) -> None:
    """Of open ones without a job, too; of others, only until they end."""
    resumable = processes.start()
    open_, refused = await resumable.create(OPTIONS, 10, ""), await resumable.create(OPTIONS, 20, "")
    await processes.rows.hold(refused.id, holder := uuid4())
    await processes.rows.refuse(refused.id, holder, IngestError("no"))
    found = await database.fetch(statement("jobs_with_objects"), [open_.job_id, refused.job_id, uuid4()])
    assert {row["id"]: row["needed"] for row in found} == {open_.job_id: True, refused.job_id: False}


async def test_a_silent_upload_is_not_ended_with_the_silent_ones(processes: Processes, database: Database) -> None:
    resumable = processes.start()
    row = await resumable.create(OPTIONS, len(PEOPLE), "")
    await send(resumable, row.id, 20_000)
    assert await database.fetch(statement("end_uploads"), timedelta(0)) == []


async def test_a_spool_that_has_gone_is_said_so(processes: Processes, storage: LocalStorage) -> None:
    resumable = processes.start()
    row = await resumable.create(OPTIONS, 10, "")
    await storage.remove(spool_key(row.job_id))
    with pytest.raises(IngestError) as refused:
        await send(resumable, row.id, 10)
    assert refused.value.code == "E_SOURCE_MISSING"


def test_options_come_back_as_they_were() -> None:
    plain = replace(OPTIONS, budget=None, parent_id=uuid4(), parameters={"shop": "s"}, bytes_total=5)
    for options in (OPTIONS, plain):
        assert UploadOptions.from_json(options.to_json()) == options
