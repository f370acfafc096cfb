"""A job that is loaded as a whole: one worker, one transaction, whoever holds the job's first chunk stands for all.

`atomic`: nothing can be seen before the one COMMIT, which also completes the job. `validate`: the same, but rolled
back; the job says what a load would have done. Whatever ends the transaction early leaves the table as it was, and the
next try begins anew. Rejects are written beside the transaction, so that they are there also when it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from ingest.accounts import Account
from ingest.batch import Batch, BatchResult
from ingest.budget import SAMPLE_ROWS
from ingest.chunk import Chunk
from ingest.database import Held, Session
from ingest.errors import FileError, RowError
from ingest.job import JobMode
from ingest.ledger import finish_whole, pass_fence
from ingest.loading import begin_whole, isolate_within, load_within, way_of, write_rejects
from ingest.reader import read_batch
from ingest.reject import Reject
from ingest.work import Work

log = structlog.get_logger(__name__)

# How often people learn how far it is.
NOTE_S = 0.5


async def run(lead: Chunk, work: Work, account: Account) -> bool:
    """Load or try the whole job; False when the worker drains first, then nothing has happened.

    Raises what a chunk run raises, and FileError (E_TOO_MANY_REJECTS). Cancelled, everything is rolled back.
    """
    chunks = await work.queue.begin_whole(lead)
    send, receive = trio.open_memory_channel[Batch](1)
    async with work.database.hold() as held:
        await held.run(lambda session: session.execute(begin_whole(lead)))
        whole = _Whole(lead, chunks, work, held)
        # The channel is closed last: a reader that finds it broken would hide the error that broke it.
        with receive, work.metrics.channel(receive):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_read, chunks, work, send, account)
                async for batch in receive:
                    await whole.load(batch, account)
        complete = await whole.finish()
    log.info("whole_finished" if complete else "whole_given_up", mode=lead.mode)
    return complete


async def _read(chunks: Sequence[Chunk], work: Work, send: trio.MemorySendChannel[Batch], account: Account) -> None:
    """Send every batch of the file in order; stop at a batch boundary when the worker drains."""
    with send:
        for chunk in chunks:
            async with work.storage.open(chunk.cut.object_key) as source:
                for stretch in chunk.ranges():
                    if work.stop.is_set():
                        return
                    batch = await read_batch(source, chunk, stretch)
                    account.read()
                    await send.send(batch)


class _Whole:
    """The open transaction, and what was done in it so far."""

    def __init__(self, lead: Chunk, chunks: Sequence[Chunk], work: Work, held: Held) -> None:
        self._lead = lead
        self._work = work
        self._held = held
        self._results = {chunk.id: BatchResult() for chunk in chunks}
        self._bytes_left = sum(chunk.cut.length_bytes for chunk in chunks)
        self._bytes_tried = 0
        self._records = 0
        self._stored = 0  # rejected records that are kept to look at
        self._noted_at = trio.current_time()

    async def load(self, batch: Batch, account: Account) -> None:
        """Load a batch. Raises FileError when the job has more rejects than its budget allows."""
        account.take()
        began = trio.current_time()
        result = await self._load(batch)
        result.check(batch.range.records)
        self._results[batch.chunk.id] += result
        self._records += batch.range.records
        self._bytes_tried += batch.range.end - batch.range.start
        if result.rejects:
            await self._keep(batch, result.rejects)
            await self._check_budget(SAMPLE_ROWS)
        account.settle(trio.current_time() - began)
        await self._note()

    async def _load(self, batch: Batch) -> BatchResult:
        try:
            with self._work.metrics.trying(way_of(batch)):
                return await load_within(self._held, batch)
        except RowError as error:
            with self._work.metrics.trying("isolated"):
                return await isolate_within(self._held, batch, after=error.sqlstate)

    async def finish(self) -> bool:
        """Publish, or report; False when not every batch was read."""
        if self._bytes_tried < self._bytes_left:
            return False
        await self._check_budget(0)
        # From its own COMMIT on the lease is gone: heard of before that COMMIT's answer, it would look like a loss.
        self._work.leases.end(self._lead)
        if self._lead.mode is JobMode.ATOMIC:
            await self._held.run(self._publish)
            self._work.metrics.committed(self._lead.spec.dataset, sum(self._results.values(), BatchResult()))
        else:
            await self._held.run(lambda session: session.execute("ROLLBACK"))
            await self._work.database.transact(lambda session: finish_whole(session, self._lead, self._results))
        return True

    async def _publish(self, session: Session) -> None:
        await finish_whole(session, self._lead, self._results)
        await session.commit()

    async def _keep(self, batch: Batch, rejects: Sequence[Reject]) -> None:
        """Write rejects, in a transaction of their own, as far as the job may store them."""
        lines = sorted({reject.line for reject in rejects})[: self._lead.max_stored_rejects - self._stored]
        kept = [reject for reject in rejects if lines and reject.line <= lines[-1]]
        self._stored += len(lines)

        async def unit(session: Session) -> None:
            await pass_fence(session, self._lead)
            await write_rejects(session, batch, kept)

        await self._work.database.transact(unit)
        self._work.metrics.rejected(kept)

    async def _check_budget(self, sample: int) -> None:
        rejected = sum(result.rejected for result in self._results.values())
        text = await self._work.queue.over_budget(self._lead, self._records, rejected, sample=sample)
        if text is not None:
            raise FileError(text, code="E_TOO_MANY_REJECTS")

    async def _note(self) -> None:
        now = trio.current_time()
        if now - self._noted_at >= NOTE_S:
            self._noted_at = now
            await self._work.queue.note_progress(self._lead, self._bytes_tried)
