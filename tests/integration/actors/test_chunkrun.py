"""A chunk run ends in one of three ways, whatever happens inside: finished, handed back, or failed with a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from ingest import chunkrun, heartbeat, reader, writer
from ingest.budget import Budget
from ingest.chunk import Chunk
from ingest.database import Database, open_database
from ingest.dialect import PARSER_VERSION
from ingest.errors import ConflictError, IngestError, LeaseLost, PermanentError
from ingest.heartbeat import Pulse
from ingest.job import JobState
from ingest.order import Order
from ingest.queue import MAX_ATTEMPTS
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim, counted, settled, values, view
from tests.integration.build import interactive, numbers, spec
from tests.integration.wire import wire

LONG_S = 60.0
CHUNK = "select state, attempt, epoch from ingest.chunks"


@pytest.fixture(autouse=True)
def target(psql: Psql, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table; and no time is lost between tries."""
    psql("create table t (a integer)")
    monkeypatch.setattr(writer, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(chunkrun, "FIRST_BACKOFF_S", 0.0)


def gate(psql: Psql, condition: str) -> None:
    """Let batches with such a row wait in the middle of their COPY while somebody holds the advisory lock."""
    psql("create function gate() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); "
         f"return new; end $$; create trigger gate before insert on t for each row when ({condition}) "
         "execute function gate()")  # fmt: skip


async def blocked(database: Database) -> None:
    """Wait until somebody waits for the lock."""
    with trio.fail_after(LONG_S):
        while not await database.reserved.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
            pass


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The first bytes of all batches that are read from now on."""
    read: list[int] = []
    add = Order.add

    def counted(self: Order, start: int) -> None:
        read.append(start)
        add(self, start)

    monkeypatch.setattr(Order, "add", counted)
    return read


async def test_a_chunk_is_finished(work: Work, job: MakeJob) -> None:
    """Its records are in, its object is gone, the job has ended and nothing is in flight."""
    job_id = await job(numbers(95))
    await chunkrun.run(await claim(work), work)
    done = await view(work, job_id)
    assert (done.status, done.inserted_rows, done.bytes_processed) == (JobState.COMPLETED, 95, done.bytes_total)
    assert await values(work.database) == list(range(95))
    assert await work.storage.listing() == []
    assert settled(work)
    assert len(work.leases) == 0


async def test_a_drain_hands_the_chunk_back_and_the_next_run_goes_on(
    work: Work, make_work: MakeWork, job: MakeJob, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches in hand are committed, the try is not counted, and what the ledger has is not read again."""
    job_id = await job(numbers(200))
    gate(psql, "new.a >= 30")
    read = count_reads(monkeypatch)
    async with interactive(work.database) as other:
        await other.execute("SELECT pg_advisory_lock(1)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chunkrun.run, await claim(work), work)
            await blocked(work.database)
            work.stop.set()
            await other.execute("SELECT pg_advisory_unlock(1)")
    first = len(read)
    assert psql(CHUNK) == "pending|0|1"
    assert psql("select count(*) from ingest.ledger; select count(*) from ingest.leases") == f"{first}\n0"
    assert 4 <= first < 20
    assert settled(work)
    after = make_work()
    await chunkrun.run(await claim(after), after)
    assert len(read) == len(set(read)) == 20
    assert (await view(work, job_id)).status is JobState.COMPLETED
    assert await values(work.database) == list(range(200))


async def test_a_cancelled_run_rolls_back_and_hands_back(work: Work, job: MakeJob, psql: Psql) -> None:
    """As at the end of the grace: what was committed counts, what was not is gone."""
    await job(numbers(200))
    gate(psql, "new.a = 35")
    async with interactive(work.database) as other:
        await other.execute("SELECT pg_advisory_lock(1)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chunkrun.run, await claim(work), work)
            await blocked(work.database)
            nursery.cancel_scope.cancel()
    assert psql(CHUNK) == "pending|0|1"
    assert settled(work)
    assert psql("select coalesce(sum(records), 0) from ingest.ledger") == str(len(await values(work.database)))
    await chunkrun.run(await claim(work), work)
    assert await values(work.database) == list(range(200))


async def test_cancelled_at_random_moments(work: Work, job: MakeJob, psql: Psql) -> None:
    """Before the first batch, between two, at the finish: always settled, and in the end exact."""
    job_id = await job(numbers(600), batch_records=5)
    for number in range(200):
        if not (chunks := await work.queue.claim(1)):
            break
        with trio.move_on_after(0.02 + number * 0.003):
            await chunkrun.run(chunks[0], work)
        assert settled(work)
        assert psql("select count(*) from ingest.leases") == "0"
    assert (await view(work, job_id)).status is JobState.COMPLETED
    assert await values(work.database) == list(range(600))
    assert psql("select attempt from ingest.chunks") == "1"


async def test_a_permanent_error_fails_the_chunk_and_no_other(work: Work, job: MakeJob, psql: Psql) -> None:
    """The reason is in the job; the worker goes on."""
    await job(numbers(20), of=spec(("gone", "integer")))
    await chunkrun.run(await claim(work), work)
    assert psql("select state, error_code from ingest.chunks") == "failed|E_DATABASE_REFUSED"
    assert 'column "gone"' in psql("select error_message from ingest.jobs")
    assert settled(work)
    await job(numbers(20))
    await chunkrun.run(await claim(work), work)
    assert await values(work.database) == list(range(20))


async def test_an_object_that_is_missing(work: Work, job: MakeJob, psql: Psql) -> None:
    """No retry brings it back."""
    await job(numbers(20))
    chunk = await claim(work)
    await work.storage.remove(chunk.cut.object_key)
    await chunkrun.run(chunk, work)
    assert psql("select state, error_code from ingest.chunks") == "failed|E_SOURCE_MISSING"


async def test_conflicts_without_end_use_up_the_tries(
    work: Work, job: MakeJob, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counts; then the chunk has failed."""
    monkeypatch.setattr(writer, "MAX_CONFLICTS", 1)
    psql("create function clash() returns trigger language plpgsql as "
         "$$ begin raise exception 'd' using errcode = '40P01'; end $$; "
         "create trigger clash before insert on t for each row execute function clash()")  # fmt: skip
    await job(numbers(5))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        await chunkrun.run(await claim(work), work)
        state = "failed" if attempt == MAX_ATTEMPTS else "pending"
        assert psql(CHUNK) == f"{state}|{attempt}|{attempt}"
    assert psql("select error_code from ingest.jobs") == "E_CONFLICT"


async def test_bytes_that_another_version_cut(work: Work, job: MakeJob, psql: Psql) -> None:
    """They are refused, not read in another way."""
    await job(numbers(5), of=replace(spec(), parser_version=PARSER_VERSION + 1))
    await chunkrun.run(await claim(work), work)
    assert psql("select state, error_code from ingest.chunks") == "failed|E_PARSER_VERSION"


async def test_a_ledger_that_has_forgotten_a_batch(
    work: Work, job: MakeJob, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash of the server, which loses rows and ledger line together: only these are read again."""
    await job(numbers(50))
    chunk = await claim(work)
    finish = type(work.queue).finish
    forgotten: list[str] = []

    async def forgetful(self: object, chunk: Chunk) -> None:
        if not forgotten:
            forgotten.append(
                psql("delete from ingest.ledger where byte_start = 20; delete from t where a between 10 and 19")
            )
        await finish(work.queue, chunk)

    monkeypatch.setattr(type(work.queue), "finish", forgetful)
    read = count_reads(monkeypatch)
    await chunkrun.run(chunk, work)
    assert psql(CHUNK) == "pending|1|1"
    await chunkrun.run(await claim(work), work)
    assert psql(CHUNK) == "completed|2|2"
    assert read[5:] == [20]
    assert await values(work.database) == list(range(50))


async def test_silence_ends_the_run_before_the_chunk_is_given_away(
    make_work: MakeWork, job: MakeJob, psql: Psql
) -> None:
    """No heartbeat comes through: the run is cut off and nothing of its open batch stays."""
    work = make_work(WORKER_LEASE_TTL="300")
    await job(numbers(50))
    gate(psql, "new.a = 5")
    async with interactive(work.database) as other:
        await other.execute("SELECT pg_advisory_lock(1)")
        with trio.fail_after(LONG_S):
            await chunkrun.run(await claim(work), work)
    assert psql("select count(*) from t where a < 10") == "0"
    assert settled(work)
    assert counted(work).by("ingest_lease_losses_total", "reason") == {"expired": 1}


async def test_a_lost_lease_cancels_the_run(work: Work, make_work: MakeWork, job: MakeJob, psql: Psql) -> None:
    """Another worker has the chunk: the heartbeat ends the run in the middle of its COPY, and the other loads it."""
    await job(numbers(50))
    gate(psql, "new.a = 5")
    thief = make_work()
    async with interactive(work.database) as other, trio.open_nursery() as nursery:
        await other.execute("SELECT pg_advisory_lock(1)")
        async with trio.open_nursery() as run:
            nursery.start_soon(heartbeat.run, work, Pulse())
            run.start_soon(chunkrun.run, await claim(work), work)
            await blocked(work.database)
            # One batch is open; a second one at its commit would hold the chunk, or ask the fence before the heartbeat.
            with trio.fail_after(LONG_S):
                while await work.database.value("SELECT count(*) FROM ingest.ledger") != 4:
                    await trio.lowlevel.checkpoint()
            assert await thief.queue.rescue(0, [work.queue.worker_id]) == 1
            stolen = await claim(thief)
        await other.execute("SELECT pg_advisory_unlock(1)")
        assert settled(work)
        assert counted(work).by("ingest_lease_losses_total", "reason") == {"revoked": 1}
        await chunkrun.run(stolen, thief)
        nursery.cancel_scope.cancel()
    assert psql(CHUNK) == "completed|1|2"
    assert await values(work.database) == list(range(50))


async def test_a_run_that_no_heartbeat_has_told_is_stopped_by_the_fence(work: Work, job: MakeJob) -> None:
    """And counted, since every batch until then was loaded in vain."""
    await job(numbers(10))
    chunk = await claim(work)
    await work.queue.rescue(0, [work.queue.worker_id])
    await chunkrun.run(chunk, work)
    assert await values(work.database) == []
    assert counted(work).by("ingest_lease_losses_total", "reason") == {"fenced": 1}


async def test_two_workers_fight_for_a_chunk(work: Work, make_work: MakeWork, job: MakeJob, psql: Psql) -> None:
    """It is taken from its owner after every few batches, again and again: every record is in once."""
    psql("create function nap() returns trigger language plpgsql as "
         "$$ begin perform pg_sleep(0.02); return null; end $$; "
         "create trigger nap after insert on t execute function nap()")  # fmt: skip
    await job(numbers(400), batch_records=5)
    other = make_work()
    progress = (
        "SELECT EXISTS (SELECT FROM ingest.ledger l JOIN ingest.chunks c ON c.id = l.chunk_id AND c.epoch = l.epoch)"
    )
    taken = 0

    async def steal() -> None:
        nonlocal taken
        while True:
            # Not before its owner got somewhere: else it would soon count as a chunk that kills its workers.
            if await work.database.reserved.value(progress):
                taken += await work.queue.rescue(0, [work.queue.worker_id, other.queue.worker_id])

    async def fight(mine: Work, ended: trio.CancelScope) -> None:
        while await work.database.value("SELECT state IN ('pending', 'processing') FROM ingest.chunks"):
            for chunk in await mine.queue.claim(1):
                await chunkrun.run(chunk, mine)
        ended.cancel()

    with trio.fail_after(LONG_S * 2):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(steal)
            for mine in (work, other):
                nursery.start_soon(fight, mine, nursery.cancel_scope)
    assert psql("select state from ingest.chunks") == "completed"
    assert taken > 0
    assert await values(work.database) == list(range(400))
    assert settled(work)
    assert settled(other)


async def test_a_finish_whose_answer_is_lost(
    dsn: str, work: Work, make_work: MakeWork, job: MakeJob, psql: Psql
) -> None:
    """The chunk is finished all the same; when it was not, it is still ours until the lease runs out."""
    for side, state in (("cut_after", "completed"), ("cut_before", "processing")):
        await job(numbers(15))
        chunk = await claim(work)
        async with wire(dsn) as (proxy, through), open_database(through, pool_size=8) as lossy:
            proxy.passing = 2  # the batches' COMMITs; the next one is the finish's
            setattr(proxy, side, 1)
            await chunkrun.run(chunk, make_work(lossy))
            assert proxy.cuts == 1
        assert psql(f"select state from ingest.chunks where id = {chunk.id}") == state
    assert await values(work.database) == sorted([*range(15)] * 2)


@pytest.mark.parametrize("side", ["cut_after", "cut_before"])
async def test_a_commit_that_finishes_whose_answer_is_lost(
    dsn: str, work: Work, make_work: MakeWork, job: MakeJob, psql: Psql, side: str
) -> None:
    """Of a chunk's only batch: it is not loaded twice, and the chunk is finished either way."""
    await job(numbers(5))
    async with wire(dsn) as (proxy, through), open_database(through, pool_size=8) as lossy:
        setattr(proxy, side, 1)
        lossy_work = make_work(lossy)
        await chunkrun.run(await claim(work), lossy_work)
        assert proxy.cuts == 1
    assert psql(CHUNK).startswith("completed")
    assert await values(work.database) == [*range(5)]
    assert settled(lossy_work)


def test_the_error_that_says_most() -> None:
    """A lost lease before all others, however deep it lies; else the first."""
    inner: ExceptionGroup[IngestError] = ExceptionGroup("", [ConflictError("b"), LeaseLost("c")])
    group: ExceptionGroup[IngestError] = ExceptionGroup("", [PermanentError("a"), inner])
    assert isinstance(chunkrun.first_error(group), LeaseLost)
    inner = ExceptionGroup("", [PermanentError("a")])
    group = ExceptionGroup("", [inner, ConflictError("b")])
    assert isinstance(chunkrun.first_error(group), PermanentError)


def test_the_backoff_grows_and_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubling from the first on, spread so that chunks fall out of step, never longer than the longest."""
    monkeypatch.setattr(chunkrun, "FIRST_BACKOFF_S", 2.0)
    for attempt, middle in ((0, 2), (1, 2), (2, 4), (3, 8), (50, 300)):
        assert all(0.5 * middle <= chunkrun.backoff_s(attempt) <= 1.5 * middle for _ in range(20))


async def test_what_nobody_foresaw_goes_up(
    work: Work, job: MakeJob, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug ends the service, but the chunk is handed back first."""

    async def broken(*_arguments: object) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr(reader, "run", broken)
    await job(numbers(15))
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await chunkrun.run(await claim(work), work)
    assert psql(CHUNK) == "pending|0|1"
    assert settled(work)


async def test_the_only_writer_fails_while_the_reader_waits_for_it(make_work: MakeWork, job: MakeJob) -> None:
    """The chunk has failed for the writer's reason; that nobody reads the channel any more is no error of its own."""
    work = make_work(WORKER_CONCURRENT_BATCHES="1")
    job_id = await job(numbers(95), of=spec(table="missing"))
    await chunkrun.run(await claim(work), work)
    failed = await view(work, job_id)
    assert (failed.status, failed.error and failed.error["code"]) == (JobState.FAILED, "E_DATABASE_REFUSED")


async def test_a_job_over_its_budget_ends_its_chunk_runs(make_work: MakeWork, job: MakeJob) -> None:
    """The run ends by itself, with the job as the stop has left it: early, and the rest never read."""
    work = make_work(WORKER_CONCURRENT_BATCHES="1")
    job_id = await job(b"x\n1\n" * 500, budget=Budget(rejects=12))
    await chunkrun.run(await claim(work), work)
    stopped = await view(work, job_id)
    assert (stopped.status, stopped.failed_rows, stopped.inserted_rows) == (JobState.FAILED, 15, 15)
    assert stopped.chunks == {"pending": 0, "processing": 0, "completed": 0, "failed": 1}
    assert settled(work)
