"""Cancel, pause, resume, priority and delete: what each leaves, whom it refuses, and who wins when two meet."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from ingest.control import Control
from ingest.database import Database
from ingest.errors import ConflictError, FileError, IngestError, LeaseLost, RequestError
from ingest.job import FINAL, JobMode, JobState
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_key
from ingest.queue import Queue
from ingest.retrying import Retrying
from ingest.settings import Settings
from ingest.statements import statement
from ingest.storage import Storage, open_storage
from tests.conftest import Psql
from tests.integration.build import complete, cut, interactive, make_job, numbers, receive
from tests.integration.queue.test_endings import commit, view

ONE = cut(numbers(20))  # two batches of ten
LONG_S = 60.0


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return open_storage(Settings.from_environment({"INGEST_HOME": str(tmp_path)}))


@pytest.fixture
def control(database: Database, storage: Storage) -> Control:
    """What is tested."""
    return Control(database, storage)


async def refusal(action: Awaitable[object]) -> RequestError:
    """Why an action is refused."""
    with pytest.raises(RequestError) as caught:
        await action
    return caught.value


async def ended(database: Database, state: JobState) -> UUID:
    """A job that has ended in this way."""
    job_id = await make_job(database, [ONE])
    queue = Queue(database, uuid4())
    chunk = next(chunk for chunk in await queue.claim(9) if chunk.job_id == job_id)
    if state is JobState.CANCELLED:
        await database.value(statement("cancel_job"), job_id, None)
    elif state is JobState.FAILED:
        await queue.fail(chunk, FileError("x"), permanent=True, delay_s=0)
    else:
        await commit(database, chunk)
        await queue.finish(chunk)
    assert (await view(database, job_id)).status is state
    return job_id


async def test_a_running_job_is_cancelled(database: Database, control: Control, psql: Psql) -> None:
    """It says what stayed; the batches after it find the fence closed, and nothing of it can be claimed."""
    job_id = await make_job(database, [ONE] * 3)
    queue = Queue(database, uuid4())
    first, second = await queue.claim(2)
    await commit(database, first, 0, rejected=1)
    job = await control.cancel(job_id, "ada")
    assert (job.status, job.inserted_rows, job.failed_rows, job.processed_rows) == (JobState.CANCELLED, 9, 1, 9)
    assert job.error == {
        "code": "E_CANCELLED",
        "message": "cancelled; 9 rows of the file are in the table and stay there",
    }
    assert job.completed_at is not None
    for chunk, batch in ((first, 1), (second, 0), (second, 1)):
        with pytest.raises(LeaseLost):
            await commit(database, chunk, batch)
        assert await queue.fate(chunk) == "cancelled"
    assert await queue.claim(9) == []
    assert psql("select count(*) from ingest.leases") == "0"
    assert psql("select state, inserted, rejected from ingest.chunks order by ordinal") == (
        "cancelled|9|1\ncancelled|0|0\ncancelled|0|0"
    )
    [line] = await control.audit(job_id)
    assert (line["actor"], line["action"], line["detail"]["was"], line["detail"]["inserted"]) == (
        "ada", "cancel", "processing", 9
    )  # fmt: skip


@pytest.mark.parametrize("started", [False, True])
async def test_a_job_of_which_nothing_was_loaded(database: Database, control: Control, started: bool) -> None:
    """Says so."""
    job_id = await make_job(database, [ONE])
    if started:
        await Queue(database, uuid4()).claim(1)
    job = await control.cancel(job_id)
    assert job.error == {"code": "E_CANCELLED", "message": "cancelled; nothing of the file is in the table"}
    assert job.inserted_rows == 0


@pytest.mark.parametrize("mode", [JobMode.ATOMIC, JobMode.VALIDATE])
async def test_of_a_load_as_a_whole_nothing_stays(
    database: Database, control: Control, mode: JobMode, psql: Psql
) -> None:
    """What was found to reject is still there to look at."""
    job_id = await make_job(database, [ONE] * 2, mode=mode)
    queue = Queue(database, uuid4())
    [lead] = await queue.claim(9)
    await queue.begin_whole(lead)
    psql(f"insert into ingest.rejects (job_id, chunk_id, line, byte_offset, code, message)"
         f" select '{job_id}', {lead.id}, line, 0, 'E', 'x' from unnest(array[3, 3, 4]) as line")  # fmt: skip
    job = await control.cancel(job_id)
    assert (job.processed_rows, job.failed_rows) == (0, 2)
    assert job.error
    assert job.error["message"] == "cancelled; the table is as it was"
    with pytest.raises(LeaseLost):
        await queue.begin_whole(lead)
    assert not await database.value(statement("pass_fence"), lead.id, lead.epoch)
    names = ("inserted", "updated", "unchanged", "skipped", "rejected")
    assert not await database.value(statement("finish_whole"), lead.id, lead.epoch, [lead.id], *[[0] for _ in names])


async def test_an_upload_is_cancelled(database: Database, control: Control, psql: Psql) -> None:
    """Its chunks go, and it learns of that whatever it does next."""
    job_id = await receive(database, [ONE])
    job = await control.cancel(job_id)
    assert (job.status, job.chunks["pending"]) == (JobState.CANCELLED, 0)
    assert job.error
    assert job.error["message"] == "cancelled while the file was being received; nothing of it is in the table"
    jobs = Jobs(database)
    assert (await refusal(jobs.add_chunk(job_id, ONE))).code == "E_UPLOAD_GONE"
    assert (await refusal(jobs.touch(job_id, 5))).code == "E_UPLOAD_GONE"
    assert (await refusal(complete(database, job_id, [ONE]))).code == "E_UPLOAD_GONE"
    await jobs.fail_upload(job_id, FileError("too late"))
    assert (await view(database, job_id)).status is JobState.CANCELLED
    assert psql("select count(*) from ingest.chunks") == "0"


async def test_the_objects_of_a_cancelled_and_of_a_deleted_job_go(
    database: Database, control: Control, storage: Storage
) -> None:
    """Those of other jobs stay."""
    ids = [await make_job(database, [ONE]), await ended(database, JobState.FAILED), uuid4()]
    for job_id in ids:
        stored = storage.create(chunk_key(job_id, 1))
        stored.write(b"1\n")
        stored.seal()
    await control.cancel(ids[0])
    await control.delete(ids[1])
    assert [stored.key for stored in await storage.listing()] == [chunk_key(ids[2], 1)]


async def test_a_paused_job_rests_until_it_is_resumed(database: Database, control: Control, psql: Psql) -> None:
    """Nothing is claimed or committed meanwhile; then the rest is, from the ledger, and no try was counted."""
    job_id = await make_job(database, [ONE] * 2)
    queue = Queue(database, uuid4())
    [first] = await queue.claim(1)
    await commit(database, first, 0)
    job = await control.pause(job_id)
    assert (job.status, job.processed_rows, job.completed_at) == (JobState.PAUSED, 10, None)
    with pytest.raises(LeaseLost):
        await commit(database, first, 1)
    assert await queue.fate(first) == "paused"
    assert not await queue.release(first)
    assert await queue.fail(first, FileError("x"), permanent=True, delay_s=0) == "stale"
    assert await queue.claim(9) == []
    assert psql("select state, attempt, epoch from ingest.chunks order by ordinal") == "pending|0|1\npending|0|0"
    chunks, _ = await Jobs(database).chunks(job_id, page=1, limit=9)
    assert [chunk["next_try_at"] for chunk in chunks] == [None, None]
    depth = await queue.depth()
    assert (depth.pending, depth.oldest_age_s) == (0, 0)
    assert (await control.resume(job_id)).status is JobState.PENDING
    again = await queue.claim(9)
    assert (again[0].id, again[0].epoch, again[0].attempt) == (first.id, 2, 1)
    assert await queue.committed_starts(again[0]) == {0}
    with pytest.raises(LeaseLost):
        await commit(database, first, 1)
    await commit(database, again[0], 1)
    await commit(database, again[1])
    for chunk in again:
        await queue.finish(chunk)
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows) == (JobState.COMPLETED, 40)
    assert [line["action"] for line in await control.audit(job_id)] == ["resume", "pause"]


async def test_a_pause_outlasts_a_rescue_and_a_farewell(database: Database, control: Control) -> None:
    """Neither hands out what rests."""
    job_id = await make_job(database, [ONE])
    queue = Queue(database, uuid4())
    await queue.register("here", 1, "0")
    await queue.claim(1)
    await control.pause(job_id)
    assert await queue.rescue(0, [queue.worker_id]) == 0
    await queue.unregister()
    assert await queue.claim(1) == []
    assert (await view(database, job_id)).status is JobState.PAUSED


ALLOWED = {
    "cancel": {JobState.RECEIVING, JobState.PENDING, JobState.PROCESSING, JobState.PAUSED},
    "pause": {JobState.PENDING, JobState.PROCESSING},
    "resume": {JobState.PAUSED},
    "prioritise": {JobState.RECEIVING, JobState.PENDING, JobState.PROCESSING, JobState.PAUSED},
    "delete": set(FINAL),
}


async def in_state(database: Database, state: JobState) -> UUID:
    """A job in this state."""
    if state in FINAL:
        return await ended(database, state)
    if state is JobState.RECEIVING:
        return await receive(database, [ONE])
    job_id = await make_job(database, [ONE])
    if state is JobState.PROCESSING:
        await Queue(database, uuid4()).claim(1)
    if state is JobState.PAUSED:
        await database.value(statement("pause_job"), job_id, None)
    return job_id


@pytest.mark.parametrize("action", ALLOWED)
@pytest.mark.parametrize("state", JobState)
async def test_each_action_in_each_state(
    database: Database, control: Control, psql: Psql, action: str, state: JobState
) -> None:
    """It happens, or it is refused with the state and changes nothing, the audit included."""
    job_id = await in_state(database, state)
    everything = "select j.*, c.* from ingest.jobs j left join ingest.chunks c on c.job_id = j.id; table ingest.leases; table ingest.audit"
    before = psql(everything)
    arguments = (7,) if action == "prioritise" else ()
    call: Callable[..., Awaitable[object]] = getattr(control, action)
    if state in ALLOWED[action]:
        await call(job_id, *arguments)
        assert (await control.audit(job_id))[0]["action"] == action
    else:
        error = await refusal(call(job_id, *arguments))
        assert (error.code, error.facts) == ("E_STATE", {"state": state})
        assert psql(everything) == before
    assert (await refusal(call(uuid4(), *arguments))).code == "E_NOT_FOUND"


async def test_a_deleted_job_leaves_only_its_rows_and_its_audit(
    database: Database, control: Control, psql: Psql
) -> None:
    """Chunks, ledger, rejects: all gone; another job's are not, and a child forgets whose child it was."""
    job_id, other = await ended(database, JobState.COMPLETED), await ended(database, JobState.COMPLETED)
    for owner in (job_id, other):
        psql(
            f"insert into ingest.rejects (job_id, chunk_id, line, byte_offset, code, message) values ('{owner}', 1, 2, 3, 'E', 'x')"
        )
    child = await make_job(database, [ONE], parent_id=job_id)
    await control.delete(job_id, "ada")
    assert await Jobs(database).get(job_id) is None
    assert (await view(database, child)).parent_id is None
    assert (
        psql(
            "select count(*) from ingest.rejects; select count(*) from ingest.ledger; select count(*) from ingest.chunks"
        )
        == "1\n2\n2"
    )
    [line] = await control.audit(job_id)
    assert (line["actor"], line["action"], line["detail"]["inserted"]) == ("ada", "delete", 20)


