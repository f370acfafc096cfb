"""Receiving with a queue in memory: what a job is made of, what is refused, and what an upload leaves behind."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ingest.caller import Caller
from ingest.chunk import ChunkCut
from ingest.cutter import Cutter, ObjectSink
from ingest.definitions.tables import TableDataset, TargetColumn
from ingest.dialect import Dialect
from ingest.errors import FileError, IngestError, RequestError, SourceChanged, StorageError, UnavailableError
from ingest.job import JobState, JobView, NewJob
from ingest.receiving import Receiving, Upload, UploadOptions
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.splitter import Splitter
from ingest.storage import LocalStorage
from ingest.upload import CLEANUP_S
from ingest.uploadjob import TOUCH_S

HEADER = b"id,name\n"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Row:
    """A job as the fake queue has it."""

    new: NewJob
    state: JobState = JobState.RECEIVING
    chunks: list[ChunkCut] = field(default_factory=list)
    touches: list[int] = field(default_factory=list)
    error: IngestError | None = None
    facts: dict[str, Any] = field(default_factory=dict)


class MemoryJobs:
    """Jobs in memory. `on_call`, awaited with the name of each call before it does anything, lets a test interfere."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Row] = {}
        self.on_call: dict[str, Callable[[], Any]] = {}

    async def _called(self, name: str) -> None:
        await trio.lowlevel.checkpoint()
        if name in self.on_call:
            await self.on_call[name]()

    async def create(self, new: NewJob) -> None:
        await self._called("create")
        self.rows[new.id] = Row(new)

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None:
        await self._called("add_chunk")
        self.rows[job_id].chunks.append(cut)

    async def backlog(self, job_id: UUID) -> int:
        await self._called("backlog")
        return 0

    async def touch(self, job_id: UUID, bytes_received: int) -> None:
        await self._called("touch")
        self.rows[job_id].touches.append(bytes_received)

    async def complete_upload(self, job_id: UUID, *, bytes_total: int, sha256: bytes, records: int) -> JobView:
        await self._called("complete_upload")
        row = self.rows[job_id]
        row.state = JobState.PENDING if records else JobState.COMPLETED
        row.facts = {"bytes_total": bytes_total, "sha256": sha256.hex(), "total_rows": records}
        await self._called("completed")
        return view(row)

    async def receive(self, new: NewJob, cuts: Sequence[ChunkCut], *, sha256: bytes) -> JobView:
        await self._called("receive")
        self.rows[new.id] = Row(new, chunks=list(cuts))
        records = sum(sum(cut.records) for cut in cuts)
        return await self.complete_upload(new.id, bytes_total=new.bytes_total or 0, sha256=sha256, records=records)

    async def fail_upload(self, job_id: UUID, error: IngestError) -> None:
        await self._called("fail_upload")
        row = self.rows.get(job_id)
        if row and row.state is JobState.RECEIVING:
            row.state, row.error, row.chunks = JobState.FAILED, error, []

    async def get(self, job_id: UUID) -> JobView | None:
        await self._called("get")
        return view(self.rows[job_id]) if job_id in self.rows else None

    @property
    def only(self) -> Row:
        (row,) = self.rows.values()
        return row


def view(row: Row) -> JobView:
    values: dict[str, Any] = dict.fromkeys(JobView.__dataclass_fields__)
    values |= {"id": row.new.id, "filename": row.new.filename, "status": row.state, **row.facts}
    return JobView(**values)


class OneDataset:
    """The dataset `public.people`, with columns id and name."""

    async def find(self, name: str, caller: Caller) -> TableDataset:
        await trio.lowlevel.checkpoint()
        if name != "public.people":
            raise RequestError(f"there is no dataset {name}", code="E_DATASET_UNKNOWN")
        columns = tuple(
            TargetColumn(name=column, type="text", required=True, generated=False, is_key=False)
            for column in ("id", "name")
        )
        return TableDataset(name=name, schema="public", table="people", columns=columns)

    async def ready(self, spec: LoadSpec) -> LoadSpec:
        await trio.lowlevel.checkpoint()
        return spec


