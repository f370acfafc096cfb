"""What is committed without a NOTIFY is told right after: of each job, of the queue that has work, and to everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
from uuid_utils.compat import uuid7

from ingest import announcing
from ingest.announcing import ANY_JOB, Announcer
from ingest.batch import Batch, BatchResult
from ingest.database import Database, Notification, listen
from ingest.events import JOB_CHANNEL, WORK_CHANNEL
from ingest.job import NewJob
from ingest.jobs import Jobs
from ingest.ledger import commit_only_batch
from ingest.queue import Queue
from tests.conftest import Psql
from tests.integration.build import cut, numbers, spec

ONE = replace(cut(numbers(10)), ordinal=1)
LONG_S = 60.0
# What another process says in between: all before it that was to be heard has been heard.
MARK = Notification(WORK_CHANNEL, "mark")

Heard = trio.MemoryReceiveChannel[Notification]


@pytest.fixture
async def heard(database: Database, nursery: trio.Nursery) -> AsyncIterator[Heard]:
    """What is heard on both channels, from the first connection on."""
    send, receive = trio.open_memory_channel[Notification](1000)
    nursery.start_soon(listen, database, (JOB_CHANNEL, WORK_CHANNEL), send)
    with trio.fail_after(LONG_S), receive:
        assert await receive.receive() == Notification()
        yield receive


async def until_mark(heard: Heard, psql: Psql) -> list[Notification]:
    """Return what was heard so far."""
    psql(f"notify {MARK.channel}, '{MARK.payload}'")
    found = []
    while (told := await heard.receive()) != MARK:
        found.append(told)
    return found


def small() -> NewJob:
    """A job whose file is all there."""
    return NewJob(id=uuid7(), filename="f.csv", spec=spec(), priority=7, bytes_total=120)


def told(job_id: UUID) -> Notification:
    """That a job has changed."""
    return Notification(JOB_CHANNEL, str(job_id))


async def test_the_transactions_of_a_small_job_tell_nothing(database: Database, heard: Heard, psql: Psql) -> None:
    """Received, claimed, loaded and finished; whoever does it tells of it."""
    psql("create table t (n integer)")
    announcer, new, queue = Announcer(database), small(), Queue(database, uuid4())
    await Jobs(database, announcer).receive(new, [ONE], sha256=bytes(32))
    [chunk] = await queue.claim(1)
    batch = Batch(chunk=chunk, range=next(iter(chunk.ranges())), data=numbers(10), is_all=True)
    result = BatchResult(inserted=10)
    await database.transact(lambda session: commit_only_batch(session, batch, result))
    assert psql("select state from ingest.jobs") == "completed"
    assert await until_mark(heard, psql) == []

    stop = trio.Event()
    stop.set()
    await announcer.run(stop)
    assert await until_mark(heard, psql) == [told(new.id), Notification(WORK_CHANNEL, new.queue)]


async def test_what_changes_meanwhile_is_told_together(
    database: Database, heard: Heard, psql: Psql, nursery: trio.Nursery
) -> None:
    """Each job once; and at the end what is left."""
    announcer, stop, jobs = Announcer(database), trio.Event(), [uuid7() for _ in range(5)]
    nursery.start_soon(announcer.run, stop)
    await trio.testing.wait_all_tasks_blocked()
    for job_id in jobs * 2:
        announcer.tell(job_id)
    assert {await heard.receive() for _ in jobs} == set(map(told, jobs))
    announcer.tell(jobs[0], queue="q")
    stop.set()
    assert {await heard.receive() for _ in range(2)} == {told(jobs[0]), Notification(WORK_CHANNEL, "q")}
    assert await until_mark(heard, psql) == []


async def test_of_too_many_jobs_any_may_have_changed(
    database: Database, heard: Heard, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "MOST_JOBS", 3)
    announcer, stop = Announcer(database), trio.Event()
    for _ in range(4):
        announcer.tell(uuid7())
    stop.set()
    with trio.fail_after(LONG_S):
        await announcer.run(stop)
    assert await until_mark(heard, psql) == [Notification(JOB_CHANNEL, ANY_JOB)]


async def test_a_database_that_is_away_costs_the_announcement_only(
    database: Database, heard: Heard, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one is told."""
    announcer, stop, lost, next_one = Announcer(database), trio.Event(), uuid7(), uuid7()
    monkeypatch.setattr(announcing, "statement", lambda name: "select 1/0, $1::text[], $2::text[]")
    announcer.tell(lost)
    await announcer._announce()
    monkeypatch.undo()
    announcer.tell(next_one)
    stop.set()
    await announcer.run(stop)
    assert await until_mark(heard, psql) == [told(next_one)]


async def wal_writes(database: Database) -> int:
    """How often the connection that all take turns with has written WAL by itself, as a COMMIT does that waits for it."""
    await database.value("select pg_stat_force_next_flush()")
    counted = "select sum(writes) from pg_stat_get_backend_io(pg_backend_pid()) where object = 'wal'"
    return int(await database.value(counted) or 0)


async def test_telling_waits_for_no_disk(database: Database) -> None:
    """Or it would hold the lock for as long as the transactions did that it spares."""
    announcer, stop = Announcer(database), trio.Event()
    stop.set()
    at_first = await wal_writes(database)
    await database.execute("create table t (n integer)")
    before = await wal_writes(database)
    assert before > at_first
    announcer.tell(uuid7(), queue="q")
    await announcer.run(stop)
    assert await wal_writes(database) == before
