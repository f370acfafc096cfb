"""The heartbeat keeps leases alive, ends those that were lost, and goes on whatever happens to the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from ingest import heartbeat
from ingest.chunk import Chunk
from ingest.heartbeat import Pulse
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim
from tests.integration.build import numbers

LONG_S = 60.0
KILL = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ingest test heartbeat'"
Running = Callable[[Work], Awaitable[Pulse]]


@pytest.fixture
def running(nursery: trio.Nursery) -> Running:
    """Start the heartbeat of a worker; returns its pulse."""

    async def start(work: Work) -> Pulse:
        pulse = Pulse()
        nursery.start_soon(heartbeat.run, work, pulse)
        return pulse

    return start


async def beats(work: Work, psql: Psql, sql: str) -> None:
    """Wait until a question about leases and workers is answered with yes."""
    with trio.fail_after(LONG_S):
        while not await work.database.value(f"SELECT {sql}"):
            pass


async def test_leases_are_renewed(work: Work, job: MakeJob, psql: Psql, running: Running) -> None:
    """In the database and here: the run's deadline moves."""
    await work.queue.register("here", 1, "0")
    await job(numbers(5))
    with work.leases.hold(await claim(work), 1.0) as lease:
        before = lease.scope.deadline
        psql("update ingest.leases set heartbeat_at = 'epoch'; update ingest.workers set heartbeat_at = 'epoch'")
        pulse = await running(work)
        await beats(work, psql, "heartbeat_at > 'epoch' FROM ingest.leases")
        await beats(work, psql, "heartbeat_at > 'epoch' AND NOT draining FROM ingest.workers")
        with trio.fail_after(LONG_S):
            while lease.scope.deadline == before:
                await work.database.value("SELECT 1")
        assert lease.scope.deadline - trio.current_time() == pytest.approx(20, abs=5)
        assert pulse.age_s < 5
        work.stop.set()
        await beats(work, psql, "draining FROM ingest.workers")
    assert not lease.scope.cancelled_caught


@pytest.mark.parametrize("loss", ["delete from ingest.leases", "update ingest.leases set epoch = epoch + 1",
                                  "update ingest.leases set worker_id = gen_random_uuid()"])  # fmt: skip
async def test_a_lost_lease_ends_its_run_at_once(
    work: Work, job: MakeJob, psql: Psql, running: Running, loss: str
) -> None:
    """However it was lost; the other runs go on."""
    await job(numbers(5))
    await job(numbers(5))
    kept, lost = await work.queue.claim(2)
    ended: list[int] = []

    async def hold(chunk: Chunk) -> None:
        with work.leases.hold(chunk, 20):
            await trio.sleep_forever()
        ended.append(chunk.id)

    async with trio.open_nursery() as holding:
        for chunk in (kept, lost):
            holding.start_soon(hold, chunk)
        await trio.testing.wait_all_tasks_blocked()
        psql(f"{loss} where chunk_id = {lost.id}")
        await running(work)
        with trio.fail_after(LONG_S):
            while not ended:
                await work.database.value("SELECT 1")
        await beats(work, psql, f"count(*) = 1 FROM ingest.leases WHERE heartbeat_at > '{psql('select now()')}'")
        assert (ended, [lease.chunk.id for lease in work.leases]) == ([lost.id], [kept.id])
        holding.cancel_scope.cancel()


async def test_a_run_that_gives_its_lease_up_is_not_cancelled(
    work: Work, job: MakeJob, psql: Psql, running: Running
) -> None:
    """Its own transaction ends the lease; only silence would end the run."""
    await job(numbers(5))
    await job(numbers(5))
    ending, other = await work.queue.claim(2)
    with work.leases.hold(ending, 20) as lease, work.leases.hold(other, 20):
        work.leases.end(ending)
        psql(f"delete from ingest.leases where chunk_id = {ending.id}")
        await running(work)
        await beats(work, psql, f"count(*) = 1 FROM ingest.leases WHERE heartbeat_at > '{psql('select now()')}'")
        await trio.testing.wait_all_tasks_blocked()
    assert not lease.scope.cancel_called


async def test_a_busy_pool_does_not_stop_the_heartbeat(work: Work, job: MakeJob, psql: Psql, running: Running) -> None:
    """It has a connection of its own."""
    await job(numbers(5))
    with work.leases.hold(await claim(work), 20):
        async with trio.open_nursery() as busy:
            for _ in range(8):
                busy.start_soon(work.database.value, "SELECT pg_sleep(60)")
            with trio.fail_after(LONG_S):
                while work.database.statistics().idle or work.database.statistics().open < 8:
                    await trio.lowlevel.checkpoint()
            psql("update ingest.leases set heartbeat_at = 'epoch'")
            await running(work)
            with trio.fail_after(LONG_S):
                while psql("select heartbeat_at > 'epoch' from ingest.leases") != "t":
                    await trio.lowlevel.checkpoint()
            busy.cancel_scope.cancel()


async def test_a_lost_connection_is_no_end(make_work: MakeWork, job: MakeJob, psql: Psql, running: Running) -> None:
    """The next beat uses another one; a run ends only when its lease has run out."""
    work = make_work(WORKER_HEARTBEAT_INTERVAL="10")
    await job(numbers(5))
    with work.leases.hold(await claim(work), 20) as lease:
        await running(work)
        for _ in range(3):
            psql(KILL)
            psql("update ingest.leases set heartbeat_at = 'epoch'")
            await beats(work, psql, "heartbeat_at > 'epoch' FROM ingest.leases")
    assert not lease.scope.cancelled_caught
