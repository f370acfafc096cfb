"""The poller claims what it can start, as soon as there is something, and drains when it is told to."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ingest import chunkrun, poller, worker
from ingest.chunk import Chunk
from ingest.database import open_database
from ingest.errors import UnavailableError
from ingest.heartbeat import Pulse
from ingest.job import JobState
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, settled, values, view
from tests.integration.build import numbers

LONG_S = 60.0


class Runs:
    """Stands in for the chunk runs: each lasts until it is let go."""

    def __init__(self) -> None:
        self.running: dict[int, trio.Event] = {}
        self.most = 0
        self.ended: list[int] = []
        self.changed = trio.Event()

    async def run(self, chunk: Chunk, work: Work) -> None:
        """In place of chunkrun.run."""
        self.running[chunk.id] = trio.Event()
        self.most = max(self.most, len(self.running))
        self._tell()
        try:
            await self.running[chunk.id].wait()
        finally:
            del self.running[chunk.id]
            self.ended.append(chunk.id)
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, running: int, ended: int) -> None:
        """Wait until so many run and have ended."""
        with trio.fail_after(LONG_S):
            while (len(self.running), len(self.ended)) != (running, ended):
                await self.changed.wait()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Chunk runs that end when the test says so; no chunk is small."""
    runs = Runs()
    monkeypatch.setattr(poller, "SMALL_BYTES", 0)
    monkeypatch.setattr(chunkrun, "run", runs.run)
    return runs


