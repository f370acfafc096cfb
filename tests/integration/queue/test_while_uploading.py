"""A job that is loaded while it is uploaded, at the queue: claimed before it is whole, ended only when both have ended."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from ingest.budget import Budget
from ingest.chunk import Chunk
from ingest.database import Database
from ingest.errors import DatabaseError, FileError, LeaseLost, RequestError
from ingest.job import FINAL, JobState, Load
from ingest.jobs import Jobs
from ingest.queue import Queue
from ingest.statements import statement
from tests.conftest import Psql
from tests.integration.build import complete, cut, interactive, numbers, receive
from tests.integration.queue.test_endings import commit, view

TWENTY = cut(numbers(20))
LONG_S = 60.0
LOAD = {"load": Load.WHILE_UPLOADING}


async def claimed(database: Database, chunks: int = 1, **options: Any) -> tuple[UUID, Queue, list[Chunk]]:
    """A job that is being received, and all its chunks, claimed."""
    job_id, queue = await receive(database, [TWENTY] * chunks, **LOAD, **options), Queue(database, uuid4())
    return job_id, queue, await queue.claim(chunks)


async def blocked(database: Database, sessions: int = 1) -> None:
    """Wait until so many sessions wait for a lock."""
    with trio.fail_after(LONG_S):
        while await database.value("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") < sessions:
            pass


async def test_chunks_are_claimable_as_soon_as_they_are_stored(database: Database) -> None:
    """The job is received all the while, and has begun."""
    job_id, queue, [chunk] = await claimed(database)
    job = await view(database, job_id)
    assert (job.status, job.chunks["processing"]) == (JobState.RECEIVING, 1)
    assert job.started_at is not None
    await commit(database, chunk)
    await queue.finish(chunk)
    job = await view(database, job_id)
    assert (job.status, job.processed_rows, job.total_rows, job.progress) == (JobState.RECEIVING, 20, None, 0.0)
    await complete(database, job_id, [TWENTY])
    job = await view(database, job_id)
    assert (job.status, job.processed_rows, job.total_rows, job.progress) == (JobState.COMPLETED, 20, 20, 1.0)


async def test_a_job_that_was_claimed_goes_on_as_processing(database: Database) -> None:
    """One that was not is pending, and begins with its first claim."""
    begun, _, _ = await claimed(database)
    await complete(database, begun, [TWENTY])
    assert (await view(database, begun)).status is JobState.PROCESSING
    waiting = await receive(database, [TWENTY], **LOAD)
    await complete(database, waiting, [TWENTY])
    assert (await view(database, waiting)).status is JobState.PENDING


@pytest.mark.parametrize("first", ["chunk", "upload"])
async def test_the_last_chunk_and_the_upload_that_end_at_once(database: Database, first: str) -> None:
    """Whichever is first, the other one sees it and ends the job."""
    job_id, queue, [chunk] = await claimed(database)
    await commit(database, chunk)
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        if first == "chunk":
            assert await other.value(statement("finish_chunk"), chunk.id, chunk.epoch) == "finished"
            nursery.start_soon(complete, database, job_id, [TWENTY])
        else:
            await other.execute(statement("complete_upload"), job_id, 100, bytes(32), 20)
            nursery.start_soon(queue.finish, chunk)
        await blocked(database)
        await other.execute("COMMIT")
    assert (await view(database, job_id)).status is JobState.COMPLETED


async def test_a_broken_upload_waits_for_batches_behind_the_fence(database: Database, psql: Psql) -> None:
    """They count; those after them find their chunk cancelled; the chunks that were loaded stay as they are."""
    job_id, queue, [first, second] = await claimed(database, 2)
    await receive_another(database, job_id)
    await commit(database, first)
    await queue.finish(first)
    early, late = list(second.ranges())
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        fence = "SELECT ingest.commit_batch($1, $2, $3, $4, 1, $5, $5, 0, 0, 0, 0)"
        passed = await other.value(fence, second.id, second.epoch, early.start, early.end, early.records)
        assert passed == "committed"
        nursery.start_soon(Jobs(database).fail_upload, job_id, FileError("broke", code="E_X"))
        await blocked(database)
        await other.execute("COMMIT")
    stale = await database.value(fence, second.id, second.epoch, late.start, late.end, late.records)
    job = await view(database, job_id)
    assert stale == "stale"
    assert (job.status, job.inserted_rows, job.chunks["completed"], job.chunks["failed"]) == (JobState.FAILED, 30, 1, 2)
    text = "broke; 30 rows of the file are in the table, the rest was not loaded"
    assert job.error == {"code": "E_X", "message": text}
    assert (
        psql("select state, inserted from ingest.chunks order by ordinal") == "completed|20\ncancelled|10\ncancelled|0"
    )
    assert psql("select count(*) from ingest.leases") == "0"
    assert await queue.claim(5) == []


async def receive_another(database: Database, job_id: UUID) -> None:
    """Store one more chunk, which nobody claims."""
    await Jobs(database).add_chunk(job_id, cut(numbers(20), ordinal=3))


async def test_what_waits_to_be_loaded(database: Database) -> None:
    """Chunks that are not completed, with all of their bytes; nothing for a job that takes no more."""
    job_id, queue, [chunk, _] = await claimed(database, 2)
    jobs, size = Jobs(database), TWENTY.length_bytes
    assert await jobs.backlog(job_id) == 2 * size
    await commit(database, chunk)
    assert await jobs.backlog(job_id) == 2 * size
    await queue.finish(chunk)
    assert await jobs.backlog(job_id) == size
    await jobs.fail_upload(job_id, FileError("it broke"))
    with pytest.raises(RequestError, match="it broke") as refused:
        await jobs.backlog(job_id)
    assert refused.value.code == "E_UPLOAD_GONE"


async def test_a_failed_chunk_does_not_end_the_job_before_its_upload(database: Database, psql: Psql) -> None:
    """It can be run again when the file is there, as ever; when the file never comes, it cannot."""
    job_id, queue, [chunk, other] = await claimed(database, 2)
    await queue.fail(chunk, FileError("x", code="E_Y"), permanent=True, delay_s=0)
    assert (await view(database, job_id)).status is JobState.RECEIVING
    await commit(database, other)
    await queue.finish(other)
    assert await Jobs(database).backlog(job_id) == 0
    await complete(database, job_id, [TWENTY] * 2)
    job = await view(database, job_id)
    assert (job.status, job.error and job.error["code"], job.inserted_rows) == (JobState.FAILED, "E_Y", 20)
    assert await database.value(statement("retry_job"), job_id, [chunk.id], None) == 1

    broken, queue, [chunk] = await claimed(database)
    await queue.fail(chunk, FileError("x", code="E_Y"), permanent=True, delay_s=0)
    await Jobs(database).fail_upload(broken, FileError("cut", code="E_UPLOAD_INCOMPLETE"))
    assert (await view(database, broken)).error == {
        "code": "E_UPLOAD_INCOMPLETE",
        "message": "cut; 0 rows of the file are in the table, the rest was not loaded",
    }
    assert await database.value(statement("retry_job"), broken, [chunk.id], None) == 0
    assert await database.fetch(statement("failed_chunks"), broken) == []


async def test_too_many_rejects_end_it_while_it_is_received(database: Database) -> None:
    """What comes after that is refused, with the reason."""
    job_id = await receive(database, [TWENTY], budget=Budget(rejects=1), **LOAD)
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    await commit(database, chunk, 0, rejected=5)
    assert await queue.enforce_budget(chunk)
    job = await view(database, job_id)
    assert (job.status, job.error and job.error["code"]) == (JobState.FAILED, "E_TOO_MANY_REJECTS")
    with pytest.raises(RequestError, match="the rest was not read"):
        await Jobs(database).add_chunk(job_id, cut(numbers(20), ordinal=2))


async def test_a_receiver_that_died_is_noticed(database: Database) -> None:
    """The job says what is in the table."""
    job_id, _, [chunk] = await claimed(database)
    await commit(database, chunk, 0)
    await database.fetch(statement("end_uploads"), timedelta(0))
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows) == (JobState.FAILED, 10)
    assert "10 rows of the file are in the table" in (job.error or {})["message"]


async def test_uploads_and_workers_in_each_others_way(database: Database, psql: Psql) -> None:
    """Whatever meets whatever: every job ends, nothing is stuck or dead-locked, and the books agree."""
    moments = random.Random(11)
    over = trio.Event()
    errors: list[str] = []
    refusals: set[str] = set()

    async def upload(stopped_at: int | None, stop: str) -> None:
        job_id, jobs = await receive(database, [], **LOAD), Jobs(database)
        stops = {
            "break": partial(jobs.fail_upload, job_id, FileError("broke", code="E_X")),
            "cancel": partial(database.value, statement("cancel_job"), job_id, None),
        }
        async with trio.open_nursery() as stopping:
            try:
                for ordinal in range(1, 11):
                    if ordinal == stopped_at:
                        stopping.start_soon(stops[stop])
                    await jobs.add_chunk(job_id, cut(numbers(20), ordinal=ordinal))
                await complete(database, job_id, [TWENTY] * 10)
            except RequestError as error:
                refusals.add(error.code)

    async def work() -> None:
        queue = Queue(database, uuid4())
        while not over.is_set():
            for chunk in await queue.claim(2):
                try:
                    await commit(database, chunk)
                    await queue.finish(chunk)
                except LeaseLost:
                    pass  # cancelled meanwhile
                except DatabaseError as error:
                    errors.append(str(error))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as workers:
        for _ in range(4):
            workers.start_soon(work)
        for _ in range(5):
            async with trio.open_nursery() as uploads:
                for number in range(8):
                    uploads.start_soon(upload, moments.choice([None, 3, 6, 10]), ("break", "cancel")[number % 2])
        with trio.fail_after(LONG_S):
            while await database.value("SELECT EXISTS (SELECT FROM ingest.jobs WHERE finished_at IS NULL)"):
                pass
        over.set()
    assert errors == []
    assert refusals <= {"E_UPLOAD_GONE"}
    assert psql("select count(*) from ingest.jobs where state = 'completed' and inserted <> 200") == "0"
    assert psql(
        "select count(*) from ingest.jobs j where inserted <> (select coalesce(sum(g.inserted), 0) from ingest.chunks c"
        " join ingest.ledger g on g.chunk_id = c.id where c.job_id = j.id)"
    ) == "0"  # fmt: skip
    assert psql("select count(*) from ingest.leases") == "0"


async def test_only_loads_in_batches_can_begin_early(database: Database, psql: Psql) -> None:
    """The table says so too."""
    await receive(database, [], **LOAD)
    with pytest.raises(AssertionError, match="whole_if_loaded_as_such"):
        psql("update ingest.jobs set mode = 'atomic'")


@pytest.mark.parametrize("stop", ["cancel", "budget", "upload"])
async def test_a_chunk_comes_before_a_stop_or_after_it(database: Database, stop: str) -> None:
    """One that came between would be locked after the job, against the worker that has claimed it: a deadlock."""
    job_id, queue, [first, second] = await claimed(database, 2, budget=Budget(rejects=0))
    await commit(database, first, 0, rejected=1)
    stops = {
        "cancel": partial(database.value, statement("cancel_job"), job_id, None),
        "budget": partial(queue.enforce_budget, first),
        "upload": partial(Jobs(database).fail_upload, job_id, FileError("cut", code="E_CUT")),
    }
    refused: list[str] = []

    async def add() -> None:
        with pytest.raises(RequestError) as caught:
            await Jobs(database).add_chunk(job_id, cut(numbers(20), ordinal=3))
        refused.append(caught.value.code)

    extent = next(iter(second.ranges()))
    async with interactive(database) as loader, trio.open_nursery() as nursery:
        await loader.execute("BEGIN")
        fence = "SELECT ingest.commit_batch($1, $2, $3, $4, 1, $5, $5, 0, 0, 0, 0)"
        assert await loader.value(fence, second.id, second.epoch, extent.start, extent.end, 10) == "committed"
        nursery.start_soon(stops[stop])
        await blocked(database)
        nursery.start_soon(add)
        await blocked(database, sessions=2)
        await loader.execute("COMMIT")
    assert refused == ["E_UPLOAD_GONE"]
    job = await view(database, job_id)
    assert (job.status in FINAL, job.inserted_rows, job.failed_rows) == (True, 19, 1)
    assert job.chunks == {"pending": 0, "processing": 0, "completed": 0, "failed": 2}
