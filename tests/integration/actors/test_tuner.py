"""The tuner lets the writers be more where the way to the database is long, and fewer where locks are in the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from uuid import UUID

import pytest
import trio

from ingest import poller, tuner
from ingest.database import Database, open_database
from ingest.job import FINAL
from ingest.work import Work
from scripts.benchmark.proxy import Proxy, proxied
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, counted, settled, values, view
from tests.integration.build import numbers

LONG_S = 120.0
AWAY_S = 0.1
LOOK_S = 0.02
RECORDS = 30_000


@pytest.fixture(autouse=True)
def target(psql: Psql) -> None:
    """The table."""
    psql("create table t (a integer)")


@pytest.fixture(autouse=True)
def _roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a thousand tests before these have left in the process is not for the tuner to act on."""
    monkeypatch.setattr(tuner, "is_tight", lambda: False)


@pytest.fixture
def proxy(dsn: str) -> Iterator[Proxy]:
    """A way to the database that takes AWAY_S."""
    with proxied(dsn, latency_s=AWAY_S) as proxy:
        yield proxy


@pytest.fixture
async def far(proxy: Proxy) -> AsyncIterator[Database]:
    """The database over that way."""
    async with open_database(proxy.dsn, pool_size=24) as database:
        yield database


async def run(work: Work) -> None:
    """Poll, with a tuner beside it, until the worker is told to stop."""
    async with trio.open_nursery() as beside:
        beside.start_soon(tuner.run, work)
        await poller.run(work)
        beside.cancel_scope.cancel(reason="drained")


async def until(fact: Callable[[], bool]) -> None:
    """Wait for something."""
    while not fact():  # noqa: ASYNC110
        await trio.sleep(LOOK_S)


def changed(work: Work, reason: str) -> bool:
    """Whether the number of writers has been changed for a reason."""
    return any(change.reason == reason for change in work.lanes.changes)


async def ended(work: Work, job_id: UUID) -> None:
    """Wait for a job's end."""
    while (await view(work, job_id)).status not in FINAL:  # noqa: ASYNC110
        await trio.sleep(LOOK_S)


async def test_writers_grow_where_the_way_is_long(make_work: MakeWork, job: MakeJob, far: Database) -> None:
    """Lanes, slots and connections with them; and a worker that is told to stop ends in good order."""
    work = make_work(far, WORKER_CONCURRENT_BATCHES="auto")
    began = work.lanes.writers
    await job(numbers(RECORDS), batch_records=100)
    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, work)
            await until(lambda: changed(work, "climb"))
            assert began < work.lanes.writers <= work.settings.most_writers
            await until(lambda: work.lanes.busy > began + 2)
            work.stop.set()
    assert settled(work)
    assert work.lanes.busy == 0
    assert counted(work).value("ingest_writer_changes_total", reason="climb") >= 1
    assert far.statistics().open <= far.statistics().limit


async def test_writers_get_fewer_while_locks_are_waited_for(
    make_work: MakeWork, job: MakeJob, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody holds the table; when it is free again, every record comes in once."""
    monkeypatch.setattr(tuner, "LONG_BATCH_S", 0.1)
    work = make_work(WORKER_CONCURRENT_BATCHES="auto")
    began = work.lanes.writers
    job_id = await job(numbers(2000), batch_records=100)
    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery, database.hold() as somebody:
            await somebody.run(lambda session: session.execute("BEGIN; LOCK TABLE t"))
            nursery.start_soon(run, work)
            await until(lambda: changed(work, "lock"))
            assert work.lanes.writers == began // 2
            await somebody.run(lambda session: session.execute("ROLLBACK"))
            await ended(work, job_id)
            work.stop.set()
    assert sorted(await values(work.database)) == list(range(2000))
    assert settled(work)


async def test_conflicts_make_them_fewer(make_work: MakeWork, job: MakeJob, psql: Psql) -> None:
    """Each batch fails once as if by a deadlock; the records are in, each once."""
    psql("create sequence tries; create function fail() returns trigger language plpgsql as $$ begin "
         "if nextval('tries') < 4 then raise exception 'd' using errcode = '40P01'; end if; return null; end $$;"
         "create trigger fail after insert on t for each statement execute function fail()")  # fmt: skip
    work = make_work(WORKER_CONCURRENT_BATCHES="auto")
    job_id = await job(numbers(20_000), batch_records=100)
    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, work)
            await until(lambda: changed(work, "conflict"))
            await ended(work, job_id)
            work.stop.set()
    assert sorted(await values(work.database)) == list(range(20_000))


async def test_a_number_that_was_set_stays(work: Work) -> None:
    """There is nothing for the tuner to do."""
    with trio.fail_after(LONG_S):
        await tuner.run(work)
    assert (work.lanes.writers, list(work.lanes.changes)) == (4, [])