class Service:
    """Receiving, and what it writes to."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.settings = Settings.from_environment({}, data_dir=folder, **settings)
        self.folder = folder
        self.jobs = MemoryJobs()
        self.storage = LocalStorage(folder)
        self.receiving = Receiving(self.settings, self.storage, self.jobs, OneDataset())

    def objects(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())

    async def send(self, data: bytes, *, piece: int = 65536, **options: Any) -> JobView:
        async with self.receiving.upload(order(**options)) as upload:
            await feed(upload, data, piece)
            return await upload.finish()


def order(**options: Any) -> UploadOptions:
    defaults = {"dataset": "public.people", "filename": "p.csv", "dialect": Dialect(), "priority": 5}
    return UploadOptions(**{**defaults, "bytes_total": None, **options})


async def feed(upload: Upload, data: bytes, piece: int = 65536) -> None:
    for start in range(0, len(data), piece):
        await upload.feed(data[start : start + piece])


def rows_of(data: bytes) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")) if row]


@asynccontextmanager
async def cancelled_while(service: Service, call: str) -> AsyncIterator[None]:
    """Cancel the block while the queue is in `call`, without end."""
    reached = trio.Event()

    async def hang() -> None:
        reached.set()
        await trio.sleep_forever()

    service.jobs.on_call[call] = hang
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def cancel() -> None:
                await reached.wait()
                del service.jobs.on_call[call]
                scope.cancel(reason="test")

            yield
    assert scope.cancelled_caught


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path, chunk_bytes=4096, batch_bytes=1024, max_record_bytes=4096)


@pytest.fixture
def people() -> bytes:
    """A file with quoted newlines, some chunks long."""
    return HEADER + b"".join(b'%d,"one\r\n""%d"" more"\r\n' % (n, n) for n in range(1000))


async def test_an_upload_becomes_a_job_with_chunks(service: Service, people: bytes) -> None:
    """The objects hold the bytes after the header exactly, and the job knows the file's size, hash and records."""
    done = await service.send(b"\xef\xbb\xbf" + people, bytes_total=len(people) + 3)

    row = service.jobs.only
    assert (done.status, done.total_rows) == (JobState.PENDING, 1000)
    assert (done.bytes_total, done.sha256) == (len(people) + 3, hashlib.sha256(b"\xef\xbb\xbf" + people).hexdigest())
    assert [column.name for column in row.new.spec.columns] == ["id", "name"]
    assert service.objects() == [chunk.object_key for chunk in row.chunks]
    assert b"".join((service.folder / key).read_bytes() for key in service.objects()) == people[len(HEADER) :]


async def test_chunks_say_where_they_lie_in_the_file(service: Service, people: bytes) -> None:
    """Offsets and lines of chunks and batches are those of the file, blank lines and BOM included."""
    data = b"\xef\xbb\xbf\n\r\n" + people
    await service.send(data, piece=977)

    at, line = data.index(b"0,"), 4
    for ordinal, chunk in enumerate(service.jobs.only.chunks, 1):
        assert (chunk.ordinal, chunk.file_offset, chunk.first_line) == (ordinal, at, line)
        assert chunk.length_bytes == chunk.ends[-1]
        assert data[at:].startswith((service.folder / chunk.object_key).read_bytes())
        for (start, end), records, lines in zip(pairwise([0, *chunk.ends]), chunk.records, chunk.lines, strict=True):
            batch = data[at + start : at + end]
            assert len(rows_of(batch)) == records
            assert batch.count(b"\n") == lines
        at, line = at + chunk.length_bytes, line + sum(chunk.lines)
    assert at == len(data)


