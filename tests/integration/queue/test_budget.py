"""The error budget: a job over it stops, once, with a sentence that adds up; and what is left of it."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from ingest.budget import SAMPLE_ROWS, Budget
from ingest.chunk import Chunk
from ingest.database import Database
from ingest.errors import LeaseLost
from ingest.job import JobMode, JobState
from ingest.queue import Queue
from ingest.statements import statement
from tests.conftest import Psql
from tests.integration.build import cut, interactive, make_job, numbers
from tests.integration.queue.test_endings import commit, view

LONG_S = 60.0
TWENTY = cut(numbers(20))  # two batches
LARGE = cut(numbers(4 * SAMPLE_ROWS), batch_records=SAMPLE_ROWS // 2)  # eight batches


async def claimed(database: Database, count: int = 1, **options: object) -> tuple[UUID, Queue, list[Chunk]]:
    """A job of some chunks of two batches each, all claimed."""
    job_id = await make_job(database, [TWENTY] * count, **options)  # type: ignore[arg-type]
    queue = Queue(database, uuid4())
    return job_id, queue, await queue.claim(count)


async def waiting(database: Database) -> None:
    """Return when somebody waits for a lock."""
    with trio.fail_after(LONG_S):
        while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            pass


async def test_a_chunk_knows_whether_its_job_has_a_budget(database: Database) -> None:
    """So that a job without one costs no statement."""
    for budget, expected in ((None, False), (Budget(rejects=0), True), (Budget(percent=5.0), True)):
        _, _, [chunk] = await claimed(database, budget=budget)
        assert chunk.has_budget is expected


async def test_as_many_rejects_as_allowed_are_no_reason_to_stop(database: Database) -> None:
    """The budget is what may be used up."""
    job_id, queue, [chunk] = await claimed(database, budget=Budget(rejects=6))
    await commit(database, chunk, rejected=3)
    assert not await queue.enforce_budget(chunk)
    await queue.finish(chunk)
    assert (await view(database, job_id)).status is JobState.COMPLETED


async def test_a_job_over_its_budget_stops(database: Database, psql: Psql) -> None:
    """Its other chunks end too, nothing can be claimed, and the totals are what the ledger says."""
    job_id, queue, chunks = await claimed(database, 3, budget=Budget(rejects=6))
    done, running, _ = chunks
    await queue.release(chunks[2])
    await commit(database, done)
    await queue.finish(done)
    await commit(database, running, 0, rejected=7)
    assert await queue.enforce_budget(running)
    assert not await queue.enforce_budget(running)
    job = await view(database, job_id)
    assert (job.status, job.error) == (JobState.FAILED, {
        "code": "E_TOO_MANY_REJECTS",
        "message": "7 of the 30 records read were rejected, more than max_rejects=6 allows; "
        "23 rows of the file are in the table, the rest was not read",
    })  # fmt: skip
    assert (job.inserted_rows, job.failed_rows, job.chunks["completed"], job.chunks["failed"]) == (23, 7, 1, 2)
    assert psql("select state, inserted, rejected from ingest.chunks order by ordinal") == (
        "completed|20|0\ncancelled|3|7\ncancelled|0|0"
    )
    assert psql("select count(*) from ingest.leases") == "0"
    assert await queue.claim(9) == []
    assert psql("select needed from ingest.jobs j, lateral (" + _needed(job_id) + ") n") == "f"


def _needed(job_id: UUID) -> str:
    return statement("jobs_with_objects").replace("$1", f"'{{{job_id}}}'")


async def test_a_running_chunk_of_a_stopped_job_commits_nothing_more(database: Database, psql: Psql) -> None:
    """It learns at its next batch, its heartbeat and its end that the chunk is no longer its own."""
    _, queue, [chunk] = await claimed(database, budget=Budget(rejects=0))
    await commit(database, chunk, 0, rejected=1)
    assert await queue.enforce_budget(chunk)
    with pytest.raises(LeaseLost):
        await commit(database, chunk, 1)
    with pytest.raises(LeaseLost):
        await queue.finish(chunk)
    assert not await queue.release(chunk)
    assert await database.fetch(statement("renew_leases"), queue.worker_id, [chunk.id], [chunk.epoch], False) == []
    assert psql("select count(*) from ingest.ledger; select state from ingest.chunks") == "1\ncancelled"


async def test_a_share_is_not_looked_at_before_the_sample_is_read(database: Database) -> None:
    """Then it is; the records of one batch of 500 say nothing, those of two do."""
    job_id = await make_job(database, [LARGE], budget=Budget(percent=10.0))
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    await commit(database, chunk, 0, rejected=400)
    assert not await queue.enforce_budget(chunk)
    await commit(database, chunk, 1)
    assert await queue.enforce_budget(chunk)
    error = (await view(database, job_id)).error
    assert error is not None
    assert error["message"].startswith("400 of the 1000 records read were rejected, more than max_rejects=10% allows; ")


@pytest.mark.parametrize(
    ("rejected", "budget", "code"),
    [
        (1, Budget(percent=9.9), "E_TOO_MANY_REJECTS"),  # of 20 records, far below the sample
        (1, Budget(percent=10.0), None),
        (1, Budget(rejects=1), "E_TOO_MANY_REJECTS"),
        (10, Budget(percent=100.0), "E_ALL_REJECTED"),
        (10, Budget(rejects=19), "E_TOO_MANY_REJECTS"),
    ],
)
async def test_the_budget_is_looked_at_when_the_job_ends(
    database: Database, rejected: int, budget: Budget, code: str | None
) -> None:
    """Whatever the sample: a small file is held to its share, and a check that never came is made up for."""
    job_id, queue, [chunk] = await claimed(database, budget=budget)
    await commit(database, chunk, rejected=rejected)
    await queue.finish(chunk)
    job = await view(database, job_id)
    assert (job.error and job.error["code"]) == code
    if code == "E_TOO_MANY_REJECTS":
        assert job.error["message"].endswith(f"; {20 - 2 * rejected} rows of the file are in the table")  # type: ignore[index]


@pytest.mark.parametrize("mode", [JobMode.ATOMIC, JobMode.VALIDATE])
async def test_the_sentence_fits_the_mode(database: Database, mode: JobMode) -> None:
    """Of a file that is loaded as a whole, or not at all, nothing is in the table."""
    job_id, queue, [chunk] = await claimed(database, budget=Budget(rejects=0), mode=mode)
    await commit(database, chunk, 0, rejected=1)
    assert await queue.enforce_budget(chunk)
    error = (await view(database, job_id)).error
    assert error is not None
    assert error["message"].endswith("; the table is as it was")


async def test_two_writers_over_the_budget_at_once(database: Database, psql: Psql) -> None:
    """One of them stops the job; the other finds it stopped."""
    for _ in range(5):
        job_id, queue, chunks = await claimed(database, 4, budget=Budget(rejects=3))
        for chunk in chunks:
            await commit(database, chunk, 0, rejected=4)
        stopped: list[bool] = []

        async def enforce(chunk: Chunk, queue: Queue = queue, stopped: list[bool] = stopped) -> None:
            stopped.append(await queue.enforce_budget(chunk))

        async with trio.open_nursery() as nursery:
            for chunk in chunks:
                nursery.start_soon(enforce, chunk)
        assert sorted(stopped) == [False, False, False, True]
        assert (await view(database, job_id)).failed_rows == 16


async def test_a_stop_waits_for_a_batch_that_has_passed_the_fence(database: Database, psql: Psql) -> None:
    """What that batch commits is in the totals; the ledger and the job agree."""
    job_id, queue, [first, second] = await claimed(database, 2, budget=Budget(rejects=3))
    await commit(database, first, 0, rejected=4)
    extent = next(iter(second.ranges()))
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        fence = "SELECT ingest.commit_batch($1, $2, $3, $4, $5, $6, $6, 0, 0, 0, 0)"
        passed = (second.id, second.epoch, extent.start, extent.end, extent.first_line, extent.records)
        assert await other.value(fence, *passed) == "committed"
        nursery.start_soon(queue.enforce_budget, first)
        await waiting(database)
        assert (await view(database, job_id)).status is JobState.PROCESSING
        await other.execute("COMMIT")
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows, job.failed_rows) == (JobState.FAILED, 16, 4)
    assert psql("select sum(inserted), sum(rejected) from ingest.ledger") == "16|4"


async def test_a_job_that_ends_while_it_is_being_stopped(database: Database) -> None:
    """The finish has the chunk first: it settles the job, over budget too, and the stop finds nothing to do."""
    job_id, queue, [chunk] = await claimed(database, budget=Budget(rejects=3))
    await commit(database, chunk, rejected=2)
    outcome: list[bool] = []

    async def enforce() -> None:
        outcome.append(await queue.enforce_budget(chunk))

    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        assert await other.value("SELECT ingest.finish_chunk($1, $2)", chunk.id, chunk.epoch) == "finished"
        nursery.start_soon(enforce)
        await waiting(database)
        await other.execute("COMMIT")
    job = await view(database, job_id)
    assert outcome == [False]
    assert (job.status, job.error and job.error["code"]) == (JobState.FAILED, "E_TOO_MANY_REJECTS")
    assert job.chunks["completed"] == 1


async def test_a_finish_that_comes_after_the_stop_changes_nothing(database: Database) -> None:
    """The stop has the chunk first: the finish waits, then finds the chunk cancelled."""
    job_id, queue, [chunk] = await claimed(database, budget=Budget(rejects=3))
    await commit(database, chunk, rejected=2)
    outcome: list[type[Exception]] = []

    async def finish() -> None:
        try:
            await queue.finish(chunk)
        except LeaseLost as error:
            outcome.append(type(error))

    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        assert await other.value("SELECT ingest.enforce_budget($1, 0)", job_id)
        nursery.start_soon(finish)
        await waiting(database)
        await other.execute("COMMIT")
    job = await view(database, job_id)
    assert outcome == [LeaseLost]
    assert (job.status, job.chunks["completed"], job.failed_rows) == (JobState.FAILED, 0, 4)


async def test_a_claim_in_progress_is_waited_for_and_cancelled(database: Database) -> None:
    """Its chunk was pending when the stop began; the claimer finds it lost."""
    job_id = await make_job(database, [TWENTY] * 2, budget=Budget(rejects=0))
    queue = Queue(database, uuid4())
    [first] = await queue.claim(1)
    await commit(database, first, 0, rejected=1)
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        assert await other.value("SELECT count(*) FROM ingest.claim_chunks($1, 'default', 1)", uuid4()) == 1
        nursery.start_soon(queue.enforce_budget, first)
        await waiting(database)
        await other.execute("COMMIT")
    job = await view(database, job_id)
    assert (job.status, job.chunks["failed"], job.chunks["processing"]) == (JobState.FAILED, 2, 0)
