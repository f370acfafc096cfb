"""The ways a chunk and its job end: finished, handed back, failed."""

from __future__ import annotations

from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database, Session
from ingest.errors import AccountingError, FileError, LeaseLost
from ingest.job import JobState, JobView
from ingest.jobs import Jobs
from ingest.ledger import commit_batch
from ingest.queue import MAX_ATTEMPTS, Queue
from tests.conftest import Psql
from tests.integration.build import cut, interactive, make_job, numbers

ONE = cut(numbers(20))


async def commit(database: Database, chunk: Chunk, *numbers: int, rejected: int = 0) -> None:
    """Write ledger lines for the batches with these numbers (all when none is named)."""
    for i, extent in enumerate(chunk.ranges()):
        if i in numbers or not numbers:
            batch = Batch(chunk=chunk, range=extent, data=b"")
            result = BatchResult(inserted=extent.records - rejected, rejected=rejected)
            await database.transact(partial(_commit, batch, result))


async def _commit(batch: Batch, result: BatchResult, session: Session) -> None:
    await commit_batch(session, batch, result)


async def view(database: Database, job_id: UUID) -> JobView:
    """The job as it stands."""
    found = await Jobs(database).get(job_id)
    assert found is not None
    return found


async def test_a_job_is_completed_by_its_last_chunk(database: Database, psql: Psql) -> None:
    """Not before, and with the totals of all; the leases are gone."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    first, second = await queue.claim(2)
    await commit(database, second, rejected=3)
    await queue.finish(second)
    assert (await view(database, job_id)).status is JobState.PROCESSING
    await commit(database, first)
    await queue.finish(first)
    job = await view(database, job_id)
    assert (job.status, job.total_rows, job.inserted_rows, job.failed_rows) == (JobState.COMPLETED, 40, 34, 6)
    assert (job.progress, job.error) == (1.0, None)
    assert job.completed_at is not None
    assert psql("select count(*) from ingest.leases") == "0"
    assert psql("select inserted, rejected from ingest.chunks order by ordinal") == "20|0\n14|6"


@pytest.mark.parametrize("missing", [0, 1, 2])
async def test_a_ledger_with_a_gap_is_no_success(database: Database, psql: Psql, missing: int) -> None:
    """At the beginning, in the middle or at the end: the chunk stays what it is."""
    await make_job(database, [cut(numbers(30))])
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    with pytest.raises(AccountingError):
        await queue.finish(chunk)
    await commit(database, chunk, *{0, 1, 2} - {missing})
    with pytest.raises(AccountingError):
        await queue.finish(chunk)
    assert psql("select state from ingest.chunks; select count(*) from ingest.leases") == "processing\n1"
    await commit(database, chunk, missing)
    await queue.finish(chunk)


async def test_only_the_owner_finishes_and_only_once(database: Database) -> None:
    """A second call, a former owner and a wrong epoch are stale."""
    job_id = await make_job(database, [ONE])
    zombie, owner = Queue(database, uuid4()), Queue(database, uuid4())
    [old] = await zombie.claim(1)
    await commit(database, old)
    await zombie.rescue(0, [zombie.worker_id])
    with pytest.raises(LeaseLost):
        await zombie.finish(old)
    [new] = await owner.claim(1)
    with pytest.raises(LeaseLost):
        await zombie.finish(old)
    await owner.finish(new)
    for queue, chunk in ((owner, new), (zombie, old)):
        with pytest.raises(LeaseLost):
            await queue.finish(chunk)
        assert not await queue.release(chunk)
        assert await queue.fail(chunk, FileError("x"), permanent=True, delay_s=0) == "stale"
    assert (await view(database, job_id)).status is JobState.COMPLETED


async def test_chunks_that_finish_at_the_same_moment_complete_the_job_once(database: Database, psql: Psql) -> None:
    """Of two, of eight: one of them is the last, and the job is announced as ended once."""
    psql("create table ended (id uuid); create function ended() returns trigger language plpgsql as "
         "$$ begin insert into ended values (new.id); return null; end $$; "
         "create trigger ended after update on ingest.jobs for each row "
         "when (new.state = 'completed') execute function ended()")  # fmt: skip
    queue = Queue(database, uuid4())
    for count in (2, 2, 2, 8, 8):
        job_id = await make_job(database, [ONE] * count)
        chunks = await queue.claim(count)
        for chunk in chunks:
            await commit(database, chunk)
        async with trio.open_nursery() as nursery:
            for chunk in chunks:
                nursery.start_soon(queue.finish, chunk)
        assert psql(f"select count(*) from ended where id = '{job_id}'") == "1"
        assert (await view(database, job_id)).inserted_rows == 20 * count


async def test_the_second_of_two_finishes_sees_the_first(database: Database) -> None:
    """The first has not committed when the second arrives at the job: the second waits, then ends the job."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    first, second = await queue.claim(2)
    await commit(database, first)
    await commit(database, second)
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        assert await other.value("SELECT ingest.finish_chunk($1, $2)", first.id, first.epoch) == "finished"
        nursery.start_soon(queue.finish, second)
        with trio.fail_after(60):
            while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
        assert (await view(database, job_id)).status is JobState.PROCESSING
        await other.execute("COMMIT")
    assert (await view(database, job_id)).status is JobState.COMPLETED


