"""A worker whose job is cancelled, paused or deleted while it runs: it stops at once, and says so without a warning."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
import trio

from ingest import chunkrun, heartbeat, worker
from ingest.control import Control
from ingest.heartbeat import Pulse
from ingest.job import JobMode, JobState
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim, settled, values, view
from tests.integration.actors.test_chunkrun import LONG_S, blocked, gate
from tests.integration.build import interactive, numbers

HOLD = "select pg_advisory_lock(1)"
FREE = "select pg_advisory_unlock(1)"


@pytest.fixture(autouse=True)
def target(psql: Psql) -> None:
    """The table; a batch with the number 35 waits in the middle of its COPY while somebody holds the lock."""
    psql("create table t (a integer)")
    gate(psql, "new.a = 35")


@pytest.fixture
def slow_work(make_work: MakeWork) -> Work:
    """A worker whose heartbeat comes by itself far too late."""
    return make_work(WORKER_CONCURRENT_BATCHES="1", WORKER_HEARTBEAT_INTERVAL="60000", WORKER_LEASE_TTL="600000")


def fates(logged: list[Any]) -> list[str]:
    """Why chunks were lost; nothing may have been a warning."""
    assert [line for line in logged if line["log_level"] in ("warning", "error")] == []
    return [line["fate"] for line in logged if line["event"] == "chunk_lost"]


@pytest.mark.parametrize("mode", [JobMode.BATCHES, JobMode.ATOMIC, JobMode.VALIDATE])
@pytest.mark.parametrize("action", ["cancel", "pause"])
async def test_a_running_job_stops_at_once(slow_work: Work, job: MakeJob, action: str, mode: JobMode) -> None:
    """Long before the heartbeat is due, in the middle of a batch, which is rolled back."""
    work = slow_work
    job_id = await job(numbers(95), mode=mode)
    with structlog.testing.capture_logs() as logged:
        async with interactive(work.database) as blocker, trio.open_nursery() as nursery:
            await blocker.execute(HOLD)
            nursery.start_soon(worker.run, work, Pulse())
            await blocked(work.database)
            done = await getattr(Control(work.database, work.storage), action)(job_id)
            rows = 30 if mode is JobMode.BATCHES else 0
            assert done.processed_rows == rows
            with trio.fail_after(LONG_S):
                while work.accounts.statistics().chunks:
                    await work.database.value("SELECT 1")
            work.stop.set()
        assert settled(work)
        assert fates(logged) == [{"cancel": "cancelled", "pause": "paused"}[action]]
    assert await values(work.database) == list(range(rows))


@pytest.mark.parametrize("mode", [JobMode.BATCHES, JobMode.ATOMIC])
async def test_a_paused_job_is_loaded_to_its_end(slow_work: Work, job: MakeJob, mode: JobMode) -> None:
    """By the same worker, each row once."""
    work, control = slow_work, Control(slow_work.database, slow_work.storage)
    job_id = await job(numbers(95), numbers(50, 95), mode=mode)
    with structlog.testing.capture_logs() as logged:
        async with interactive(work.database) as blocker, trio.open_nursery() as nursery:
            await blocker.execute(HOLD)
            nursery.start_soon(worker.run, work, Pulse())
            await blocked(work.database)
            await control.pause(job_id)
            await blocker.execute(FREE)
            await control.resume(job_id)
            with trio.fail_after(LONG_S):
                while (await view(work, job_id)).status is not JobState.COMPLETED:
                    pass
            work.stop.set()
    assert set(fates(logged)) <= {"paused"}
    assert await values(work.database) == list(range(145))


async def test_without_a_word_the_heartbeat_finds_out(work: Work, job: MakeJob) -> None:
    """Its answer no longer names the chunk."""
    job_id = await job(numbers(95))
    chunk = await claim(work)
    async with interactive(work.database) as blocker, trio.open_nursery() as nursery:
        await blocker.execute(HOLD)
        nursery.start_soon(heartbeat.run, work, Pulse())
        nursery.start_soon(chunkrun.run, chunk, work)
        await blocked(work.database)
        await Control(work.database, work.storage).cancel(job_id)
        with trio.fail_after(LONG_S):
            while len(work.leases):
                await work.database.value("SELECT 1")
        nursery.cancel_scope.cancel()
    assert settled(work)


async def test_without_a_heartbeat_the_fence_does(slow_work: Work, job: MakeJob) -> None:
    """At the next commit; a job that was deleted meanwhile is no trouble either."""
    work, control = slow_work, Control(slow_work.database, slow_work.storage)
    job_id = await job(numbers(95))
    chunk = await claim(work)
    with structlog.testing.capture_logs() as logged:
        async with interactive(work.database) as blocker, trio.open_nursery() as nursery:
            await blocker.execute(HOLD)
            nursery.start_soon(chunkrun.run, chunk, work)
            await blocked(work.database)
            await control.cancel(job_id)
            await control.delete(job_id)
            await blocker.execute(FREE)
    assert fates(logged) == ["deleted"]
    assert len(await values(work.database)) == 30


async def test_an_object_that_went_with_its_job_is_no_fault(work: Work, job: MakeJob, psql: Psql) -> None:
    """Cancelled between the claim and the first read."""
    job_id = await job(numbers(5))
    chunk = await claim(work)
    await Control(work.database, work.storage).cancel(job_id)
    for stored in await work.storage.listing():
        await work.storage.remove(stored.key)
    with structlog.testing.capture_logs() as logged:
        await chunkrun.run(chunk, work)
    assert fates(logged) == ["cancelled"]
    assert psql("select state, error_code from ingest.chunks") == "cancelled|"
