"""A writer tries again what is worth it, as often as it is worth it, and loads every batch exactly once."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import structlog
import trio

from ingest import writer
from ingest.accounts import Account
from ingest.batch import Batch, BatchResult
from ingest.budget import Budget
from ingest.chunk import Chunk
from ingest.database import Database, open_database
from ingest.errors import ConflictError, LeaseLost, PermanentError, RowError, UnavailableError
from ingest.job import JobState
from ingest.loading import load_whole
from ingest.order import Order
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim, counted, settled, values, view
from tests.integration.build import interactive, numbers, spec
from tests.integration.wire import wire

LONG_S = 60.0
Load = Callable[..., Awaitable[BatchResult]]


@pytest.fixture(autouse=True)
def target(psql: Psql, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table; and no time is lost between tries."""
    psql("create table t (a integer)")
    monkeypatch.setattr(writer, "FIRST_DELAY_S", 0.0)


def batches(chunk: Chunk, data: bytes) -> Iterator[Batch]:
    """All batches of a chunk with their bytes."""
    for extent in chunk.ranges():
        yield Batch(chunk=chunk, range=extent, data=data[extent.start : extent.end])


async def write(work: Work, chunk: Chunk, data: bytes, *, writers: int = 1, keyed: bool = False) -> Account:
    """Run some writers over all batches of a chunk."""
    order = Order(keyed=keyed)
    send, receive = trio.open_memory_channel[Batch](0)
    with work.accounts.open() as account:
        async with trio.open_nursery() as nursery:
            with receive:
                for _ in range(writers):
                    nursery.start_soon(writer.run, receive.clone(), work, account, order)
            with send:
                for batch in batches(chunk, data):
                    account.read()
                    order.add(batch.range.start)
                    await send.send(batch)
    return account


def failing(monkeypatch: pytest.MonkeyPatch, name: str, *errors: Exception, then: Load | None = None) -> list[int]:
    """Let a way of loading raise these errors, one a call, before it works; returns the batches it was called for."""
    real: Load = then or getattr(writer, name)
    left = list(errors)
    calls: list[int] = []

    async def load(database: Database, batch: Batch, *turn: Any, **options: Any) -> BatchResult:
        calls.append(batch.range.start)
        if left:
            raise left.pop(0)
        return await real(database, batch, *turn, **options)

    monkeypatch.setattr(writer, name, load)
    return calls


async def test_batches_are_loaded_and_settled(work: Work, job: MakeJob) -> None:
    """By several writers together."""
    await job(numbers(95))
    account = await write(work, await claim(work), numbers(95), writers=4)
    assert await values(work.database) == list(range(95))
    assert (account.batches_committed, account.queued, account.writing) == (10, 0, 0)
    assert settled(work)
    assert account.last_batch_s is not None