async def test_a_priority_decides_who_is_next(database: Database, control: Control) -> None:
    """Of chunks that wait, and of those that are still to come."""
    late, early = await make_job(database, [ONE]), await make_job(database, [ONE])
    coming = await receive(database, [ONE])
    await control.prioritise(early, 8)
    await control.prioritise(coming, 9)
    await Jobs(database).add_chunk(coming, cut(numbers(10), ordinal=2))
    await complete(database, coming, [ONE, cut(numbers(10))])
    queue = Queue(database, uuid4())
    assert [chunk.job_id for chunk in await queue.claim(9)] == [coming, coming, early, late]


async def test_the_audit_of_a_job_is_bounded(database: Database, control: Control, psql: Psql) -> None:
    """Whoever changes a job for ever does not fill the disk."""
    job_id = await make_job(database, [ONE])
    psql(f"select ingest.note_audit('{job_id}', null, 'pause', '{{}}') from generate_series(1, 1010)")
    assert psql("select count(*), max(id) from ingest.audit") == "1000|1010"


# Who wins


async def both(first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]]) -> list[str]:
    """Do two things at once; returns how each ended."""
    outcomes = ["", ""]

    async def one(place: int, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
            outcomes[place] = "done"
        except IngestError as error:
            outcomes[place] = error.code

    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, 0, first)
            nursery.start_soon(one, 1, second)
    return outcomes


