"""Resumable uploads on the real disk and the real queue: takeovers, lost state, cancellation at every step."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from ingest import finishing, held, uploadjob, uploadrows
from ingest.budget import Budget
from ingest.caller import ANYBODY
from ingest.chunk import ChunkCut
from ingest.database import Database, open_database
from ingest.datasets import Datasets
from ingest.dialect import Dialect
from ingest.errors import IngestError, RequestError, StorageError
from ingest.job import JobMode
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_key, spool_key
from ingest.objects import ObjectWriter
from ingest.packing import PackedWriter
from ingest.resumable import Resumable
from ingest.settings import Settings
from ingest.statements import statement
from ingest.storage import LocalStorage
from ingest.uploadoptions import UploadOptions
from ingest.uploadrows import UploadRow, UploadRows
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

    def __init__(self, database: Database, storage: LocalStorage, nursery: trio.Nursery) -> None:
        self.rows = UploadRows(database, life_s=3600)
        self._database = database
        self._storage = storage
        self._nursery = nursery
        self._stop = trio.Event()

    def start(self, *, running: bool = True) -> Resumable:
        """Return what receives uploads; what finishes them runs beside it."""
        jobs, datasets = Jobs(self._database), Datasets(self._database, frozenset({"public"}))
        resumable = Resumable(SETTINGS, self._storage, jobs, datasets, self.rows)
        if running:
            self._nursery.start_soon(resumable.run, self._stop)
        return resumable

    def stop(self) -> None:
        """Stop all of them."""
        self._stop.set()


@pytest.fixture
async def processes(database: Database, storage: LocalStorage, psql: Psql) -> AsyncIterator[Processes]:
    psql("create table public.people (id int not null, name text)")
    async with trio.open_nursery() as nursery:
        processes = Processes(database, storage, nursery)
        yield processes
        processes.stop()


async def send(resumable: Resumable, upload_id: UUID, most: int, file: bytes = PEOPLE) -> int:
    """Go on with an upload by a request of at most `most` bytes; returns how far it is then."""
    async with resumable.hold(upload_id, ANYBODY) as held:
        await held.write(file[held.row.received : held.row.received + most])
        await held.acknowledge()
        await held.follow()
    while held.row.whole and not held.row.completed:
        held.row = await resumable.settle(held.row)
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


@pytest.mark.parametrize("most", [997, 30_001])
async def test_the_end_of_the_table_is_known_to_whoever_goes_on(processes: Processes, psql: Psql, most: int) -> None:
    """The header came once more, in the bytes of another request and process: all that follows lies behind it."""
    first = b"id,name\n" + b"".join(b"%d,one\n" % n for n in range(2000))
    data = first + b"id,name,more\n" + b"".join(b"%d,two,2\n" % n for n in range(3000))
    row = await processes.start().create(replace(OPTIONS, dialect=Dialect(on_ragged="pad")), len(data), "")
    while await send(processes.start(), row.id, most, data) < len(data):
        pass
    assert psql("select sum(records) from ingest.chunks") == "5001"
    assert psql("select min(file_offset + table_end) from ingest.chunks") == str(len(first))
    assert (
        psql(
            f"select bool_and((file_offset + length_bytes > {len(first)}) = (table_end is not null)) from ingest.chunks"
        )
        == "t"
    )
    assert psql("select count(*) > 1 from ingest.chunks where table_end = 0") == "t"


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
        assert (await resumable.settle(held.row)).completed
    assert_exact(psql)


async def test_two_requests_of_one_process(processes: Processes, psql: Psql) -> None:
    """The older one is woken and told; what it has taken counts."""
    resumable = processes.start()
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
        await nursery.start(hang)
        async with resumable.hold(row.id, ANYBODY) as held:
            assert held.row.received == 9000
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


PACKED = gzip.compress(PEOPLE)


class Gate:
    """Stands before the third chunk of every job until the test opens it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = trio.Event(), trio.Event()
        self._add_chunk = Jobs.add_chunk
        monkeypatch.setattr(Jobs, "add_chunk", lambda jobs, job_id, cut: self._pass(jobs, job_id, cut))

    async def _pass(self, jobs: Jobs, job_id: UUID, cut: ChunkCut) -> None:
        if cut.ordinal == 3:
            self.reached.set()
            await self.opened.wait()
        await self._add_chunk(jobs, job_id, cut)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def sent_whole(resumable: Resumable) -> UploadRow:
    """Send all of a compressed file by a request that does not wait for what becomes of it."""
    row = await resumable.create(OPTIONS, len(PACKED), "")
    async with resumable.hold(row.id, ANYBODY) as held:
        await held.write(PACKED)
        await held.acknowledge()
    return held.row


def assert_finished(psql: Psql) -> None:
    """All chunks are there, once, and the job can be claimed."""
    assert psql("select state, records, encode(sha256, 'hex') from ingest.jobs") == (
        f"pending|5000|{sha256(PACKED).hexdigest()}"
    )
    assert psql("select sum(records), max(ordinal) = count(*) from ingest.chunks") == "5000|t"
    assert psql("select state from ingest.uploads") == "completed"