async def test_conflicts_are_tried_again(work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlock, serialization failure, lock timeout: the same batch, until it is in."""
    await job(numbers(10))
    errors = [ConflictError("x", sqlstate=state) for state in ("40P01", "40001", "55P03")]
    calls = failing(monkeypatch, "load_whole", *errors)
    await write(work, await claim(work), numbers(10))
    assert (calls, await values(work.database)) == ([0] * 4, list(range(10)))


async def test_conflicts_without_end_are_given_up(work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """After MAX_CONFLICTS the chunk's try has failed."""
    await job(numbers(10))
    monkeypatch.setattr(writer, "MAX_CONFLICTS", 3)
    calls = failing(monkeypatch, "load_whole", *[ConflictError("x", sqlstate="40P01")] * 9)
    with pytest.RaisesGroup(ConflictError):
        await write(work, await claim(work), numbers(10))
    assert len(calls) == 4
    assert settled(work)


async def test_a_real_deadlock_and_a_real_lock_timeout(work: Work, job: MakeJob, psql: Psql) -> None:
    """As the server raises them in the middle of a COPY."""
    psql("create sequence tries; create function fail() returns trigger language plpgsql as $$ begin "
         "case nextval('tries') when 1 then raise exception 'd' using errcode = '40P01'; "
         "when 2 then perform set_config('lock_timeout', '9', true), pg_advisory_xact_lock(42); else null; end case; "
         "return null; end $$; create trigger fail after insert on t execute function fail()")  # fmt: skip
    await job(numbers(10))
    async with interactive(work.database) as other:
        await other.execute("SELECT pg_advisory_lock(42)")
        await write(work, await claim(work), numbers(10))
    assert (await values(work.database), psql("select last_value from tries")) == (list(range(10)), "3")
    assert counted(work).by("ingest_batch_retries_total", "sqlstate_class") == {"40": 1, "55": 1}
    assert counted(work).by("ingest_batches_total", "result", path="direct") == {"conflict": 2, "loaded": 1}


async def test_a_batch_with_a_bad_record_is_isolated(work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """That batch alone; its neighbours stay on the fast way."""
    data = numbers(10) + b"1,2\n" + numbers(19, 10)
    await job(data)
    calls = failing(monkeypatch, "load_isolated")
    await write(work, await claim(work), data)
    assert calls == [20]
    assert await values(work.database) == list(range(29))


async def test_after_many_bad_records_more_are_expected(
    work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is not tried as a whole first; after a clean one the next is again."""
    data = b"1\n2\n" + b"x\n" * 8 + numbers(30, 10)
    await job(data)
    whole, isolated = failing(monkeypatch, "load_whole"), failing(monkeypatch, "load_isolated")
    chunk = await claim(work)
    starts = [stretch.start for stretch in chunk.ranges()]
    await write(work, chunk, data)
    assert (whole, isolated) == ([starts[0], *starts[2:]], [starts[1]])
    assert len(await values(work.database)) == 2 + 30


async def test_an_error_that_isolating_does_not_solve(
    work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised, not tried for ever."""
    await job(numbers(10))
    failing(monkeypatch, "load_whole", RowError("x"))
    calls = failing(monkeypatch, "load_isolated", RowError("y"))
    with pytest.RaisesGroup(RowError):
        await write(work, await claim(work), numbers(10))
    assert len(calls) == 1


@pytest.mark.parametrize("error", [PermanentError("x"), LeaseLost("x")])
async def test_errors_that_no_retry_helps(
    work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """They go up at once; what the other writers had in hand is abandoned."""
    await job(numbers(50))
    calls = failing(monkeypatch, "load_whole", error)
    with pytest.RaisesGroup(type(error)):
        await write(work, await claim(work), numbers(50), writers=2)
    assert len(calls) <= 3
    assert settled(work)


async def test_a_lost_chunk_is_noticed_by_its_batch(work: Work, job: MakeJob) -> None:
    """The fence says so even when no heartbeat did."""
    await job(numbers(10))
    chunk = await claim(work)
    await work.queue.rescue(0, [work.queue.worker_id])
    with pytest.RaisesGroup(LeaseLost):
        await write(work, chunk, numbers(10))
    assert await values(work.database) == []


DIRTY = b"".join(b"x\n" if n % 10 == 0 else b"%d\n" % n for n in range(100))


async def test_a_writer_stops_a_job_over_its_budget(work: Work, job: MakeJob) -> None:
    """Right after the batch that was too much; what is committed stays."""
    job_id = await job(DIRTY, budget=Budget(rejects=2))
    with pytest.raises(ExceptionGroup) as raised:
        await write(work, await claim(work), DIRTY)
    lost, other = raised.value.split(LeaseLost)
    assert lost is not None
    assert other is None or other.split(trio.BrokenResourceError)[1] is None  # the channel nobody reads any more
    ended = await view(work, job_id)
    assert (ended.status, ended.error and ended.error["code"]) == (JobState.FAILED, "E_TOO_MANY_REJECTS")
    assert (ended.inserted_rows, ended.failed_rows, len(await values(work.database))) == (27, 3, 27)
    assert settled(work)


async def test_who_stops_a_job_says_so_though_it_ends_its_lease(
    work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word of the stop is here before the answer, and cancels the run that asked for it."""
    await job(DIRTY, budget=Budget(rejects=2))
    chunk = await claim(work)
    enforce = work.queue.enforce_budget

    async def enforced(chunk: Chunk) -> bool:
        stopped = await enforce(chunk)
        if stopped:
            lease.scope.cancel()
            await trio.lowlevel.checkpoint()
        return stopped

    monkeypatch.setattr(work.queue, "enforce_budget", enforced)
    with structlog.testing.capture_logs() as logged, pytest.raises(ExceptionGroup) as raised:
        with work.leases.hold(chunk, LONG_S) as lease:
            await write(work, chunk, DIRTY)
    assert raised.group_contains(LeaseLost, match="was stopped")
    assert [line["event"] for line in logged if line["log_level"] == "warning"] == ["job_over_budget"]


async def test_several_writers_go_over_the_budget_together(work: Work, job: MakeJob) -> None:
    """Whoever is first stops the job; the others' batches are in with their rows and their ledger line, or not at all."""
    for _ in range(3):
        await work.database.execute("TRUNCATE t")
        job_id = await job(DIRTY, budget=Budget(rejects=4))
        with pytest.raises(ExceptionGroup) as raised:  # of one or of several
            await write(work, await claim(work), DIRTY, writers=4)
        assert raised.value.split((LeaseLost, trio.BrokenResourceError))[1] is None
        ended = await view(work, job_id)
        assert ended.status is JobState.FAILED
        assert 5 <= ended.failed_rows <= 9
        assert ended.inserted_rows == 9 * ended.failed_rows == len(await values(work.database))


async def test_a_budget_that_is_not_used_up_costs_nothing(work: Work, job: MakeJob) -> None:
    """Nor does one of clean batches."""
    job_id = await job(DIRTY, budget=Budget(percent=10.0))
    await write(work, await claim(work), DIRTY, writers=2)
    assert (await view(work, job_id)).failed_rows == 10


async def test_a_budget_that_cannot_be_looked_at_is_looked_at_later(
    work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is in, so its writer goes on."""
    asked: list[int] = []

    async def enforce(chunk: Chunk) -> bool:
        asked.append(chunk.id)
        raise UnavailableError("away") if len(asked) % 2 else ConflictError("locked", sqlstate="55P03")

    monkeypatch.setattr(work.queue, "enforce_budget", enforce)
    await job(DIRTY, budget=Budget(rejects=0))
    account = await write(work, await claim(work), DIRTY)
    assert (len(asked), account.batches_committed) == (10, 10)


async def test_a_lost_connection_is_tried_again(work: Work, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as it takes, without counting; a batch that turns out to be in the ledger is not loaded twice."""
    await job(numbers(20))

    async def load_then_lose(database: Database, batch: Batch, turn: Any) -> BatchResult:
        await load_whole(database, batch, turn)
        raise UnavailableError("the answer was lost")

    lost = [UnavailableError("x", sqlstate="08006")] * 30
    calls = failing(monkeypatch, "load_whole", *lost, then=load_then_lose)
    await write(work, await claim(work), numbers(20))
    assert calls == [0] * 31 + [20]
    assert await values(work.database) == list(range(20))


async def test_an_earlier_try_is_already_in(work: Work, job: MakeJob) -> None:
    """The same batch once more: nothing is loaded, and the batch is settled."""
    await job(numbers(10))
    chunk = await claim(work)
    await write(work, chunk, numbers(10))
    account = await write(work, chunk, numbers(10))
    assert (await values(work.database), account.batches_committed) == (list(range(10)), 1)


@pytest.mark.parametrize("side", ["cut_before", "cut_after"])
async def test_a_commit_whose_answer_is_lost(
    dsn: str, database: Database, make_work: MakeWork, job: MakeJob, side: str
) -> None:
    """Cut off on the wire, again and again, before the COMMIT arrives or after it was done: exactly once."""
    await job(numbers(100))
    async with wire(dsn) as (proxy, through), open_database(through, pool_size=8) as lossy:
        work = make_work(lossy)
        chunk = await claim(work)
        setattr(proxy, side, 5)
        with trio.fail_after(LONG_S):
            await write(work, chunk, numbers(100), writers=2)
        assert proxy.cuts == 5
    assert await values(database) == list(range(100))
    assert await database.value("SELECT sum(inserted) FROM ingest.ledger") == 100


async def test_backends_are_terminated_all_the_time(work: Work, job: MakeJob, psql: Psql) -> None:
    """While four writers load: the result is exact."""
    psql("create function nap() returns trigger language plpgsql as "
         "$$ begin perform pg_sleep(0.002); return null; end $$; "
         "create trigger nap after insert on t execute function nap()")  # fmt: skip
    await job(numbers(300), batch_records=3)
    chunk = await claim(work)
    killed = 0

    async with trio.open_nursery() as nursery:

        async def kill() -> None:
            nonlocal killed
            committed = 0
            while True:
                # Not before something was committed since: otherwise nobody would ever get anywhere.
                if committed < (committed := await work.database.reserved.value("SELECT count(*) FROM ingest.ledger")):
                    killed += await work.database.reserved.value(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                        "WHERE application_name LIKE 'ingest chunk%' AND state <> 'idle'"
                    )

        nursery.start_soon(kill)
        with trio.fail_after(LONG_S):
            await write(work, chunk, numbers(300), writers=4)
        nursery.cancel_scope.cancel()
    assert killed > 10
    assert await values(work.database) == list(range(300))
    assert await work.database.value("SELECT count(*) FROM ingest.ledger") == 100
    assert settled(work)


async def test_cancelled_at_random_moments(work: Work, job: MakeJob) -> None:
    """Nothing is in flight, the ledger and the table agree, and the next try brings the rest."""
    data = numbers(400)
    await job(data, batch_records=4)
    chunk = await claim(work)
    for number in range(8):
        with trio.move_on_after(0.01 + number * 0.004):
            await write(work, chunk, data, writers=4)
        assert settled(work)
        assert len(work.leases) == 0
        assert await work.database.value("SELECT sum(records) FROM ingest.ledger") in (
            None,
            len(await values(work.database)),
        )
    await write(work, chunk, data, writers=4)
    assert await values(work.database) == list(range(400))


@pytest.mark.parametrize("seed", range(20))
async def test_of_records_with_one_key_the_first_wins(work: Work, job: MakeJob, psql: Psql, seed: int) -> None:
    """Over many batches and four writers, however they overtake one another."""
    psql("drop table t; create table t (a integer primary key, line integer)")
    chance = random.Random(seed)
    lines = [b"%d,%d\n" % (chance.randrange(80), n) for n in range(120)]
    of = spec(("a", "integer"), ("line", "integer"), keyed=True)
    await job(b"".join(lines), of=of, batch_records=5)
    await write(work, await claim(work), b"".join(lines), writers=4, keyed=True)
    first: dict[int, int] = {}
    for line in lines:
        key, number = map(int, line.split(b","))
        first.setdefault(key, number)
    rows = await work.database.fetch("SELECT a, line FROM t")
    assert {row["a"]: row["line"] for row in rows} == first
    assert await work.database.value("SELECT count(*) FROM ingest.rejects WHERE code = 'E_DUP_KEY'") == 120 - len(first)
