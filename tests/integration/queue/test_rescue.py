"""Chunks of dead workers are taken back, and a chunk that kills its workers is given up."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import trio

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database, Session
from ingest.errors import FileError, UnavailableError
from ingest.job import JobState
from ingest.jobs import Jobs
from ingest.ledger import commit_batch
from ingest.loading.staging import begin
from ingest.queue import MAX_CRASHES, Queue
from ingest.statements import statement
from tests.conftest import Psql
from tests.integration.build import cut, make_job, numbers

ONE = cut(numbers(30))
TTL_S = 20.0


def age(psql: Psql, seconds: float, what: str = "heartbeat_at") -> None:
    """Let every claim, and by default every heartbeat, be so many seconds old."""
    psql(f"update ingest.chunks set claimed_at = now() - interval '{seconds} s'")
    psql(f"update ingest.leases set {what} = now() - interval '{seconds} s'")


async def commit_one(database: Database, chunk: Chunk) -> None:
    """Write a ledger line for the chunk's next batch."""
    done = await Queue(database, uuid4()).committed_starts(chunk)
    extent = next(extent for extent in chunk.ranges() if extent.start not in done)
    batch = Batch(chunk=chunk, range=extent, data=b"")
    await database.transact(lambda session: commit_batch(session, batch, BatchResult(inserted=extent.records)))


async def claim(database: Database) -> tuple[Queue, Chunk]:
    """A new worker claims a chunk."""
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    return queue, chunk


async def test_a_lease_that_ran_out(database: Database, psql: Psql) -> None:
    """The chunk is pending again, its try is given back, the next epoch is higher, and the reason can be seen."""
    await make_job(database, [ONE])
    queue, _ = await claim(database)
    age(psql, TTL_S - 1)
    assert await queue.rescue(TTL_S) == 0
    age(psql, TTL_S + 1)
    assert await queue.rescue(TTL_S) == 1
    assert psql("select state, attempt, crash_count, error_code from ingest.chunks") == "pending|0|1|E_WORKER_LOST"
    assert psql("select count(*) from ingest.leases") == "0"
    _, again = await claim(database)
    assert (again.epoch, again.attempt) == (2, 1)


async def test_a_lease_that_is_missing(database: Database, psql: Psql) -> None:
    """It counts as run out once the claim itself is old enough; so does one of an older epoch."""
    await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    await queue.claim(2)
    psql("delete from ingest.leases where chunk_id = (select min(chunk_id) from ingest.leases)")
    psql("update ingest.leases set epoch = 0")
    assert await queue.rescue(TTL_S) == 0
    psql(f"update ingest.chunks set claimed_at = now() - interval '{TTL_S + 1} s'")
    assert await queue.rescue(TTL_S) == 2


async def test_a_renewed_lease_keeps_an_old_claim(database: Database, psql: Psql) -> None:
    """A chunk may take hours: only the heartbeat counts."""
    await make_job(database, [ONE])
    queue, _ = await claim(database)
    psql("update ingest.chunks set claimed_at = now() - interval '1 day'")
    assert await queue.rescue(TTL_S) == 0


async def test_a_worker_that_is_known_to_be_dead(database: Database) -> None:
    """Its chunks are taken back at once, fresh leases or not; those of others are not."""
    await make_job(database, [ONE] * 2)
    (dead, _), (alive, _) = await claim(database), await claim(database)
    assert await alive.rescue(TTL_S, [dead.worker_id, uuid4()]) == 1
    assert await alive.rescue(TTL_S, [dead.worker_id]) == 0


async def test_a_chunk_that_costs_every_worker_its_life(database: Database, psql: Psql) -> None:
    """After MAX_CRASHES leases in a row without a batch it has failed, and its job with it."""
    job_id = await make_job(database, [ONE])
    for crash in range(1, MAX_CRASHES + 1):
        queue, _ = await claim(database)
        await queue.rescue(TTL_S, [queue.worker_id])
        assert psql("select crash_count from ingest.chunks") == str(crash)
    job = await Jobs(database).get(job_id)
    assert job is not None
    assert job.status is JobState.FAILED
    assert job.error == {
        "code": "E_WORKER_LOST",
        "message": f"1 of 1 chunks failed; the first: its worker went silent {MAX_CRASHES} times in a row",
    }


async def test_progress_starts_the_count_of_crashes_anew(database: Database, psql: Psql) -> None:
    """A worker that committed a batch before it died was not killed by the chunk alone."""
    await make_job(database, [ONE])
    expected = [1, 2, *range(1, MAX_CRASHES + 1)]
    for crash, count in enumerate(expected):
        queue, chunk = await claim(database)
        if crash == 2:
            await commit_one(database, chunk)
        await queue.rescue(TTL_S, [queue.worker_id])
        assert psql("select crash_count from ingest.chunks") == str(count)
    assert psql("select state, inserted from ingest.chunks") == "failed|10"


