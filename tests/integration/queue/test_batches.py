"""The fence and the ledger: a batch is committed once, and only by who has the chunk."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import trio

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database, Session
from ingest.errors import AccountingError, ConflictError, LeaseLost
from ingest.ledger import AlreadyCommitted, commit_batch, commit_only_batch
from ingest.queue import Queue
from tests.conftest import Psql
from tests.integration.build import Interactive, cut, interactive, make_job, numbers

LONG_S = 60.0
THIRTY = cut(numbers(30))


async def claimed(database: Database) -> tuple[Queue, Chunk]:
    """A chunk of three batches of ten records, and the queue of the worker that has it."""
    await make_job(database, [THIRTY])
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    return queue, chunk


def batches(chunk: Chunk) -> list[Batch]:
    """All batches of a chunk."""
    return [Batch(chunk=chunk, range=extent, data=b"") for extent in chunk.ranges()]


async def load(database: Database, batch: Batch, result: BatchResult | None = None) -> None:
    """Insert a row and commit the batch, in one transaction, as loading does."""

    async def unit(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES ($1)", batch.range.start)
        await commit_batch(session, batch, result or BatchResult(inserted=batch.range.records))

    await database.transact(unit)


async def load_by_hand(other: Interactive, batch: Batch) -> str:
    """The same in a session whose transaction stays open; returns what the fence says."""
    extent = batch.range
    await other.execute("INSERT INTO t VALUES ($1)", extent.start)
    return str(
        await other.value(
            "SELECT ingest.commit_batch($1, $2, $3, $4, $5, $6, $6, 0, 0, 0, 0)",
            batch.chunk.id, batch.chunk.epoch, extent.start, extent.end, extent.first_line, extent.records,
        )
    )  # fmt: skip


@pytest.fixture(autouse=True)
def table(psql: Psql) -> None:
    """The target."""
    psql("create table t (a bigint)")


async def test_a_batch_is_committed_with_its_rows(database: Database, psql: Psql) -> None:
    """Rows and ledger line; a worker that asks afterwards finds it."""
    queue, chunk = await claimed(database)
    first, second, _ = batches(chunk)
    assert not await queue.is_committed(first)
    await load(database, first, BatchResult(inserted=5, skipped=2, rejected=3))
    assert await queue.is_committed(first)
    assert not await queue.is_committed(second)
    assert await queue.committed_starts(chunk) == {0}
    assert psql(
        "select byte_start, byte_end, first_line, records, inserted, skipped, rejected, epoch from ingest.ledger"
    ) == ("0|20|2|10|5|2|3|1")
    assert psql("select count(*) from t") == "1"


async def load_only(database: Database, batch: Batch, *, records: int = 10) -> None:
    """Insert a row and commit the batch with the finish of its chunk, as loading does."""

    async def unit(session: Session) -> None:
        await session.execute("BEGIN")
        await session.execute("INSERT INTO t VALUES ($1)", batch.range.start)
        await commit_only_batch(session, batch, BatchResult(inserted=records))

    await database.run(unit)


async def test_the_only_batch_of_a_chunk_finishes_it(database: Database, psql: Psql) -> None:
    """Once: whoever comes again, or too late, leaves nothing behind and learns why."""
    await make_job(database, [cut(numbers(10))])
    queue = Queue(database, uuid4())
    [chunk] = await queue.claim(1)
    [batch] = batches(chunk)
    former = replace(chunk, epoch=chunk.epoch - 1)
    with pytest.raises(LeaseLost):
        await load_only(database, replace(batch, chunk=former))
    with pytest.raises(AccountingError):
        await load_only(database, batch, records=9)
    assert psql("select state, (select count(*) from ingest.ledger) from ingest.jobs") == "processing|0"
    await load_only(database, batch)
    with pytest.raises(AlreadyCommitted):
        await load_only(database, batch)
    assert psql("select state, inserted, (select count(*) from t) from ingest.jobs") == "completed|10|1"
    assert psql("select count(*) from ingest.leases") == "0"
    assert await queue.fate(chunk) == "finished"


async def test_a_batch_that_does_not_cover_its_chunk_does_not_finish_it(database: Database, psql: Psql) -> None:
    """Nor is it committed: whoever said that it was all of the chunk was wrong."""
    _, chunk = await claimed(database)
    with pytest.raises(AccountingError):
        await load_only(database, batches(chunk)[0])
    assert psql("select (select count(*) from t), (select count(*) from ingest.ledger)") == "0|0"


async def test_a_batch_is_committed_once(database: Database, psql: Psql) -> None:
    """The second try is a duplicate: its rows are rolled back."""
    _, chunk = await claimed(database)
    first = batches(chunk)[0]
    await load(database, first)
    with pytest.raises(AlreadyCommitted):
        await load(database, first)
    assert psql("select count(*) from t; select count(*) from ingest.ledger") == "1\n1"


async def test_two_tries_of_one_batch_at_once(database: Database, psql: Psql) -> None:
    """The second waits for the first: duplicate if that one commits, its turn if not."""
    _, chunk = await claimed(database)
    first, second, _ = batches(chunk)
    for batch, ending, expected in ((first, "COMMIT", AlreadyCommitted), (second, "ROLLBACK", None)):
        raised: list[type[Exception] | None] = []

        async def try_again(batch: Batch = batch, raised: list[type[Exception] | None] = raised) -> None:
            try:
                await load(database, batch)
                raised.append(None)
            except AlreadyCommitted as error:
                raised.append(type(error))

        async with interactive(database) as other:
            await other.execute("BEGIN")
            assert await load_by_hand(other, batch) == "committed"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(try_again)
                with trio.fail_after(LONG_S):
                    while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                        pass
                await other.execute(ending)
        assert raised == [expected]
    assert psql("select count(*) from t; select count(*) from ingest.ledger") == "2\n2"


@pytest.mark.parametrize("taken", ["released", "rescued", "failed", "cancelled", "finished"])
async def test_a_batch_of_a_chunk_that_is_no_longer_ours(database: Database, psql: Psql, taken: str) -> None:
    """Whatever became of the chunk, a former owner changes nothing any more."""
    queue, chunk = await claimed(database)
    first, second, third = batches(chunk)
    await load(database, first)
    if taken == "released":
        await queue.release(chunk)
    elif taken == "rescued":
        await queue.rescue(0, [queue.worker_id])
        await Queue(database, uuid4()).claim(1)
    elif taken == "failed":
        await queue.fail(chunk, LeaseLost("x"), permanent=True, delay_s=0)
    elif taken == "finished":
        await load(database, second)
        await load(database, third)
        await queue.finish(chunk)
    else:
        psql("update ingest.chunks set state = 'cancelled', finished_at = now()")
    before = psql("select count(*) from t; select count(*) from ingest.ledger")
    with pytest.raises(LeaseLost if taken != "finished" else AlreadyCommitted):
        await load(database, second)
    assert psql("select count(*) from t; select count(*) from ingest.ledger") == before


async def test_a_zombies_batch_is_rolled_back_after_a_takeover(database: Database, psql: Psql) -> None:
    """It stalls before the fence: the takeover does not wait for it, and its rows vanish when it wakes."""
    queue, chunk = await claimed(database)
    first = batches(chunk)[0]
    async with interactive(database) as zombie:
        await zombie.execute("BEGIN")
        await zombie.execute("INSERT INTO t SELECT 666 FROM generate_series(1, 10)")
        assert await queue.rescue(0, [queue.worker_id]) == 1
        [again] = await Queue(database, uuid4()).claim(1)
        await load(database, batches(again)[0])
        assert await load_by_hand(zombie, first) == "duplicate"
        await zombie.execute("ROLLBACK")
        await zombie.execute("BEGIN")
        assert await load_by_hand(zombie, batches(chunk)[1]) == "stale"
    assert psql("select count(*) from t where a = 666; select count(*) from ingest.ledger") == "0\n1"
    assert again.epoch == chunk.epoch + 1


async def test_a_takeover_waits_for_a_batch_that_has_passed_the_fence(database: Database, psql: Psql) -> None:
    """Between fence and COMMIT the chunk cannot be taken: a rescue passes it over, and the batch counts."""
    queue, chunk = await claimed(database)
    async with interactive(database) as zombie:
        await zombie.execute("BEGIN")
        assert await load_by_hand(zombie, batches(chunk)[0]) == "committed"
        assert await queue.rescue(0, [queue.worker_id]) == 0
        await zombie.execute("COMMIT")
    assert await queue.rescue(0, [queue.worker_id]) == 1
    assert psql("select count(*) from t; select count(*) from ingest.ledger") == "1\n1"


async def test_writers_of_one_chunk_do_not_wait_for_each_other(database: Database) -> None:
    """The fence is shared: two batches stand before their COMMIT at the same time, and the heartbeat passes too."""
    queue, chunk = await claimed(database)
    first, second, third = batches(chunk)
    async with interactive(database) as one, interactive(database) as two:
        for other, batch in ((one, first), (two, second)):
            await other.execute("BEGIN")
            assert await load_by_hand(other, batch) == "committed"
        with trio.fail_after(4):
            await load(database, third)
            renewed = await database.fetch(
                "SELECT ingest.renew_leases($1, $2, $3, false)", queue.worker_id, [chunk.id], [chunk.epoch]
            )
        assert len(renewed) == 1
        await one.execute("COMMIT")
        await two.execute("COMMIT")
    await queue.finish(chunk)


async def test_a_finish_waits_for_open_batches(database: Database) -> None:
    """It sees the ledger lines of batches that committed while it waited."""
    queue, chunk = await claimed(database)
    first, second, third = batches(chunk)
    await load(database, first)
    await load(database, second)
    async with interactive(database) as other, trio.open_nursery() as nursery:
        await other.execute("BEGIN")
        await load_by_hand(other, third)
        nursery.start_soon(queue.finish, chunk)
        with trio.fail_after(LONG_S):
            while not await database.value("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"):
                pass
        await other.execute("COMMIT")


async def test_a_lock_that_is_held_too_long_is_a_conflict(database: Database, psql: Psql) -> None:
    """Somebody holds the chunk's row: the batch gives up in time, to be tried again."""
    _, chunk = await claimed(database)
    async with interactive(database) as other:
        await other.execute("BEGIN")
        await other.execute("UPDATE ingest.chunks SET priority = priority")

        async def unit(session: Session) -> None:
            await session.execute("SET LOCAL lock_timeout = '10ms'")
            await commit_batch(session, batches(chunk)[0], BatchResult(inserted=10))

        with pytest.raises(ConflictError) as raised:
            await database.transact(unit)
    assert raised.value.sqlstate == "55P03"


async def test_records_that_do_not_add_up_are_never_committed(database: Database, psql: Psql) -> None:
    """One too few or too many: found before the ledger, and the rows go with it."""
    _, chunk = await claimed(database)
    for wrong in (9, 11):
        with pytest.raises(AccountingError):
            await load(database, batches(chunk)[0], BatchResult(inserted=wrong))
    assert psql("select count(*) from t; select count(*) from ingest.ledger") == "0\n0"