async def test_two_cancels_are_one(database: Database, control: Control) -> None:
    """The other is told so."""
    for _ in range(5):
        job_id = await make_job(database, [ONE] * 3)
        await Queue(database, uuid4()).claim(2)
        outcomes = await both(partial(control.cancel, job_id), partial(control.cancel, job_id))
        assert sorted(outcomes) == ["E_STATE", "done"]
        assert len(await control.audit(job_id)) == 1


@pytest.mark.parametrize("action", ["cancel", "pause"])
async def test_a_batch_at_its_commit_is_waited_for_and_counted(
    database: Database, control: Control, action: str
) -> None:
    """It has passed the fence, so it is in; the next one is not."""
    job_id = await make_job(database, [ONE])
    [chunk] = await Queue(database, uuid4()).claim(1)
    async with interactive(database) as writer:
        await writer.execute("begin")
        first = next(chunk.ranges())
        values = (chunk.id, chunk.epoch, first.start, first.end, 2, 10, 10, 0, 0, 0, 0)
        assert await writer.value(statement("commit_batch"), *values) == "committed"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(getattr(control, action), job_id)
            with trio.fail_after(LONG_S):
                while not await database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    pass
            assert (await view(database, job_id)).status is JobState.PROCESSING
            await writer.execute("commit")
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows) == ({"cancel": "cancelled", "pause": "paused"}[action], 10)
    with pytest.raises(LeaseLost):
        await commit(database, chunk, 1)


