"""A failed job is tried again: its failed chunks, from the ledger, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from ingest.budget import Budget
from ingest.caller import Scope
from ingest.chunk import Chunk
from ingest.database import Database
from ingest.errors import FileError, LeaseLost, RequestError
from ingest.job import JobState
from ingest.jobs import Jobs
from ingest.keys import KeyLimits, Keys
from ingest.objectkeys import chunk_key
from ingest.queue import MAX_ATTEMPTS, Queue
from ingest.retrying import Retrying
from ingest.settings import Settings
from ingest.statements import statement
from ingest.storage import Storage, open_storage
from tests.conftest import Psql
from tests.integration.build import cut, make_job, numbers
from tests.integration.queue.test_endings import commit, view

DATA = numbers(20)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """An empty storage."""
    return open_storage(Settings.from_environment({"INGEST_HOME": str(tmp_path)}))


@pytest.fixture
def retrying(database: Database, storage: Storage) -> Retrying:
    """What is tested."""
    return Retrying(database, storage)


async def failed(
    database: Database, storage: Storage, *, good: int = 1, bad: int = 1, **options: object
) -> tuple[UUID, Queue, list[Chunk]]:
    """A job of stored chunks of two batches, of which the last `bad` have failed after their first batch."""
    folder, cuts = uuid4(), []
    for ordinal in range(1, good + bad + 1):
        stored = storage.create(chunk_key(folder, ordinal))
        stored.write(DATA)
        stored.seal()
        cuts.append(replace(cut(DATA), object_key=chunk_key(folder, ordinal)))
    queue = Queue(database, uuid4(), str(options.get("queue", "default")))
    job_id = await make_job(database, cuts, **options)  # type: ignore[arg-type]
    chunks = await queue.claim(good + bad)
    for chunk in chunks[:good]:
        await commit(database, chunk)
        await queue.finish(chunk)
    for chunk in chunks[good:]:
        await commit(database, chunk, 0, rejected=2)
        assert await queue.fail(chunk, FileError("the disk", code="E_DISK"), permanent=True, delay_s=0) == "failed"
    return job_id, queue, chunks[good:]


async def refusal(retrying: Retrying, job_id: UUID) -> RequestError:
    """Why the retry is refused."""
    with pytest.raises(RequestError) as caught:
        await retrying.retry(job_id)
    return caught.value


async def test_the_failed_chunk_runs_again_and_the_job_ends_well(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql
) -> None:
    """With the batch that was committed before it, once; tries start anew, epochs do not."""
    job_id, queue, [old] = await failed(database, storage)
    assert (await view(database, job_id)).status is JobState.FAILED
    job = await retrying.retry(job_id)
    assert (job.status, job.error, job.completed_at) == (JobState.PENDING, None, None)
    assert (job.chunks, job.inserted_rows, job.failed_rows) == (
        {"pending": 1, "processing": 0, "completed": 1, "failed": 0}, 28, 2
    )  # fmt: skip
    assert psql("select attempt, crash_count, epoch from ingest.chunks order by ordinal") == "1|0|1\n0|0|1"
    [chunk] = await queue.claim(9)
    assert (chunk.id, chunk.epoch, chunk.attempt) == (old.id, old.epoch + 1, 1)
    assert await queue.committed_starts(chunk) == {0}
    with pytest.raises(LeaseLost):
        await commit(database, old, 1)
    await commit(database, chunk, 1)
    await queue.finish(chunk)
    job = await view(database, job_id)
    assert (job.status, job.inserted_rows, job.failed_rows) == (JobState.COMPLETED, 38, 2)
    assert psql("select count(*) from ingest.ledger") == "4"


async def test_a_retry_that_fails_can_be_tried_again(database: Database, storage: Storage, retrying: Retrying) -> None:
    """It has all its tries."""
    job_id, queue, _ = await failed(database, storage)
    for _ in range(2):
        await retrying.retry(job_id)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            [chunk] = await queue.claim(1)
            assert chunk.attempt == attempt
            await queue.fail(chunk, FileError("x"), permanent=False, delay_s=0)
        assert (await view(database, job_id)).status is JobState.FAILED


async def test_two_retries_at_once_are_one(database: Database, storage: Storage, retrying: Retrying) -> None:
    """The other is told what the job is now."""
    job_id, queue, _ = await failed(database, storage, bad=3)
    outcomes: list[str] = []

    async def retry() -> None:
        try:
            outcomes.append((await retrying.retry(job_id)).status)
        except RequestError as error:
            outcomes.append(error.code)

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(retry)
    assert sorted(outcomes) == ["E_STATE", "E_STATE", "E_STATE", "pending"]
    assert len(await queue.claim(9)) == 3


@pytest.mark.parametrize("state", ["pending", "processing", "paused", "completed", "cancelled", "receiving"])
async def test_only_a_failed_job_is_retried(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql, state: str
) -> None:
    """The refusal says what it is."""
    job_id, _, _ = await failed(database, storage)
    ended = "finished_at" if state in ("completed", "cancelled") else "null"
    psql(f"update ingest.jobs set state = '{state}', finished_at = {ended}, records = 30")
    error = await refusal(retrying, job_id)
    assert (error.code, error.facts["state"]) == ("E_STATE", state)
    assert state in error.detail


async def test_chunks_whose_bytes_have_gone_are_not_retried(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql
) -> None:
    """Those that are there run; with none left, the file has to be sent again."""
    job_id, queue, [gone, there] = await failed(database, storage, bad=2)
    await storage.remove(gone.cut.object_key)
    await retrying.retry(job_id)
    [chunk] = await queue.claim(9)
    assert chunk.id == there.id
    await commit(database, chunk, 1)
    await queue.finish(chunk)
    assert (await view(database, job_id)).error == {
        "code": "E_DISK", "message": "1 of 3 chunks failed; the first: the disk"
    }  # fmt: skip
    error = await refusal(retrying, job_id)
    assert (error.code, "send the file again" in error.detail) == ("E_STATE", True)


@pytest.mark.parametrize("needs", ["in_order = true", "mode = 'atomic'"])
async def test_a_file_that_is_loaded_in_order_needs_all_its_bytes(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql, needs: str
) -> None:
    """Behind a chunk that has gone none would ever have its turn; with all of them there the job is tried again."""
    job_id, _, [_, second] = await failed(database, storage, bad=2)
    psql(f"update ingest.jobs set {needs}")
    stored = storage.create(second.cut.object_key)  # the same once more, to put it back
    stored.write(DATA)
    await storage.remove(second.cut.object_key)
    error = await refusal(retrying, job_id)
    assert (error.code, "no longer stored" in error.detail) == ("E_STATE", True)
    assert (
        psql("select state from ingest.jobs; select count(*) from ingest.chunks where state = 'failed'") == "failed\n2"
    )
    stored.seal()
    assert (await retrying.retry(job_id)).chunks["pending"] == 2


async def test_a_job_without_failed_chunks_is_not_retried(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql
) -> None:
    """Its upload broke, or all of it was rejected: there is nothing to run."""
    job_id, _, _ = await failed(database, storage, good=1, bad=1)
    psql("delete from ingest.chunks where state = 'failed'")
    assert "send the file again" in (await refusal(retrying, job_id)).detail


async def test_a_job_over_its_budget_is_not_retried(database: Database, storage: Storage, retrying: Retrying) -> None:
    """Its objects may be gone; and the same rejects would stop it again."""
    job_id, queue, _ = await failed(database, storage, good=0, bad=1, budget=Budget(rejects=10))
    await retrying.retry(job_id)
    [chunk] = await queue.claim(1)
    await commit(database, chunk, 1, rejected=10)
    assert await queue.enforce_budget(chunk)
    error = await refusal(retrying, job_id)
    assert (error.code, "max_rejects" in error.detail) == ("E_STATE", True)


async def test_a_job_of_ingest_load_is_not_retried_from_outside(
    database: Database, storage: Storage, retrying: Retrying
) -> None:
    """No worker of the service would take it: the command does that."""
    job_id, _, _ = await failed(database, storage, queue="load here")
    assert "ingest load" in (await refusal(retrying, job_id)).detail


async def test_an_unknown_job(retrying: Retrying) -> None:
    """Is not found."""
    assert (await refusal(retrying, uuid4())).code == "E_NOT_FOUND"


async def test_the_fate_of_chunks_is_shown(database: Database, storage: Storage) -> None:
    """Tries, the error, and when it is tried next."""
    job_id = await make_job(database, [cut(DATA)] * 2)
    queue = Queue(database, uuid4())
    waiting, broken = await queue.claim(2)
    await queue.fail(waiting, FileError("busy", code="E_BUSY"), permanent=False, delay_s=3600)
    await queue.fail(broken, FileError("no", code="E_NO"), permanent=True, delay_s=0)
    [first, second], total = await Jobs(database).chunks(job_id, page=1, limit=9)
    assert (first["status"], first["attempt"], first["error"]) == ("pending", 1, {"code": "E_BUSY", "message": "busy"})
    assert first["next_try_at"] is not None
    assert (second["status"], second["error"], second["next_try_at"], total) == (
        "failed", {"code": "E_NO", "message": "no"}, None, 2
    )  # fmt: skip


async def test_a_retried_job_counts_for_its_key_again(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql
) -> None:
    """Not beyond the open jobs that the key may have, whoever asks."""
    keys = Keys(database)
    key = await keys.create(owner="ada", scopes=[Scope.UPLOAD], expires_in=None, limits=KeyLimits(open_jobs=1))
    row = await keys.find(key.prefix)
    assert row is not None
    job_id, _, _ = await failed(database, storage, caller=row.caller)
    other = await make_job(database, [cut(DATA)], caller=row.caller)
    error = await refusal(retrying, job_id)
    assert (error.code, error.facts["limit"]) == ("E_QUOTA", "open_jobs")
    assert (await view(database, job_id)).status is JobState.FAILED
    await database.value(statement("cancel_job"), other, None)
    assert (await retrying.retry(job_id)).status is JobState.PENDING


async def test_the_retry_itself_looks_at_the_state_again(
    database: Database, storage: Storage, retrying: Retrying, psql: Psql
) -> None:
    """What was failed when somebody looked may run, or be over its budget, when the retry comes."""
    job_id, queue, [chunk] = await failed(database, storage)
    before = "select j.*, c.state, c.epoch from ingest.jobs j join ingest.chunks c on c.job_id = j.id order by ordinal"
    psql("update ingest.jobs set error_code = 'E_TOO_MANY_REJECTS'")
    unchanged = psql(before)
    assert await database.value(statement("retry_job"), job_id, [chunk.id], None) == 0
    assert psql(before) == unchanged
    psql("update ingest.jobs set error_code = 'E_DISK'")
    assert await database.value(statement("retry_job"), job_id, [], None) == 0
    assert await database.value(statement("retry_job"), job_id, [chunk.id], None) == 1
    await queue.claim(1)
    unchanged = psql(before)
    assert "processing" in unchanged
    assert await database.value(statement("retry_job"), job_id, [chunk.id], None) == 0
    assert psql(before) == unchanged
