"""Jobs whose chunks may not run side by side: those whose file order matters, and those that are loaded as a whole."""

from __future__ import annotations

from uuid import uuid4

import pytest

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database
from ingest.errors import FileError, LeaseLost
from ingest.ledger import commit_batch, finish_whole
from ingest.queue import Queue
from ingest.spec import Merge
from tests.conftest import Psql
from tests.integration.build import cut, make_job
from tests.integration.loading.oracle import kept

DATA = b"1,a,1\n2,b,2\n"
STATES = "select string_agg(state || coalesce(' ' || error_code, ''), ', ' order by ordinal) from ingest.chunks"


async def make_ordered(database: Database) -> None:
    """Write a job of three chunks for a dataset whose file order matters."""
    await make_job(database, [cut(DATA, single_column=False)] * 3, of=kept(Merge.UPSERT, trim=False))


async def complete(database: Database, queue: Queue, chunk: Chunk) -> None:
    """Commit the chunk's batches and finish it."""
    for stretch in chunk.ranges():
        batch = Batch(chunk=chunk, range=stretch, data=DATA)
        await database.transact(lambda s, b=batch: commit_batch(s, b, BatchResult(inserted=b.range.records)))
    await queue.finish(chunk)


async def test_a_chunk_waits_for_those_before_it(database: Database) -> None:
    """Also with another worker that has room."""
    await make_ordered(database)
    queue, other = Queue(database, uuid4()), Queue(database, uuid4())
    for ordinal in (1, 2, 3):
        [chunk] = await queue.claim(5)
        assert chunk.cut.ordinal == ordinal
        assert await other.claim(5) == []
        await complete(database, queue, chunk)
    assert await queue.claim(5) == []


async def test_no_chunk_is_tried_after_one_that_failed(database: Database, psql: Psql) -> None:
    """Its job has failed with the reason of the first."""
    await make_ordered(database)
    queue = Queue(database, uuid4())
    [first] = await queue.claim(1)
    await complete(database, queue, first)
    [second] = await queue.claim(1)
    await queue.fail(second, FileError("broken", code="E_BROKEN"), permanent=True, delay_s=0)
    assert psql(STATES) == "completed, failed E_BROKEN, failed E_NOT_TRIED"
    assert psql("select state, error_code from ingest.jobs") == "failed|E_BROKEN"
    assert await queue.claim(5) == []


async def test_the_first_chunk_stands_for_a_job_that_is_loaded_as_a_whole(database: Database, psql: Psql) -> None:
    """The others are never claimed; all end with it."""
    await make_ordered(database)
    psql("update ingest.jobs set mode = 'atomic', in_order = false")
    queue = Queue(database, uuid4())
    [lead] = await queue.claim(5)
    assert lead.cut.ordinal == 1
    assert await queue.claim(5) == []
    chunks = await queue.begin_whole(lead)
    assert [chunk.cut.ordinal for chunk in chunks] == [1, 2, 3]
    await queue.note_progress(lead, 12)
    assert psql("select bytes_tried from ingest.jobs") == "12"
    results = {chunk.id: BatchResult(inserted=2) for chunk in chunks}
    await database.transact(lambda session: finish_whole(session, lead, results))
    assert psql(STATES) == "completed, completed, completed"
    assert psql("select state, inserted from ingest.jobs") == "completed|6"


async def test_a_whole_that_was_taken_over_cannot_be_finished(database: Database, psql: Psql) -> None:
    """Whoever was frozen meanwhile learns that it is not its any more."""
    await make_ordered(database)
    psql("update ingest.jobs set mode = 'atomic'")
    queue = Queue(database, uuid4())
    [lead] = await queue.claim(1)
    assert await queue.release(lead)
    [again] = await queue.claim(1)
    assert again.epoch > lead.epoch
    for stale in (
        queue.begin_whole(lead),
        database.transact(lambda s: finish_whole(s, lead, {lead.id: BatchResult()})),
    ):
        with pytest.raises(LeaseLost):
            await stale
    assert psql(STATES) == "processing, pending, pending"
