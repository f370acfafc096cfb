"""The reader hands out what the ledger lacks, in file order, and ends at a batch boundary."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from ingest import reader
from ingest.accounts import Account
from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Session
from ingest.errors import SourceChanged, StorageError
from ingest.ledger import commit_batch
from ingest.order import Order
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, claim
from tests.integration.build import numbers


async def read(chunk: Chunk, work: Work, *, stop_after: int = 1000) -> tuple[bool, list[Batch], Account]:
    """Run a reader and take what it sends; the worker is told to stop after some batches."""
    send, receive = trio.open_memory_channel[Batch](0)
    batches: list[Batch] = []
    ended: list[bool] = []
    account = Account()

    async def run() -> None:
        ended.append(await reader.run(chunk, work, send, account, Order(keyed=False)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        async for batch in receive:
            batches.append(batch)
            if len(batches) == stop_after:
                work.stop.set()
    return ended[0], batches, account


async def test_every_batch_in_file_order(work: Work, job: MakeJob) -> None:
    """With its bytes and its range; the account counts each."""
    data = numbers(35)
    await job(data)
    chunk = await claim(work)
    complete, batches, account = await read(chunk, work)
    assert complete
    assert b"".join(batch.data for batch in batches) == data
    assert [batch.range for batch in batches] == list(chunk.ranges())
    assert [batch.range.records for batch in batches] == [10, 10, 10, 5]
    assert (account.batches_read, account.queued) == (4, 4)


async def test_what_the_ledger_has_is_not_read_again(work: Work, job: MakeJob) -> None:
    """Wherever the gaps are."""
    await job(numbers(50))
    chunk = await claim(work)
    extents = list(chunk.ranges())

    async def unit(session: Session) -> None:
        for extent in (extents[0], extents[3]):
            batch = Batch(chunk=chunk, range=extent, data=b"")
            await commit_batch(session, batch, BatchResult(inserted=10))

    await work.database.transact(unit)
    complete, batches, _ = await read(chunk, work)
    assert complete
    assert [batch.range for batch in batches] == [extents[1], extents[2], extents[4]]


@pytest.mark.parametrize("after", [1, 3])
async def test_a_drain_ends_at_a_batch_boundary(work: Work, job: MakeJob, after: int) -> None:
    """What was handed out is whole, and that the end was not reached is said."""
    data = numbers(50)
    await job(data)
    complete, batches, _ = await read(await claim(work), work, stop_after=after)
    assert not complete
    assert after <= len(batches) <= after + 1
    assert data.startswith(b"".join(batch.data for batch in batches))


async def test_a_chunk_inside_a_bigger_object(work: Work, job: MakeJob, psql: Psql) -> None:
    """It is read from its place there."""
    await job(b"header\n" + numbers(20), batch_records=100)
    psql("update ingest.chunks set object_offset = 7, length_bytes = length_bytes - 7, batch_ends = "
         "array[batch_ends[1] - 7], batch_records = '{20}', records = 20, batch_lines = '{20}'")  # fmt: skip
    _, batches, _ = await read(await claim(work), work)
    assert b"".join(batch.data for batch in batches) == numbers(20)


async def test_an_object_that_is_missing_or_too_short(work: Work, job: MakeJob, psql: Psql) -> None:
    """These are not the bytes that were received."""
    await job(numbers(20))
    psql("update ingest.chunks set length_bytes = 1000, batch_ends = '{500,1000}'")
    chunk = await claim(work)
    with pytest.RaisesGroup(SourceChanged):
        await read(chunk, work)
    await work.storage.remove(chunk.cut.object_key)
    with pytest.RaisesGroup(pytest.RaisesExc(StorageError, match="E_SOURCE_MISSING")):
        await read(chunk, work)


async def test_cancelled_at_any_moment(work: Work, job: MakeJob) -> None:
    """The channel is closed, the file is closed, and nothing was sent twice."""
    await job(numbers(100))
    chunk = await claim(work)
    for batches_taken in range(6):
        send, receive = trio.open_memory_channel[Batch](0)
        account = Account()
        with receive:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(reader.run, chunk, work, send, account, Order(keyed=False)))
                taken = [await receive.receive() for _ in range(batches_taken)]
                nursery.cancel_scope.cancel()
            with pytest.raises(trio.EndOfChannel):
                await receive.receive()
        assert len({batch.range.start for batch in taken}) == batches_taken
        assert account.batches_read - batches_taken in (0, 1)
    assert work.storage.statistics().threads_busy == 0