async def assert_no_spool(storage: LocalStorage, psql: Psql) -> None:
    """Of the file there is one object for each chunk, and soon nothing else: the spool goes after the last COMMIT."""
    kept = set(psql("select object_key from ingest.chunks").splitlines())
    keys: set[str] = set()
    with trio.move_on_after(60):
        while keys != kept:
            keys = {stored.key for stored in await storage.listing()}
    assert keys == kept


async def test_a_request_does_not_wait_for_ever(
    processes: Processes, psql: Psql, gate: Gate, monkeypatch: pytest.MonkeyPatch, storage: LocalStorage
) -> None:
    """The file is finished all the same; meanwhile it is whole, and its job is receiving."""
    monkeypatch.setattr(finishing, "WAIT_S", 0.3)
    resumable = processes.start()
    row = await sent_whole(resumable)
    await resumable.settle(row)
    await gate.reached.wait()
    told = await resumable.settle(row)
    assert (told.completed, told.whole, told.has_job) == (False, True, True)
    assert psql("select state from ingest.jobs") == "receiving"
    monkeypatch.setattr(finishing, "WAIT_S", 60)
    gate.opened.set()
    assert (await resumable.settle(row)).completed
    assert_finished(psql)
    await assert_no_spool(storage, psql)


async def test_one_of_two_processes_finishes_an_upload(
    processes: Processes, psql: Psql, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one waits for it, and takes nothing away from it."""
    first, second = processes.start(), processes.start()
    monkeypatch.setattr(finishing, "WAIT_S", 0.5)
    row = await sent_whole(first)
    await first.settle(row)
    await gate.reached.wait()
    holder = psql("select holder from ingest.uploads")
    async with second.hold(row.id, ANYBODY) as held:
        assert held.row.whole
    assert not (await second.settle(row)).completed
    assert psql("select holder from ingest.uploads") == holder
    monkeypatch.setattr(finishing, "WAIT_S", 60)
    gate.opened.set()
    assert (await second.settle(row)).completed
    assert_finished(psql)


async def test_what_was_left_in_the_middle_is_finished_unasked(
    processes: Processes, psql: Psql, gate: Gate, storage: LocalStorage
) -> None:
    """Anew, over the chunks and the objects that are there."""
    doomed = processes.start(running=False)
    row = await sent_whole(doomed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(doomed.run, trio.Event())
        await gate.reached.wait()
        nursery.cancel_scope.cancel()
    assert psql("select count(*) from ingest.chunks") == "2"
    make_unsealed(storage, row.job_id)
    gate.opened.set()
    processes.start()
    for _ in range(3000):
        if psql("select state from ingest.uploads") == "completed":
            break
        await trio.sleep(0.02)
    assert_finished(psql)
    await assert_no_spool(storage, psql)


def make_unsealed(storage: LocalStorage, job_id: UUID) -> None:
    """Leave what a killed process leaves of an object that it was writing."""
    storage.create(chunk_key(job_id, 1)).write(b"half")


async def test_an_upload_lives_on_while_it_is_finished(
    processes: Processes, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "RENEW_S", 0.0)
    resumable = processes.start()
    row = await sent_whole(resumable)
    psql("update ingest.uploads set expires_at = now() + interval '1 min'")
    assert (await resumable.settle(row)).completed
    assert psql("select expires_at > now() + interval '30 min' from ingest.uploads") == "t"


async def test_a_disk_that_is_full_is_told_and_tried_again(
    processes: Processes, psql: Psql, storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes that were sent are not refused for it."""
    resumable, create, full = processes.start(), storage.create, True

    def create_or_not(key: str) -> ObjectWriter | PackedWriter:
        if full and key.endswith("3"):
            raise StorageError("no room", code="E_STORAGE_FULL")
        return create(key)

    monkeypatch.setattr(storage, "create", create_or_not)
    row = await sent_whole(resumable)
    for _ in range(2):  # the second is told what the first has met
        with pytest.raises(StorageError, match="no room"):
            await resumable.settle(row)
    assert psql("select state from ingest.uploads") == "open"
    full = False
    monkeypatch.setattr(finishing, "RETRY_S", 0.0)
    assert (await resumable.settle(row)).completed
    assert_finished(psql)
    await assert_no_spool(storage, psql)


async def test_a_service_that_stops_leaves_it_to_the_next_one(
    processes: Processes, psql: Psql, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, in the middle of a file; whoever waits is told to come back."""
    monkeypatch.setattr(uploadjob, "TOUCH_S", 0.0)
    resumable, told = processes.start(), []
    row = await sent_whole(resumable)

    async def wait() -> None:
        with pytest.raises(RequestError) as refused:
            await resumable.settle(row)
        told.append(refused.value.code)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await gate.reached.wait()
        processes.stop()
        await trio.testing.wait_all_tasks_blocked()
        gate.opened.set()
    with pytest.raises(RequestError) as refused:
        await resumable.settle(row)
    assert [*told, refused.value.code] == ["E_DRAINING", "E_DRAINING"]
    assert psql("select state from ingest.uploads") == "open"


def test_options_come_back_as_they_were() -> None:
    plain = replace(OPTIONS, budget=None, parent_id=uuid4(), parameters={"shop": "s"}, bytes_total=5)
    for options in (OPTIONS, plain):
        assert UploadOptions.from_json(options.to_json()) == options
