"""Idempotency keys at the database: who holds one, what it stands for, and that a request makes each job once."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest
import trio

from ingest.database import Database
from ingest.errors import RequestError
from ingest.idempotency import RequestKey, RequestKeys
from ingest.job import JobState, RequestPart
from ingest.jobs import Jobs
from tests.conftest import Psql
from tests.integration.build import complete, cut, numbers, receive
from tests.integration.queue.test_endings import view

TEN = cut(numbers(10))
SILENT = "update ingest.request_keys set renewed_at = renewed_at - interval '1 minute'"


@pytest.fixture
def keys(database: Database) -> RequestKeys:
    return RequestKeys(database, ttl_s=3600)


async def receive_part(database: Database, key: RequestKey, number: int = 1) -> UUID:
    """Write a job that a request has begun."""
    return await receive(database, [TEN], part=RequestPart(key_id=key.id, number=number, fingerprint=b"f"))


async def bring_part(database: Database, key: RequestKey, number: int = 1) -> UUID:
    """The same, complete."""
    job_id = await receive_part(database, key, number)
    await complete(database, job_id, [TEN])
    return job_id


async def test_one_of_many_holds_the_key(keys: RequestKeys) -> None:
    """However they race; the others hear that it is busy."""
    outcomes: list[str] = []

    async def begin() -> None:
        try:
            await keys.begin(None, "k")
            outcomes.append("held")
        except RequestError as busy:
            outcomes.append(busy.code)

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(begin)
    assert sorted(outcomes) == ["E_KEY_BUSY"] * 19 + ["held"]


async def test_a_key_that_brought_nothing_is_free(database: Database, keys: RequestKeys, psql: Psql) -> None:
    """The row goes, and the job that failed forgets it."""
    key = await keys.begin(None, "k")
    job_id = await receive_part(database, key)
    await Jobs(database).fail_upload(job_id, RequestError("x"))
    await keys.end(key, None)
    assert psql("select count(*) from ingest.request_keys") == "0"
    assert psql("select request_key is null from ingest.jobs") == "t"


async def test_a_served_key_is_held_by_nobody(database: Database, keys: RequestKeys) -> None:
    """Any number of repetitions may be answered at the same time."""
    key = await keys.begin(None, "k")
    job_id = await bring_part(database, key)
    await keys.end(key, 1)
    for _ in range(2):
        again = await keys.begin(None, "k")
        assert (again.id, again.parts) == (key.id, 1)
        found = await keys.earlier(again, 1)
        assert found is not None
        assert (found.job_id, found.fingerprint) == (job_id, b"f")
        assert await keys.earlier(again, 2) is None


async def test_a_crash_between_the_job_and_the_answer(database: Database, keys: RequestKeys, psql: Psql) -> None:
    """The job is found although nobody has said that the request was served."""
    job_id = await bring_part(database, await keys.begin(None, "k"))
    psql(SILENT)
    again = await keys.begin(None, "k")
    assert again.parts is None
    found = await keys.earlier(again, 1)
    assert found is not None
    assert found.job_id == job_id


async def test_a_holder_that_is_silent_is_replaced(database: Database, keys: RequestKeys, psql: Psql) -> None:
    """What it had begun is failed at once; it can neither complete it nor let the key go."""
    dead = await keys.begin(None, "k")
    job_id = await receive_part(database, dead)
    psql(SILENT)
    holder = await keys.begin(None, "k")
    assert (await view(database, job_id)).status is JobState.FAILED
    with pytest.raises(RequestError):
        await complete(database, job_id, [TEN])
    await keys.end(dead, None)
    with pytest.raises(RequestError, match="being received"):
        await keys.begin(None, "k")
    await bring_part(database, holder)


async def test_a_file_of_a_request_becomes_one_job(database: Database, keys: RequestKeys) -> None:
    """Also if two receivers should ever come to its end at the same moment."""
    key = await keys.begin(None, "k")
    jobs = [await receive_part(database, key) for _ in range(5)]
    done: list[UUID] = []

    async def finish(job_id: UUID) -> None:
        with suppress(RequestError):
            await complete(database, job_id, [TEN])
            done.append(job_id)

    async with trio.open_nursery() as nursery:
        for job_id in jobs:
            nursery.start_soon(finish, job_id)
    assert len(done) == 1


async def test_an_expired_key_stands_for_nothing(database: Database, keys: RequestKeys, psql: Psql) -> None:
    """Its jobs stay; a key that is held does not expire."""
    key = await keys.begin(None, "k")
    job_id = await bring_part(database, key)
    await keys.end(key, 1)
    psql("update ingest.request_keys set expires_at = now()")
    again = await keys.begin(None, "k")
    assert again.parts is None
    assert await keys.earlier(again, 1) is None
    assert (await view(database, job_id)).status is JobState.PENDING
    psql("update ingest.request_keys set expires_at = now()")
    with pytest.raises(RequestError, match="being received"):
        await keys.begin(None, "k")


async def test_keys_of_owners_are_apart(keys: RequestKeys) -> None:
    """Nobody's too."""
    held = [await keys.begin(owner, "k") for owner in (None, "ada", "alan")]
    assert len({key.id for key in held}) == 3
    with pytest.raises(RequestError):
        await keys.begin("ada", "k")