@given(
    st.lists(st.lists(st.text(st.sampled_from('ab,"\n\r'), max_size=30), min_size=2, max_size=2), max_size=30),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.data(),
)
def test_chunks_of_any_file_in_any_blocks_hold_its_records(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, final: bool, draw: st.DataObject
) -> None:
    """Chunks follow each other without a gap and each is read by csv.reader as whole records."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    data = (text.getvalue() if final else text.getvalue().removesuffix("\r\n")).encode()
    batch_bytes, batch_records = draw.draw(st.integers(1, 100)), draw.draw(st.integers(1, 9))
    chunk_bytes = draw.draw(st.integers(batch_bytes, 400))
    splitter = Splitter(
        Dialect(),
        first_line=1,
        single_column=False,
        batch_records=batch_records,
        batch_bytes=batch_bytes,
        max_record_bytes=1000,
    )
    folder = tmp_path_factory.mktemp("chunks")
    sink = ObjectSink(LocalStorage(folder), UUID(int=1))
    cutter = Cutter(splitter, sink, chunk_bytes=chunk_bytes, file_offset=0, first_line=1)
    bounds = [0, *sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=9))), len(data)]
    cuts = [cut for start, end in pairwise(bounds) for cut in cutter.take(data[start:end])] + cutter.finish()

    stored = [(folder / cut.object_key).read_bytes() for cut in cuts]
    assert b"".join(stored) == data
    assert [row for chunk in stored for row in rows_of(chunk)] == rows
    assert [sum(cut.records) for cut in cuts] == [len(rows_of(chunk)) for chunk in stored]
    assert all(cut.length_bytes >= chunk_bytes for cut in cuts[:-1])
    assert cutter.records == len(rows)


async def test_blank_lines_alone_are_no_chunk(service: Service) -> None:
    """A stretch of a chunk's length without a record is counted in lines and left out."""
    await service.send(HEADER + b"1,a\n" + b"\n" * 10_000 + b"2,b")
    first, last = service.jobs.only.chunks
    assert (sum(first.records), sum(last.records)) == (1, 1)
    assert last.first_line + sum(last.blank_lines) == 10_003
    assert len(service.objects()) == 2


@pytest.mark.parametrize("data", [HEADER, HEADER[:-1], HEADER + b"\n\r\n\n", b"\xef\xbb\xbf" + HEADER])
async def test_a_file_without_records_is_done(service: Service, data: bytes) -> None:
    """A header, perhaps with blank lines, is a job that is complete at once, with nothing stored."""
    assert (await service.send(data)).status is JobState.COMPLETED
    assert (service.jobs.only.chunks, service.objects()) == ([], [])


async def test_single_bytes_make_the_same_job(service: Service, people: bytes) -> None:
    """How the bytes come does not matter."""
    await service.send(people, piece=1)
    await service.send(people)
    one, other = service.jobs.rows.values()
    plain = [(cut.ends, cut.records, cut.lines, cut.first_line, cut.file_offset) for cut in one.chunks]
    assert plain == [(cut.ends, cut.records, cut.lines, cut.first_line, cut.file_offset) for cut in other.chunks]
    assert one.facts == other.facts


async def test_a_wrong_dataset_is_refused_before_a_byte_is_taken(service: Service) -> None:
    """The context is not even entered."""
    with pytest.raises(RequestError, match="E_DATASET_UNKNOWN"):
        await service.send(HEADER, dataset="public.nothing")
    assert service.receiving.statistics().uploads == 0


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E_EMPTY"),
        (b"\xef\xbb\xbf", "E_EMPTY"),
        (b"\n\n", "E_EMPTY"),
        (b"PK\x03\x04" + bytes(5000), "E_NOT_CSV"),
        (b"id,wrong\n1,a\n" * 1000, "E_HEADER_MISMATCH"),
        (b'id,"name\n1,a\n', "E_QUOTE_OPEN"),
        (b"x" * 5000, "E_RECORD_TOO_LARGE"),
    ],
)
async def test_a_file_is_refused_before_it_becomes_a_job(service: Service, data: bytes, code: str) -> None:
    """Nothing of it is anywhere."""
    with pytest.raises(FileError) as raised:
        await service.send(data)
    assert raised.value.code == code
    assert (service.jobs.rows, service.objects()) == ({}, [])


async def test_the_header_is_refused_when_it_has_come(service: Service) -> None:
    """Not when a whole block has been gathered."""
    async with service.receiving.upload(order()) as upload:
        with pytest.raises(FileError, match="delimiter ';'"):
            await upload.feed(b"id;name\n" + b"1;a\n" * 1100)


