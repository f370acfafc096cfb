"""Files whose bytes were there before: reported, or refused before anything of them can be claimed."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from ingest.database import Database
from ingest.errors import FileError, RequestError
from ingest.job import JobMode, JobState
from ingest.jobs import Jobs
from ingest.queue import Queue
from tests.conftest import Psql
from tests.integration.build import cut, numbers, receive
from tests.integration.queue.test_endings import view

TEN = cut(numbers(10))
SHA = bytes(range(32))


async def bring(database: Database, sha256: bytes = SHA, **options: object) -> UUID:
    """Upload a file with these bytes."""
    job_id = await receive(database, [TEN], **options)  # type: ignore[arg-type]
    await Jobs(database).complete_upload(job_id, bytes_total=100, sha256=sha256, records=10)
    return job_id


async def test_the_same_bytes_for_the_same_dataset_are_reported(database: Database, psql: Psql) -> None:
    """With the first job that brought them; other bytes, datasets and owners are no duplicates."""
    first = await bring(database)
    second, third = await bring(database), await bring(database)
    other = await bring(database, bytes(32))
    found = [(await view(database, job_id)).duplicate_of for job_id in (first, second, third, other)]
    assert found == [None, first, first, None]
    psql("update ingest.jobs set owner = 'ada'")
    assert (await view(database, await bring(database))).duplicate_of is None
    psql("update ingest.jobs set owner = null, dataset = 'other'")
    assert (await view(database, await bring(database))).duplicate_of is None


async def test_jobs_that_brought_nothing_do_not_count(database: Database, psql: Psql) -> None:
    """Failed and cancelled ones, broken uploads, and those that only tried."""
    await bring(database, mode=JobMode.VALIDATE)
    broken = await receive(database, [TEN])
    await Jobs(database).fail_upload(broken, FileError("x"))
    failed = await bring(database)
    psql(
        f"update ingest.jobs set state = 'failed', error_code = 'E', finished_at = now() where id = '{failed}';"
        f"update ingest.jobs set sha256 = '\\x{SHA.hex()}' where id = '{broken}'"
    )
    assert (await view(database, await bring(database))).duplicate_of is None


async def test_a_duplicate_that_is_not_wanted_is_refused_before_it_can_be_claimed(database: Database) -> None:
    """The refusal names the earlier job; the caller fails the upload as any other that broke."""
    first = await bring(database)
    queue = Queue(database, uuid4())
    await queue.claim(5)
    second = await receive(database, [TEN], refuse_duplicate=True)
    with pytest.raises(RequestError) as refused:
        await Jobs(database).complete_upload(second, bytes_total=100, sha256=SHA, records=10)
    assert (refused.value.code, refused.value.facts["duplicate_of"]) == ("E_DUPLICATE", first)
    assert await queue.claim(5) == []
    assert (await view(database, second)).status is JobState.RECEIVING


async def test_equal_files_at_the_same_moment(database: Database) -> None:
    """One gets in, the others are refused."""
    jobs = [await receive(database, [TEN], refuse_duplicate=True) for _ in range(6)]
    refused: list[UUID] = []

    async def finish(job_id: UUID) -> None:
        try:
            await Jobs(database).complete_upload(job_id, bytes_total=100, sha256=SHA, records=10)
        except RequestError:
            refused.append(job_id)

    async with trio.open_nursery() as nursery:
        for job_id in jobs:
            nursery.start_soon(finish, job_id)
    assert len(refused) == 5
    assert len(await Queue(database, uuid4()).claim(10)) == 1
