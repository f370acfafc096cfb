"""A job while it is received: nothing of it can be claimed before it is whole, nothing is left of one that broke."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import trio
from uuid_utils.compat import uuid7

from ingest.database import Database
from ingest.errors import FileError, RequestError, UnavailableError
from ingest.job import JobState, Load, NewJob
from ingest.jobs import Jobs
from ingest.queue import Queue
from ingest.statements import statement
from tests.conftest import Psql
from tests.integration.build import complete, cut, interactive, numbers, receive, spec

ONE = cut(numbers(10))
LONG_S = 60.0


async def state_of(database: Database, job_id: UUID) -> JobState:
    """Where the job stands."""
    job = await Jobs(database).get(job_id)
    assert job is not None
    return job.status


async def test_job_and_chunks_become_claimable_together(database: Database, psql: Psql) -> None:
    """Not one of them before the upload is complete."""
    job_id = await receive(database, [ONE] * 3)
    queue = Queue(database, uuid4())
    assert await queue.claim(10) == []
    assert psql("select distinct state from ingest.chunks") == "receiving"
    await complete(database, job_id, [ONE] * 3)
    assert len(await queue.claim(10)) == 3


async def test_a_completed_upload_shows_its_figures(database: Database) -> None:
    """Size, digest, records; received and total are the same."""
    job_id = await receive(database, [ONE])
    view = await Jobs(database).complete_upload(job_id, bytes_total=120, sha256=bytes(range(32)), records=10)
    assert (view.status, view.bytes_total, view.bytes_received, view.total_rows) == (JobState.PENDING, 120, 120, 10)
    assert view.sha256 == bytes(range(32)).hex()


async def test_a_file_without_records_has_ended_already(database: Database) -> None:
    """Completed at once, since there is no chunk that could end it."""
    job_id = await receive(database, [])
    view = await Jobs(database).complete_upload(job_id, bytes_total=5, sha256=bytes(32), records=0)
    assert (view.status, view.progress, view.processed_rows) == (JobState.COMPLETED, 1.0, 0)


def small(**options: object) -> NewJob:
    """A job whose file is all there."""
    known = {"id": uuid7(), "filename": "f.csv", "spec": spec(), "priority": 7, "bytes_total": 120}
    return NewJob(**{**known, **options})  # type: ignore[arg-type]


async def test_a_whole_file_is_a_job_at_once(database: Database) -> None:
    """As it would be in several steps: claimable, and shown as it is read back."""
    jobs, new = Jobs(database), small()
    view = await jobs.receive(new, [replace(ONE, ordinal=1)], sha256=bytes(range(32)))
    assert view == await jobs.get(new.id)
    assert (view.status, view.bytes_received, view.total_rows) == (JobState.PENDING, 120, 10)
    [chunk] = await Queue(database, uuid4()).claim(10)
    assert (chunk.job_id, chunk.cut.ordinal, chunk.spec) == (new.id, 1, new.spec)


@pytest.mark.parametrize("chunks", [0, 2])
async def test_a_whole_file_of_any_number_of_chunks(database: Database, chunks: int) -> None:
    """They are written one by one."""
    cuts = [replace(ONE, ordinal=ordinal) for ordinal in range(1, chunks + 1)]
    view = await Jobs(database).receive(small(), cuts, sha256=bytes(32))
    assert (view.status, view.total_rows) == (JobState.PENDING if chunks else JobState.COMPLETED, 10 * chunks)


async def test_a_whole_file_that_was_loaded_before_is_refused(database: Database, psql: Psql) -> None:
    """The job is there to say so, and nothing of it can be claimed."""
    jobs, first, second = Jobs(database), small(), small(refuse_duplicate=True)
    await jobs.receive(first, [ONE], sha256=bytes(range(32)))
    with pytest.raises(RequestError) as refused:
        await jobs.receive(second, [ONE], sha256=bytes(range(32)))
    assert (refused.value.code, refused.value.facts["duplicate_of"]) == ("E_DUPLICATE", first.id)
    await jobs.fail_upload(second.id, refused.value)
    assert await state_of(database, second.id) is JobState.FAILED
    assert psql("select count(*) from ingest.chunks") == "1"
    third = await jobs.receive(small(), [ONE], sha256=bytes(range(32)))
    assert third.duplicate_of == first.id


async def test_bytes_received_never_fall(database: Database) -> None:
    """Signs of life may overtake one another."""
    job_id, jobs = await receive(database, []), Jobs(database)
    for received in (100, 50, 200):
        await jobs.touch(job_id, received)
    view = await jobs.get(job_id)
    assert view is not None
    assert view.bytes_received == 200


async def test_a_failed_upload_leaves_no_chunk(database: Database, psql: Psql) -> None:
    """The job says why; data that comes after it is refused."""
    job_id, jobs = await receive(database, [ONE] * 2), Jobs(database)
    await jobs.fail_upload(job_id, FileError("the quote", code="E_QUOTE_OPEN"))
    view = await jobs.get(job_id)
    assert view is not None
    assert view.status is JobState.FAILED
    assert view.error == {"code": "E_QUOTE_OPEN", "message": "the quote"}
    assert psql("select count(*) from ingest.chunks") == "0"
    for refused in (jobs.add_chunk(job_id, ONE), complete(database, job_id, [ONE]), jobs.touch(job_id, 999)):
        with pytest.raises(RequestError) as raised:
            await refused
        assert raised.value.code == "E_UPLOAD_GONE"
    assert psql("select bytes_received from ingest.jobs") == "0"


async def test_a_file_with_forgotten_chunks_is_not_complete(database: Database, psql: Psql) -> None:
    """A crashed server forgets chunks that were not waited for: the client hears of it, instead of half a load."""
    for load in Load:
        job_id = await receive(database, [ONE] * 3, load=load)
        psql(f"delete from ingest.chunks where ordinal = 2 and job_id = '{job_id}'")
        with pytest.raises(UnavailableError, match="send it again"):
            await complete(database, job_id, [ONE] * 3)
        assert await state_of(database, job_id) is JobState.RECEIVING


async def test_a_completed_upload_cannot_fail_any_more(database: Database, psql: Psql) -> None:
    """Late failures, second completions and late chunks change nothing."""
    job_id, jobs = await receive(database, [ONE]), Jobs(database)
    await complete(database, job_id, [ONE])
    await jobs.fail_upload(job_id, FileError("late"))
    with pytest.raises(RequestError):
        await complete(database, job_id, [ONE])
    with pytest.raises(RequestError):
        await jobs.add_chunk(job_id, cut(numbers(5), ordinal=2))
    assert await state_of(database, job_id) is JobState.PENDING
    assert psql("select state from ingest.chunks") == "pending"


async def test_completing_and_failing_at_once(database: Database, psql: Psql) -> None:
    """One of them wins, whole: claimable with all its chunks, or failed with none."""
    for _ in range(20):
        job_id, jobs = await receive(database, [ONE] * 2), Jobs(database)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.value, "SELECT ingest.complete_upload($1, 100, NULL, 20)", job_id)
            nursery.start_soon(jobs.fail_upload, job_id, FileError("x"))
        found = (
            await state_of(database, job_id),
            psql(f"select state, count(*) from ingest.chunks where job_id = '{job_id}' group by 1"),
        )
        assert found in ((JobState.PENDING, "pending|2"), (JobState.FAILED, ""))


@pytest.mark.parametrize(
    "ending", ["SELECT ingest.complete_upload($1, 100, NULL, 20)", "SELECT ingest.fail_upload($1, 'E', 'm')"]
)
async def test_a_chunk_that_comes_while_the_upload_ends(database: Database, psql: Psql, ending: str) -> None:
    """It is in before the end, or refused: no chunk is left in a state that nobody looks at."""
    job_id, jobs = await receive(database, [ONE]), Jobs(database)
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        await other.execute(statement("add_chunk"), job_id, 2, "k", 0, 20, 120, 12, 10, [20], [10], [10], [0], [], None)
        nursery.start_soon(database.value, ending, job_id)
        with trio.fail_after(LONG_S):
            while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
        await other.execute("COMMIT")
    expected = "pending|2" if "complete" in ending else ""
    assert psql("select state, count(*) from ingest.chunks group by 1") == expected
    with pytest.raises(RequestError):
        await jobs.add_chunk(job_id, cut(numbers(5), ordinal=3))


async def test_uploads_whose_receiver_died(database: Database, psql: Psql) -> None:
    """Silent for too long: failed, their chunks gone; the others are left alone."""
    silent, alive = await receive(database, [ONE]), await receive(database, [ONE])
    psql(f"update ingest.jobs set updated_at = now() - interval '10 min' where id = '{silent}'")
    rows = await database.fetch(statement("end_uploads"), timedelta(minutes=5))
    assert [row["job_id"] for row in rows] == [silent]
    assert await database.fetch(statement("end_uploads"), timedelta(minutes=5)) == []
    assert (await state_of(database, silent), await state_of(database, alive)) == (JobState.FAILED, JobState.RECEIVING)
    assert psql(f"select count(*) from ingest.chunks where job_id = '{silent}'") == "0"


async def test_pages_of_jobs(database: Database, psql: Psql) -> None:
    """Newest first, filtered, with the count of all."""
    ids = [await receive(database, []) for _ in range(5)]
    jobs = Jobs(database)
    await jobs.fail_upload(ids[0], FileError("x"))
    views, total = await jobs.page(page=1, limit=2)
    assert ([view.id for view in views], total) == ([ids[4], ids[3]], 5)
    views, total = await jobs.page(page=3, limit=2)
    assert ([view.id for view in views], total) == ([ids[0]], 5)
    views, total = await jobs.page(page=1, limit=10, status="failed", dataset="public.t")
    assert ([view.id for view in views], total) == ([ids[0]], 1)
    assert await jobs.page(page=1, limit=10, dataset="other") == ([], 0)
    assert await jobs.get(uuid4()) is None


async def test_state_changes_are_announced_once_each(database: Database, psql: Psql) -> None:
    """To whoever listens to jobs and to work. That a chunk was claimed is for the claimer to tell: `announcing`."""
    heard: list[tuple[str, str]] = []
    async with interactive(database) as other:
        for channel in ("ingest_job", "ingest_work"):
            await database.cross(
                other.connection.add_listener, channel, lambda _c, _pid, name, text: heard.append((name, text))
            )
        job_id = await receive(database, [ONE])
        await complete(database, job_id, [ONE])
        queue = Queue(database, uuid4())
        [chunk] = await queue.claim(1)
        await queue.release(chunk)
        [chunk] = await queue.claim(1)
        await queue.fail(chunk, FileError("x"), permanent=True, delay_s=0)
        await other.execute("SELECT 1")
    job, work = ("ingest_job", str(job_id)), ("ingest_work", "default")
    assert heard == [job, work, work, job]