@pytest.mark.parametrize(
    ("tail", "code", "line"),
    [(b'9,"a\nx\ny\n', "E_QUOTE_OPEN", 2002), (b"9," + b"a" * 5000, "E_RECORD_TOO_LARGE", 2002)],
)
async def test_a_file_that_breaks_late_leaves_nothing(
    service: Service, people: bytes, tail: bytes, code: str, line: int
) -> None:
    """Chunks that were stored are removed, and the job says why it failed."""
    with pytest.raises(FileError) as raised:
        await service.send(people + tail)
    assert (raised.value.code, raised.value.facts) == (code, {"line": line})
    row = service.jobs.only
    assert (row.state, row.error, row.chunks) == (JobState.FAILED, raised.value, [])
    assert service.objects() == []


async def test_the_byte_that_crosses_the_limit_is_refused(tmp_path: Path) -> None:
    """A file of exactly the limit is taken; one byte more and everything is cleaned up."""
    data = HEADER + b"1,a\n" * 3000
    service = Service(tmp_path, max_upload_bytes=len(data), chunk_bytes=4096, batch_bytes=1024, max_record_bytes=4096)
    await service.send(data)
    stored = service.objects()

    with pytest.raises(RequestError) as raised:
        await service.send(data + b"\n")
    assert raised.value.code == "E_TOO_LARGE"
    assert service.objects() == stored
    with pytest.raises(RequestError, match="E_TOO_LARGE"):
        await service.send(b"", bytes_total=len(data) + 1)


@pytest.mark.parametrize("announced", [1, 10**9])
async def test_another_length_than_announced_is_refused(service: Service, people: bytes, announced: int) -> None:
    """Fewer bytes or more: the file is not the one that was meant."""
    with pytest.raises(RequestError, match="announced") as raised:
        await service.send(people, bytes_total=announced)
    assert raised.value.code == "E_UPLOAD_INCOMPLETE"
    assert (service.jobs.only.state, service.objects()) == (JobState.FAILED, [])


async def test_leaving_without_finish_fails_the_job(service: Service, people: bytes) -> None:
    """Whether the block ends by itself or by an error that is not ours."""
    async with service.receiving.upload(order()) as upload:
        assert upload.job_id is None
        await feed(upload, people)
        assert upload.job_id == service.jobs.only.new.id
    with pytest.raises(ZeroDivisionError):
        await crash(service, people)
    for row in service.jobs.rows.values():
        assert row.state is JobState.FAILED
        assert row.error is not None
        assert row.error.code == "E_UPLOAD_INCOMPLETE"
    assert service.objects() == []


async def crash(service: Service, data: bytes) -> None:
    async with service.receiving.upload(order()) as upload:
        await feed(upload, data)
        raise ZeroDivisionError


@pytest.mark.parametrize("call", ["create", "add_chunk", "complete_upload", "completed"])
async def test_cancellation_anywhere_leaves_a_job_or_nothing(service: Service, people: bytes, call: str) -> None:
    """The job is failed and its objects are gone, except when it was complete already: then they stay."""
    async with cancelled_while(service, call):
        await service.send(people)
    if call == "completed":
        assert service.jobs.only.state is JobState.PENDING
        assert service.objects() == [chunk.object_key for chunk in service.jobs.only.chunks]
    else:
        assert [row.state for row in service.jobs.rows.values()] == [JobState.FAILED] * (call != "create")
        assert service.objects() == []
    assert service.receiving.statistics().uploads == 0


def refuse(error: IngestError) -> Callable[[], Any]:
    async def refused() -> None:
        raise error

    return refused


async def test_a_lost_reply_does_not_unmake_the_job(service: Service, people: bytes) -> None:
    """When completing failed and the database cannot be asked, the objects stay: the job may need them."""
    gone = UnavailableError("gone")
    service.jobs.on_call = {name: refuse(gone) for name in ("completed", "fail_upload", "get")}
    with pytest.raises(UnavailableError):
        await service.send(people)
    assert service.objects() == [chunk.object_key for chunk in service.jobs.only.chunks]


