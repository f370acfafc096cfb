"""A chunk run: one claimed chunk, one reader, N writers, joined by a bounded channel, under one lease.

Whatever happens inside, the chunk ends in one of three ways: finished, handed back, or failed with a reason. One bad
chunk never disturbs the others; only what nobody foresaw goes up and stops the service.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial

import structlog
import trio
from structlog.contextvars import bound_contextvars

from ingest import reader, wholefile, writer
from ingest.accounts import Account
from ingest.batch import Batch
from ingest.chunk import Chunk
from ingest.dialect import PARSER_VERSION
from ingest.errors import (
    AccountingError,
    ConflictError,
    DatabaseError,
    FileError,
    IngestError,
    LeaseLost,
    SourceChanged,
    StorageError,
    UnavailableError,
)
from ingest.job import JobMode
from ingest.metrics import LeaseEnd
from ingest.objectkeys import chunk_prefix, is_spool
from ingest.order import Order
from ingest.work import Work

log = structlog.get_logger(__name__)

# How long the last statement about a chunk may take once the run is being torn down; less than any lease.
CLEANUP_S = 5.0
# What becomes of jobs by request.
WANTED = frozenset({"cancelled", "paused", "deleted"})
FIRST_BACKOFF_S = 2.0
LONGEST_BACKOFF_S = 300.0


@dataclass(slots=True)
class Outcome:
    """How the run went; written by the run alone."""

    complete: bool = False
    finished: bool = False  # the chunk's only batch has finished it
    error: IngestError | None = None
    lease_end: LeaseEnd | None = None  # None: the lease was ours to the end, or somebody wanted the job to stop


async def run(chunk: Chunk, work: Work) -> None:
    """Load a claimed chunk and settle it: finish, hand back, or fail.

    Cancelled, open batches are rolled back and the chunk is handed back, within CLEANUP_S.
    """
    outcome = Outcome()
    with bound_contextvars(job_id=str(chunk.job_id), chunk=chunk.cut.ordinal, epoch=chunk.epoch):
        log.info("chunk_started", attempt=chunk.attempt, records=sum(chunk.cut.records))
        try:
            with work.accounts.open() as account, work.leases.hold(chunk, work.settings.lease_ttl_s) as lease:
                await _load(chunk, work, account, outcome)
            if lease.scope.cancelled_caught:
                outcome.lease_end = "expired" if trio.current_time() >= lease.scope.deadline else "revoked"
        except* IngestError as group:
            outcome.error = first_error(group)
        finally:
            with trio.move_on_after(CLEANUP_S, shield=True):
                await _settle(chunk, work, outcome)
            if outcome.lease_end is not None:
                work.metrics.lease_lost(outcome.lease_end)


async def _load(chunk: Chunk, work: Work, account: Account, outcome: Outcome) -> None:
    if chunk.spec.parser_version != PARSER_VERSION:
        raise FileError(
            f"the file was cut by parser version {chunk.spec.parser_version}, this is {PARSER_VERSION}; send it again",
            code="E_PARSER_VERSION",
        )
    if chunk.mode is not JobMode.BATCHES:
        outcome.complete = await wholefile.run(chunk, work, account)
        return
    order = Order(keyed=chunk.spec.keyed)
    if len(chunk.cut.ends) == 1 and chunk.epoch == 1:
        await _load_at_once(chunk, work, account, order, outcome)
        return
    async with trio.open_nursery() as nursery:
        send, receive = trio.open_memory_channel[Batch](1)
        # Ours stays open beside the clones: when the last writer fails, the reader is cancelled and not told that
        # nobody reads any more, an error that would hide the writer's and belong to nobody.
        with receive, work.metrics.channel(receive):

            def begin() -> None:
                nursery.start_soon(writer.run, receive.clone(), work, account, order, crew.is_spare)

            with work.lanes.crew(begin, in_order=order.keyed) as crew:
                complete = await reader.run(chunk, work, send, account, order, crew.hire)
    outcome.complete = complete


async def _load_at_once(chunk: Chunk, work: Work, account: Account, order: Order, outcome: Outcome) -> None:
    """Load the only batch of a chunk that was never claimed before: none of it can be in the ledger."""
    if work.stop.is_set():
        return
    [stretch] = chunk.ranges()
    made = partial(reader.as_batch, chunk, stretch, is_all=True)
    batch = await work.storage.read_as(chunk.cut.object_key, chunk.cut.object_offset, stretch.end, made)
    account.read()
    order.add(stretch.start)
    result = await writer.write(batch, work, account, order)
    outcome.complete, outcome.finished = True, result is not None and result.finished


async def _settle(chunk: Chunk, work: Work, outcome: Outcome) -> None:
    """Say what became of the chunk. When that cannot be said, the lease runs out and the chunk is rescued."""
    try:
        try:
            await _conclude(chunk, work, outcome)
        except LeaseLost:
            outcome.lease_end = outcome.lease_end or "fenced"
            await _explain(chunk, work, outcome)
    except DatabaseError as error:
        log.warning("chunk_unsettled", code=error.code, sqlstate=error.sqlstate)


async def _conclude(chunk: Chunk, work: Work, outcome: Outcome) -> None:
    if outcome.error is not None:
        await _settle_failed(chunk, work, outcome.error)
    elif outcome.finished:
        work.announcer.tell(chunk.job_id)
        await _remove_object(chunk, work)
    elif outcome.complete:
        await _finish(chunk, work)
    else:
        await _release(chunk, work)


async def _release(chunk: Chunk, work: Work, delay_s: float = 0.0, **reason: str) -> None:
    if not await work.queue.release(chunk, delay_s):
        raise LeaseLost("the chunk was taken away before it was handed back")
    log.log(logging.WARNING if reason else logging.INFO, "chunk_released", **reason)


async def _explain(chunk: Chunk, work: Work, outcome: Outcome) -> None:
    """Say why the chunk is no longer ours: somebody wanted it so, or we were too slow."""
    fate = await work.queue.fate(chunk)
    if fate == "finished":  # and the answer that said so was lost, or came later than the heartbeat's
        outcome.lease_end = None
        await (_remove_object(chunk, work) if chunk.mode is JobMode.BATCHES else _finish(chunk, work))
        return
    if fate in WANTED:
        outcome.lease_end = None
    log.log(logging.INFO if fate in WANTED else logging.WARNING, "chunk_lost", fate=fate)


async def _finish(chunk: Chunk, work: Work) -> None:
    if chunk.mode is not JobMode.BATCHES:
        await _remove(work.storage.remove_all(chunk_prefix(chunk.job_id)))  # the job has ended with its transaction
        return
    try:
        await work.queue.finish(chunk)
    except AccountingError as error:
        # A database that crashed has forgotten its last commits, rows and ledger lines alike; the next try reads only
        # these again. A gap that stays is a bug of ours and fails the chunk.
        state = await work.queue.fail(chunk, error, permanent=False, delay_s=backoff_s(chunk.attempt))
        log.warning("chunk_has_gap", state=state)
        return
    await _remove_object(chunk, work)


async def _remove_object(chunk: Chunk, work: Work) -> None:
    """Remove what nobody will read again, now that the chunk is finished."""
    log.info("chunk_finished")
    if not is_spool(chunk.cut.object_key) or await work.queue.has_ended(chunk.job_id):
        await _remove(work.storage.remove(chunk.cut.object_key))


async def _remove(removal: Awaitable[None]) -> None:
    try:
        await removal
    except StorageError as error:
        log.warning("object_not_removed", code=error.code)  # the janitor will


async def _settle_failed(chunk: Chunk, work: Work, error: IngestError) -> None:
    if isinstance(error, LeaseLost):
        raise error
    if isinstance(error, UnavailableError):
        await _release(chunk, work, backoff_s(chunk.attempt), code=error.code, sqlstate=error.sqlstate)
        return
    retry = isinstance(error, ConflictError | StorageError) and not isinstance(error, SourceChanged)
    state = await work.queue.fail(chunk, error, permanent=not retry, delay_s=backoff_s(chunk.attempt))
    if state == "stale":  # what looked like an error is what the new owner did: its object is gone, for one
        raise LeaseLost("another worker has the chunk now", chunk=chunk.cut.ordinal, epoch=chunk.epoch) from error
    log.error("chunk_failed", code=error.code, sqlstate=getattr(error, "sqlstate", None), state=state)


def first_error(group: BaseExceptionGroup[IngestError]) -> IngestError:
    """Return the error that says most: a lost lease before all others, else the first one raised."""
    errors = [error for error in _leaves(group) if isinstance(error, IngestError)]
    return next((error for error in errors if isinstance(error, LeaseLost)), errors[0])


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found


def backoff_s(attempt: int) -> float:
    """Return the delay before the next try of a chunk, after `attempt` tries."""
    return min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** max(attempt - 1, 0)) * random.uniform(0.5, 1.5)