@pytest.mark.parametrize("ending", ["release", "fail"])
async def test_a_try_that_ends_otherwise_breaks_the_row_of_crashes(database: Database, psql: Psql, ending: str) -> None:
    """Its worker lived to hand the chunk back."""
    await make_job(database, [ONE])
    for _ in range(MAX_CRASHES - 1):
        queue, _ = await claim(database)
        await queue.rescue(TTL_S, [queue.worker_id])
    queue, chunk = await claim(database)
    if ending == "release":
        await queue.release(chunk)
    else:
        await queue.fail(chunk, FileError("x"), permanent=False, delay_s=0)
    assert psql("select crash_count from ingest.chunks") == "0"


async def test_many_rescuers_at_once(database: Database, psql: Psql) -> None:
    """Every chunk is taken back once."""
    await make_job(database, [ONE] * 30)
    queue = Queue(database, uuid4())
    await queue.claim(30)
    age(psql, TTL_S + 1)
    counts: list[int] = []

    async def rescue() -> None:
        counts.append(await Queue(database, uuid4()).rescue(TTL_S))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(rescue)
    assert sum(counts) == 30
    assert psql("select distinct state, crash_count from ingest.chunks") == "pending|1"


async def test_a_rescue_races_a_finish(database: Database, psql: Psql) -> None:
    """Whoever comes first wins, the other finds nothing to do; never both."""
    for _ in range(10):
        await make_job(database, [cut(numbers(5))])
        queue, chunk = await claim(database)
        await commit_one(database, chunk)
        outcomes: list[str] = []

        async def finish(queue: Queue = queue, chunk: Chunk = chunk, outcomes: list[str] = outcomes) -> None:
            outcomes.append(await database.value("SELECT ingest.finish_chunk($1, $2)", chunk.id, chunk.epoch))

        async def rescue(queue: Queue = queue, outcomes: list[str] = outcomes) -> None:
            outcomes.append(f"rescued {await queue.rescue(TTL_S, [queue.worker_id])}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(finish)
            nursery.start_soon(rescue)
        assert sorted(outcomes) in (["finished", "rescued 0"], ["rescued 1", "stale"])
        psql("delete from ingest.jobs")


async def test_a_worker_whose_registration_got_no_answer_registers_again(database: Database, psql: Psql) -> None:
    """The database may have heard it before it went away."""
    queue = Queue(database, uuid4())
    for _ in range(2):
        await queue.register("here", 1, "0")
    assert psql("select id from ingest.workers").split() == [str(queue.worker_id)]


async def test_silent_workers_are_forgotten(database: Database, psql: Psql) -> None:
    """Not while they hold a chunk, not while they are heard of; those found dead at once."""
    await make_job(database, [ONE])
    holding, silent, heard, dead = (Queue(database, uuid4()) for _ in range(4))
    for queue in (holding, silent, heard, dead):
        await queue.register("here", 1, "0")
    await holding.claim(1)
    psql("update ingest.workers set heartbeat_at = now() - interval '2 hours' "
         f"where id in ('{holding.worker_id}', '{silent.worker_id}')")  # fmt: skip
    await database.execute(statement("forget_workers"), timedelta(hours=1), [dead.worker_id])
    left = psql("select id from ingest.workers order by started_at").split()
    assert left == [str(holding.worker_id), str(heard.worker_id)]


async def test_a_backend_that_is_frozen_in_a_batch_is_ended_by_the_rescue(database: Database) -> None:
    """Its worker stopped inside a COPY: no timeout of the server ends that, and it may hold keys the next one needs."""
    await make_job(database, [ONE])
    queue, chunk = await claim(database)
    batch = Batch(chunk=chunk, range=next(chunk.ranges()), data=b"")
    named = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    name = f"ingest chunk {chunk.id} epoch {chunk.epoch}"

    async def frozen(*, task_status: trio.TaskStatus[None]) -> None:
        async def unit(session: Session) -> None:
            task_status.started()
            await session.execute("SELECT pg_sleep(60)")

        with pytest.raises(UnavailableError):
            await database.transact(unit, begin=begin(batch))

    async with trio.open_nursery() as nursery:
        await nursery.start(frozen)
        assert await queue.rescue(TTL_S) == 0
        assert await database.value(named, name) == 1
        assert await queue.rescue(TTL_S, [queue.worker_id]) == 1
    assert await database.value(named, name) == 0