async def test_a_database_that_has_gone_leaves_no_objects(service: Service, people: bytes) -> None:
    """Before the end nothing can have been claimed, so the objects go even when the job cannot be failed."""
    gone = UnavailableError("gone")
    service.jobs.on_call = {name: refuse(gone) for name in ("add_chunk", "fail_upload")}
    with pytest.raises(UnavailableError):
        await service.send(people)
    assert service.objects() == []


async def test_a_disk_that_fails_fails_the_job(service: Service, people: bytes) -> None:
    """A file lies where the folder of objects should be."""
    (service.folder / "chunks").touch()
    with pytest.raises(StorageError):
        await service.send(people)
    assert service.jobs.only.state is JobState.FAILED


async def test_cleaning_up_is_bounded(service: Service, people: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """A database that never answers does not hold the client's connection for ever."""
    autojump_clock.autojump_threshold = 0.5  # threads are at work: time must not jump while one is
    service.jobs.on_call["fail_upload"] = trio.sleep_forever
    start = trio.current_time()
    async with service.receiving.upload(order()) as upload:
        await feed(upload, people)
    assert trio.current_time() - start == pytest.approx(CLEANUP_S, abs=0.1)


async def test_a_job_is_touched_while_bytes_arrive(service: Service, people: bytes, mock_clock: Any) -> None:
    """At most every TOUCH_S; a touch that does not get through costs nothing."""
    async with service.receiving.upload(order()) as upload:
        for start in range(0, len(people), 5000):
            await upload.feed(people[start : start + 5000])
            mock_clock.jump(TOUCH_S / 2)
        assert service.jobs.only.touches == [15_000, len(people)]
        service.jobs.on_call["touch"] = refuse(UnavailableError("gone"))
        mock_clock.jump(TOUCH_S)
        await upload.feed(b"1,a\n")


async def test_uploads_and_bytes_are_counted(service: Service, people: bytes) -> None:
    """Those of uploads that have ended too."""
    await service.send(people)
    async with service.receiving.upload(order()) as upload:
        await upload.feed(HEADER)
        found = service.receiving.statistics()
    assert (found.uploads, found.bytes_received) == (1, len(people) + len(HEADER))


async def test_a_local_file_is_scanned_in_place(service: Service, tmp_path: Path, people: bytes) -> None:
    """Its chunks point into the file, the batches are those of an upload, and nothing is stored."""
    path = tmp_path / "people.csv"
    path.write_bytes(people)
    seen: list[int] = []
    done = await service.receiving.scan_file(path, order(), queue="mine", on_progress=seen.append)

    row = service.jobs.only
    assert (row.new.queue, done.total_rows, seen) == ("mine", 1000, [len(people)])
    assert done.sha256 == hashlib.sha256(people).hexdigest()
    for chunk in row.chunks:
        async with service.storage.open(chunk.object_key) as reader:
            assert len(rows_of(await reader.read(chunk.object_offset, chunk.length_bytes))) == sum(chunk.records)
        assert chunk.object_offset == chunk.file_offset
    await service.send(people)
    sent = list(service.jobs.rows.values())[1]
    assert [cut.ends for cut in row.chunks] == [cut.ends for cut in sent.chunks]


async def test_a_local_file_must_be_there(service: Service, tmp_path: Path) -> None:
    """Its name is in the message."""
    with pytest.raises(SourceChanged, match=r"nothing\.csv"):
        await service.receiving.scan_file(tmp_path / "nothing.csv", order(), queue="mine")


async def test_a_local_file_that_changes_while_it_is_scanned_fails(
    service: Service, tmp_path: Path, people: bytes
) -> None:
    """What was scanned is no longer what is there."""
    path = tmp_path / "people.csv"
    path.write_bytes(people * 60)  # more than a block

    def append(_: int) -> None:
        with path.open("ab") as file:
            file.write(b"1,a\n")

    with pytest.raises(SourceChanged):
        await service.receiving.scan_file(path, order(), queue="mine", on_progress=append)
    assert service.jobs.only.state is JobState.FAILED
    assert path.exists()
