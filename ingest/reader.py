"""The reader of one chunk: reads its batches from storage in file order and hands them to the writers.

It skips what the ledger has, so a chunk that is tried again is read only where it has gaps, and it ends at a batch
boundary when the worker drains.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio

from ingest.accounts import Account
from ingest.batch import Batch
from ingest.chunk import BatchRange, Chunk
from ingest.loading import screen
from ingest.order import Order
from ingest.storage import ObjectReader
from ingest.work import Work


async def run(
    chunk: Chunk,
    work: Work,
    send: trio.MemorySendChannel[Batch],
    account: Account,
    order: Order,
    hire: Callable[[], object] = lambda: None,
) -> bool:
    """Send every batch that is not in the ledger yet; True when the end of the chunk was reached, False on a drain.

    Before each one is handed out, `hire` sees to it that there are writers enough.
    Raises StorageError and SourceChanged. Cancelled, the batch in hand is dropped: it is not in the ledger.
    """
    with send:
        committed = await work.queue.committed_starts(chunk)
        async with work.storage.open(chunk.cut.object_key) as source:
            for stretch in chunk.ranges():
                if work.stop.is_set():
                    return False
                if stretch.start in committed:
                    continue
                batch = await read_batch(source, chunk, stretch)
                account.read()
                order.add(stretch.start)
                hire()
                await send.send(batch)
    return True


async def read_batch(source: ObjectReader, chunk: Chunk, stretch: BatchRange) -> Batch:
    """Read one batch of a chunk from the object it is in. Raises what the object's reader raises."""
    start, length = chunk.cut.object_offset + stretch.start, stretch.end - stretch.start
    return await source.read_as(start, length, partial(as_batch, chunk, stretch))


def as_batch(chunk: Chunk, stretch: BatchRange, data: bytes, *, is_all: bool = False) -> Batch:
    """Return the batch of some bytes and whether COPY may have them; a few milliseconds, to be spent in a thread."""
    return screen(Batch(chunk=chunk, range=stretch, data=data, is_all=is_all))
