"""Claiming: every chunk goes to one worker, the most urgent first, and only what may be claimed."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
import trio

from ingest.chunk import Chunk
from ingest.database import Database
from ingest.job import JobState
from ingest.jobs import Jobs
from ingest.queue import Queue
from tests.conftest import Psql
from tests.integration.build import COMMA, cut, interactive, make_job, numbers, receive, spec

ONE = cut(numbers(3))


async def test_a_claimed_chunk_is_all_a_worker_needs(database: Database) -> None:
    """Spec and cut come back as they were written; epoch and attempt are counted up."""
    written = cut(b"1,x\n2,y\n\n3,z\n", single_column=False, batch_records=2, object_key="chunks/k/000001")
    of = spec(("a", "integer"), ("b", "character varying(5)"), keyed=True)
    job_id = await make_job(database, [written], of=of)
    [chunk] = await Queue(database, uuid4()).claim(5)
    assert chunk == Chunk(
        id=chunk.id, job_id=job_id, epoch=1, attempt=1, spec=of, cut=chunk.cut, max_stored_rejects=100_000
    )
    assert chunk.cut == written
    assert [(r.start, r.end, r.first_line, r.records, r.blank_lines) for r in chunk.ranges()] == [
        (0, 8, 2, 2, 0),
        (8, 13, 4, 1, 1),
    ]
    assert of.dialect == COMMA


@pytest.mark.parametrize("limit", [1, 3])
async def test_twenty_tasks_never_claim_a_chunk_twice(database: Database, limit: int) -> None:
    """Over several jobs at once; nothing is left over, nothing deadlocks, each job is started once."""
    jobs = [await make_job(database, [ONE] * 12) for _ in range(5)]
    claimed: list[Chunk] = []

    async def work() -> None:
        queue = Queue(database, uuid4())
        while chunks := await queue.claim(limit):
            assert len(chunks) <= limit
            claimed.extend(chunks)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(work)
    assert Counter(chunk.job_id for chunk in claimed) == dict.fromkeys(jobs, 12)
    assert len({chunk.id for chunk in claimed}) == 60
    assert {(chunk.epoch, chunk.attempt) for chunk in claimed} == {(1, 1)}


async def test_a_locked_chunk_is_passed_over(database: Database) -> None:
    """Nobody waits for a chunk that somebody else is about to claim."""
    await make_job(database, [ONE] * 4)
    assert len(await Queue(database, uuid4()).claim(1)) == 1
    async with interactive(database) as other:
        await other.execute("BEGIN")
        held = await other.value("SELECT id FROM ingest.claim_chunks(gen_random_uuid(), 'default', 1)")
        with trio.fail_after(4):
            chunks = await Queue(database, uuid4()).claim(10)
        assert len(chunks) == 2
        assert held not in {chunk.id for chunk in chunks}
        await other.execute("ROLLBACK")
    assert [chunk.id for chunk in await Queue(database, uuid4()).claim(10)] == [held]


async def test_the_most_urgent_first(database: Database) -> None:
    """By priority, then by age, then in file order."""
    low = await make_job(database, [ONE] * 2, priority=1)
    middle = await make_job(database, [ONE], priority=5)
    high = await make_job(database, [ONE], priority=9)
    later = await make_job(database, [ONE], priority=5)
    queue = Queue(database, uuid4())
    order = [(await queue.claim(1))[0] for _ in range(5)]
    assert [chunk.job_id for chunk in order] == [high, middle, later, low, low]
    assert [chunk.cut.ordinal for chunk in order[3:]] == [1, 2]


async def test_several_claimed_at_once_come_in_the_same_order(database: Database) -> None:
    """A worker starts them as they come."""
    jobs = [await make_job(database, [ONE], priority=priority) for priority in (1, 9, 5)]
    chunks = await Queue(database, uuid4()).claim(3)
    assert [chunk.job_id for chunk in chunks] == [jobs[1], jobs[2], jobs[0]]


@pytest.mark.parametrize("state", ["receiving", "paused", "completed", "failed", "cancelled"])
async def test_chunks_of_such_jobs_are_not_claimed(database: Database, psql: Psql, state: str) -> None:
    """Only those of jobs that are pending or processing."""
    job_id = await make_job(database, [ONE])
    final = state in ("completed", "failed", "cancelled")
    psql(f"update ingest.jobs set state = '{state}', error_code = 'E', inserted = 3, "
         f"finished_at = {'now()' if final else 'null'} where id = '{job_id}'")  # fmt: skip
    assert await Queue(database, uuid4()).claim(10) == []


async def test_chunks_that_are_being_received_or_delayed_or_elsewhere(database: Database, psql: Psql) -> None:
    """An upload that is not complete, a retry whose time has not come, another queue."""
    await receive(database, [ONE])
    await make_job(database, [ONE], queue="other")
    delayed = await make_job(database, [ONE])
    psql(f"update ingest.chunks set run_at = now() + interval '1 hour' where job_id = '{delayed}'")
    queue = Queue(database, uuid4())
    assert await queue.claim(10) == []
    assert await queue.claim(0) == []
    assert len(await Queue(database, uuid4(), "other").claim(10)) == 1
    psql(f"update ingest.chunks set run_at = now() - interval '1 hour' where job_id = '{delayed}'")
    assert len(await queue.claim(10)) == 1


async def test_the_first_claim_starts_the_job(database: Database) -> None:
    """Processing from then on, since the first chunk."""
    job_id = await make_job(database, [ONE] * 2)
    jobs, queue = Jobs(database), Queue(database, uuid4())
    before = await jobs.get(job_id)
    assert before is not None
    assert (before.status, before.started_at) == (JobState.PENDING, None)
    await queue.claim(1)
    first = await jobs.get(job_id)
    await queue.claim(1)
    second = await jobs.get(job_id)
    assert first is not None
    assert second is not None
    assert first.status is second.status is JobState.PROCESSING
    assert first.started_at == second.started_at is not None
    assert first.chunks == {"pending": 1, "processing": 1, "completed": 0, "failed": 0}


async def test_renewing_returns_only_what_is_held(database: Database, psql: Psql) -> None:
    """Not a chunk of another worker, of an older claim, or one whose lease has gone."""
    await make_job(database, [ONE] * 4)
    mine, other = Queue(database, uuid4()), Queue(database, uuid4())
    await mine.register("here", 1, "0")
    held, old, gone = await mine.claim(3)
    [foreign] = await other.claim(1)
    psql(f"delete from ingest.leases where chunk_id = {gone.id}")
    psql("update ingest.leases set heartbeat_at = 'epoch'; update ingest.workers set heartbeat_at = 'epoch'")

    async def renew(queue: Queue) -> list[int]:
        chunks = (held, old, gone, foreign)
        rows = await database.fetch(
            "SELECT ingest.renew_leases($1, $2, $3, true) AS chunk_id",
            queue.worker_id, [chunk.id for chunk in chunks], [held.epoch, old.epoch - 1, gone.epoch, foreign.epoch],
        )  # fmt: skip
        return [row["chunk_id"] for row in rows]

    assert await renew(mine) == [held.id]
    assert await renew(other) == [foreign.id]
    assert psql("select chunk_id from ingest.leases where heartbeat_at = 'epoch'") == str(old.id)
    assert psql("select draining, heartbeat_at > 'epoch' from ingest.workers") == "t|t"


async def test_the_depth_counts_all_queues(database: Database) -> None:
    """What waits, what is at work, and how long the oldest has waited."""
    queue = Queue(database, uuid4())
    empty = await queue.depth()
    assert (empty.pending, empty.processing, empty.oldest_age_s) == (0, 0, 0.0)
    await make_job(database, [ONE] * 2)
    await make_job(database, [ONE], queue="other")
    await queue.claim(1)
    depth = await queue.depth()
    assert (depth.pending, depth.processing) == (2, 1)
    assert depth.oldest_age_s > 0