async def test_a_claim_that_has_looked_before_a_pause_finds_nothing(database: Database, control: Control) -> None:
    """It has seen the job as pending, and is then held up until the pause has come and gone."""
    other, job_id = await make_job(database, [ONE]), await make_job(database, [ONE])
    claimed: list[UUID] = []

    async def claim() -> None:
        async with interactive(database) as claimer:
            await claimer.execute("begin")
            await claimer.execute(
                "create or replace function ingest.has_its_turn(p_chunk ingest.chunks, p_job ingest.jobs) returns boolean"
                " language plpgsql as $$ begin perform pg_advisory_xact_lock_shared(1); return true; end $$"
            )
            sql = "select array_agg(job_id) from ingest.claim_chunks(gen_random_uuid(), 'default', 9)"
            claimed.extend(await claimer.value(sql))

    async with interactive(database) as blocker, trio.open_nursery() as nursery:
        await blocker.execute("select pg_advisory_lock(1)")
        nursery.start_soon(claim)
        with trio.fail_after(LONG_S):
            while not await database.value("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'"):
                pass
        await control.pause(job_id)
        await blocker.execute("select pg_advisory_unlock(1)")
    assert claimed == [other]


async def test_a_cancel_against_a_finish(database: Database, control: Control) -> None:
    """One of them ends the job, and the other is told."""
    seen = set()
    for _ in range(10):
        job_id = await make_job(database, [ONE])
        queue = Queue(database, uuid4())
        [chunk] = await queue.claim(1)
        await commit(database, chunk)
        outcomes = await both(partial(control.cancel, job_id), partial(queue.finish, chunk))
        job = await view(database, job_id)
        seen.add(job.status)
        assert (outcomes, job.status, job.inserted_rows) in [
            (["done", "E_LEASE_LOST"], JobState.CANCELLED, 20), (["E_STATE", "done"], JobState.COMPLETED, 20)
        ]  # fmt: skip
    assert seen <= {JobState.CANCELLED, JobState.COMPLETED}