async def test_never_more_than_it_may_run(work: Work, job: MakeJob, runs: Runs, psql: Psql) -> None:
    """Two of five at a time; the next one as soon as one has ended, in order."""
    await job(*[numbers(5)] * 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        for ended in range(4):
            await runs.until(running=2, ended=ended)
            assert psql("select count(*) from ingest.chunks where state = 'processing'") == str(2 + ended)
            runs.running[min(runs.running)].set()
        await runs.until(running=1, ended=4)
        runs.running[min(runs.running)].set()
        await runs.until(running=0, ended=5)
        work.stop.set()
        work.wake.set()
    assert runs.most == 2
    assert runs.ended == sorted(runs.ended)


async def test_small_chunks_share_a_place(
    work: Work, job: MakeJob, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six of them, in each of two."""
    monkeypatch.setattr(poller, "SMALL_BYTES", 1000)
    await job(*[numbers(5)] * 13)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await runs.until(running=12, ended=0)
        runs.running[min(runs.running)].set()
        await runs.until(running=12, ended=1)
        work.stop.set()
        for ending in list(runs.running.values()):
            ending.set()
        work.wake.set()
    assert runs.most == 12


async def test_nothing_is_claimed_after_the_stop(work: Work, job: MakeJob, runs: Runs, psql: Psql) -> None:
    """What runs is waited for; then the poller returns by itself."""
    await job(*[numbers(5)] * 5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await runs.until(running=2, ended=0)
        work.stop.set()
        for started in list(runs.running.values()):
            started.set()
    assert (len(runs.ended), psql("select count(*) from ingest.chunks where state = 'pending'")) == (2, "3")


async def test_a_notification_is_faster_than_the_interval(make_work: MakeWork, job: MakeJob, runs: Runs) -> None:
    """With polls an hour apart, work that is announced is begun at once."""
    work = make_work(WORKER_POLL_INTERVAL="60000")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, work, Pulse())
        with trio.fail_after(LONG_S):
            while not await work.database.value("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"):
                pass
        for ended in range(3):
            await job(numbers(5))
            await runs.until(running=1, ended=ended)
            runs.running[min(runs.running)].set()
            await runs.until(running=0, ended=ended + 1)
        work.stop.set()


async def test_polling_alone_is_enough(work: Work, job: MakeJob, runs: Runs) -> None:
    """Nobody listens: the interval finds it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await job(numbers(5))
        await runs.until(running=1, ended=0)
        nursery.cancel_scope.cancel()


async def test_a_database_that_is_away_is_no_end(
    work: Work, job: MakeJob, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims that fail are repeated at the next poll."""
    claim, failed = work.queue.claim, 0

    async def failing(limit: int) -> list[Chunk]:
        nonlocal failed
        failed += 1
        if failed <= 3:
            raise UnavailableError("away", sqlstate="08006")
        return await claim(limit)

    monkeypatch.setattr(work.queue, "claim", failing)
    await job(numbers(5))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await runs.until(running=1, ended=0)
        nursery.cancel_scope.cancel()
    assert failed > 3


async def test_a_claim_in_progress_is_not_cut_off(
    work: Work, job: MakeJob, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in the middle of a claim, the chunk is run and so handed back, not left to nobody."""
    await job(numbers(5))
    claim, claiming = work.queue.claim, trio.Event()

    async def slow(limit: int) -> list[Chunk]:
        claiming.set()
        chunks = await claim(limit)
        await work.database.value("SELECT pg_sleep(0.05)")
        return chunks

    monkeypatch.setattr(work.queue, "claim", slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await claiming.wait()
        nursery.cancel_scope.cancel()
    assert psql("select state, attempt, epoch from ingest.chunks") == "pending|0|1"
    assert settled(work)


async def test_cancelled_runs_are_all_ended(work: Work, job: MakeJob, runs: Runs) -> None:
    """None outlives the poller."""
    await job(*[numbers(5)] * 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run, work)
        await runs.until(running=2, ended=0)
        nursery.cancel_scope.cancel()
    assert (len(runs.running), len(runs.ended)) == (0, 2)


async def test_a_whole_worker(work: Work, job: MakeJob, psql: Psql) -> None:
    """It registers, loads all there is, drains, and leaves nothing behind: no worker, no lease, no object."""
    psql("create table t (a integer)")
    jobs = [await job(*(numbers(50, start) for start in (0, 50, 100))), await job(numbers(10, 1000))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, work, Pulse())
        with trio.fail_after(LONG_S):
            for job_id in jobs:
                while (await view(work, job_id)).status is not JobState.COMPLETED:
                    pass
        assert psql("select count(*) from ingest.workers") == "1"
        work.stop.set()
    assert await values(work.database) == [*range(150), *range(1000, 1010)]
    assert psql("select count(*) from ingest.workers; select count(*) from ingest.leases") == "0\n0"
    assert await work.storage.listing() == []
    assert settled(work)


async def test_a_worker_that_is_cancelled_leaves_too(work: Work, make_work: MakeWork, job: MakeJob, psql: Psql) -> None:
    """Whatever it had is handed back; another one brings it to its end."""
    psql("create table t (a integer)")
    job_id = await job(*(numbers(500, start) for start in (0, 500, 1000)), batch_records=5)
    for _ in range(5):
        another = make_work()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, another, Pulse())
            with trio.fail_after(LONG_S):
                before = await another.database.value("SELECT count(*) FROM ingest.ledger")
                while await another.database.value("SELECT count(*) FROM ingest.ledger") <= before + 20:
                    pass
            nursery.cancel_scope.cancel()
        assert psql("select count(*) from ingest.workers; select count(*) from ingest.leases") == "0\n0"
        assert psql("select count(*) from ingest.chunks where state = 'processing' or attempt > 1") == "0"
        assert settled(another)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run, work, Pulse())
        with trio.fail_after(LONG_S):
            while (await view(work, job_id)).status is not JobState.COMPLETED:
                pass
        work.stop.set()
    assert await values(work.database) == list(range(1500))


async def test_two_workers_load_one_job_together(dsn: str, make_work: MakeWork, job: MakeJob, psql: Psql) -> None:
    """Both have chunks of it, and the result is exact."""
    psql("create table t (a integer)")
    async with open_database(dsn, pool_size=8) as database:
        first, second = make_work(), make_work(database)
        job_id = await job(*(numbers(100, start) for start in range(0, 1200, 100)), batch_records=5)
        async with trio.open_nursery() as nursery:
            for work in (first, second):
                nursery.start_soon(worker.run, work, Pulse())
            with trio.fail_after(LONG_S):
                while (await view(first, job_id)).status is not JobState.COMPLETED:
                    pass
            first.stop.set()
            second.stop.set()
    assert psql("select count(distinct worker_id) from ingest.chunks") == "2"
    assert [int(line) for line in psql("select a from t order by 1").split()] == list(range(1200))