async def test_a_chunk_that_is_handed_back_gets_its_try_back(database: Database, psql: Psql) -> None:
    """Another worker goes on at once, from the ledger; the epoch still grows."""
    await make_job(database, [ONE])
    queue = Queue(database, uuid4())
    for epoch in range(1, 6):
        [chunk] = await queue.claim(1)
        assert (chunk.epoch, chunk.attempt) == (epoch, 1)
        assert await queue.release(chunk)
        assert not await queue.release(chunk)
    assert psql(
        "select state, attempt, count(l.*) from ingest.chunks left join ingest.leases l on true group by 1, 2"
    ) == ("pending|0|0")
    [chunk] = await queue.claim(1)
    await queue.release(chunk, 3600)
    assert await queue.claim(1) == []


async def test_a_worker_that_leaves_hands_back_all_it_has(database: Database, psql: Psql) -> None:
    """And nothing of others."""
    await make_job(database, [ONE] * 3)
    leaving, staying = Queue(database, uuid4()), Queue(database, uuid4())
    await leaving.register("here", 1, "0")
    await leaving.claim(2)
    await staying.claim(1)
    await leaving.unregister()
    assert psql("select state, count(*) from ingest.chunks group by 1 order by 1") == "pending|2\nprocessing|1"
    assert psql("select count(*) from ingest.workers; select count(*) from ingest.leases") == "0\n1"


async def test_a_failed_try_is_repeated_until_the_tries_are_used_up(database: Database) -> None:
    """Then the chunk and its job have failed, with the reason and what is in the table."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    [good] = await queue.claim(1)
    await commit(database, good)
    await queue.finish(good)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        [chunk] = await queue.claim(1)
        assert chunk.attempt == attempt
        state = await queue.fail(chunk, FileError("the disk", code="E_DISK"), permanent=False, delay_s=0)
        assert state == ("pending" if attempt < MAX_ATTEMPTS else "failed")
        if attempt == 1:
            await queue.claim(0)
    job = await view(database, job_id)
    assert job.status is JobState.FAILED
    assert job.error == {"code": "E_DISK", "message": "1 of 2 chunks failed; the first: the disk"}
    assert (job.inserted_rows, job.chunks) == (20, {"pending": 0, "processing": 0, "completed": 1, "failed": 1})


async def test_an_error_that_no_retry_can_help_fails_at_once(database: Database, psql: Psql) -> None:
    """What the chunk has in the table is counted; the other chunks of the job still run."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    bad, good = await queue.claim(2)
    await commit(database, bad, 0)
    assert await queue.fail(bad, FileError("no"), permanent=True, delay_s=0) == "failed"
    assert (await view(database, job_id)).status is JobState.PROCESSING
    await commit(database, good)
    await queue.finish(good)
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows) == (JobState.FAILED, 30)
    assert psql("select state, inserted, finished_at is not null from ingest.chunks order by ordinal") == (
        "failed|10|t\ncompleted|20|t"
    )


async def test_a_delayed_retry_waits_for_its_time(database: Database) -> None:
    """The chunk is pending but not yet to be claimed."""
    await make_job(database, [ONE])
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    assert await queue.fail(chunk, FileError("x"), permanent=False, delay_s=3600) == "pending"
    assert await queue.claim(1) == []


async def test_a_job_of_which_nothing_could_be_loaded_has_failed(database: Database) -> None:
    """Wrong file, wrong dataset: that is no success, and the rejects say why."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    for chunk in await queue.claim(2):
        await commit(database, chunk, rejected=10)
        await queue.finish(chunk)
    job = await view(database, job_id)
    assert job.status is JobState.FAILED
    assert job.error == {
        "code": "E_ALL_REJECTED",
        "message": "none of the 40 records could be loaded; the rejects say why",
    }
    assert (job.failed_rows, job.inserted_rows) == (40, 0)


async def test_chunks_that_do_not_hold_what_was_uploaded(database: Database, psql: Psql) -> None:
    """A chunk row that went missing is never called success."""
    job_id = await make_job(database, [ONE] * 2)
    psql("delete from ingest.chunks where ordinal = 2")
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    await commit(database, chunk)
    await queue.finish(chunk)
    job = await view(database, job_id)
    assert job.status is JobState.FAILED
    assert job.error == {
        "code": "E_ACCOUNTING",
        "message": "the upload held 40 records but the chunks account for 20",
    }


async def test_a_paused_job_ends_with_its_last_running_chunk(database: Database, psql: Psql) -> None:
    """A pause stops new claims; what runs, ends."""
    job_id = await make_job(database, [ONE])
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    psql("update ingest.jobs set state = 'paused'")
    await commit(database, chunk)
    await queue.finish(chunk)
    assert (await view(database, job_id)).status is JobState.COMPLETED