async def test_a_cancel_against_the_end_of_an_upload(database: Database, control: Control) -> None:
    """Whoever is first: the job is cancelled, as a whole file or as a part of one, and nothing is left to claim."""
    for _ in range(10):
        job_id = await receive(database, [ONE] * 3)
        outcomes = await both(partial(control.cancel, job_id), partial(complete, database, job_id, [ONE] * 3))
        assert outcomes in (["done", "E_UPLOAD_GONE"], ["done", "done"])
        assert (await view(database, job_id)).status is JobState.CANCELLED
        assert await Queue(database, uuid4()).claim(9) == []


async def test_a_delete_against_a_retry(database: Database, control: Control, storage: Storage, psql: Psql) -> None:
    """The job is gone, or it runs again; never both, and nothing of it lies about."""
    for _ in range(10):
        job_id = await make_job(database, [ONE])
        queue = Queue(database, uuid4())
        [chunk] = await queue.claim(1)
        psql(f"update ingest.chunks set object_key = '{chunk_key(job_id, 1)}' where id = {chunk.id}")
        stored = storage.create(chunk_key(job_id, 1))
        stored.write(numbers(20))
        stored.seal()
        await queue.fail(chunk, FileError("x"), permanent=True, delay_s=0)
        outcomes = await both(partial(control.delete, job_id), partial(Retrying(database, storage).retry, job_id))
        job = await Jobs(database).get(job_id)
        if outcomes[0] == "done":
            assert outcomes[1] in ("E_NOT_FOUND", "E_STATE")
            assert job is None
            assert psql("select count(*) from ingest.chunks") == "0"
        else:
            assert outcomes == ["E_STATE", "done"]
            assert job is not None
            assert job.status is JobState.PENDING
            await control.cancel(job_id)
            await control.delete(job_id)


async def test_a_lock_that_is_in_the_way_is_waited_for_again(
    database: Database, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as it is worth it."""
    job_id = await make_job(database, [ONE])
    real, left = database.value, [2]

    async def value(sql: str, *args: object) -> object:
        if "pause_job" in sql and left[0]:
            left[0] -= 1
            raise ConflictError("deadlock detected", sqlstate="40P01")
        return await real(sql, *args)

    monkeypatch.setattr(database, "value", value)
    assert (await control.pause(job_id)).status is JobState.PAUSED
    left[0] = 1000
    with pytest.raises(ConflictError):
        await control.pause(job_id)


async def test_everything_at_once(database: Database, control: Control, storage: Storage, psql: Psql) -> None:
    """Workers that claim, commit, finish, fail and release, a rescuer, and people who change their minds: no deadlock
    reaches anybody, and in the end every count adds up."""
    jobs = [await make_job(database, [ONE] * 4) for _ in range(3)]
    dice = random.Random(4)

    async def worker() -> None:
        queue = Queue(database, uuid4())
        for _ in range(25):
            for chunk in await queue.claim(2):
                done = await queue.committed_starts(chunk)
                try:
                    for place, extent in enumerate(chunk.ranges()):
                        if extent.start not in done:
                            await commit(database, chunk, place)
                    fate = dice.random()
                    if fate < 0.6:
                        await queue.finish(chunk)
                    elif fate < 0.8:
                        await queue.release(chunk)
                    else:
                        await queue.fail(chunk, FileError("x"), permanent=False, delay_s=0)
                except LeaseLost:
                    pass

    async def person() -> None:
        actions = [
            control.pause,
            control.resume,
            control.resume,
            control.resume,
            partial(control.prioritise, priority=3),
        ]
        for _ in range(25):
            with suppress(RequestError):  # it was too late or too early
                await dice.choice(actions)(dice.choice(jobs))  # type: ignore[operator]

    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(worker)
                nursery.start_soon(person)
    # Nothing was committed twice, and what is not finished can be.
    assert (
        psql("select count(*) from (select 1 from ingest.ledger group by chunk_id, byte_start having count(*) > 1) d")
        == "0"
    )
    for job_id in jobs:
        if (await view(database, job_id)).status not in FINAL:
            job = await control.cancel(job_id)
            committed = psql(
                f"select coalesce(sum(g.inserted), 0) from ingest.ledger g join ingest.chunks c on c.id = g.chunk_id where c.job_id = '{job_id}'"
            )
            assert job.inserted_rows == int(committed)
