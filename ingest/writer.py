"""A writer: loads the batches it is handed, one transaction each, and retries what is worth a retry.

Who decides what: the database layer says what kind of error it was, this module says how often and when to try again,
the chunk run says what becomes of the chunk when it gives up.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import structlog
import trio

from ingest.accounts import Account
from ingest.batch import Batch, BatchResult
from ingest.errors import ConflictError, DatabaseError, LeaseLost, RowError, UnavailableError
from ingest.ledger import AlreadyCommitted
from ingest.loading import expected_after, load_isolated, load_whole, way_of
from ingest.order import GaveWay, Order
from ingest.work import Work

log = structlog.get_logger(__name__)

# A deadlock or lock timeout is tried again this often before the chunk's try counts as failed.
MAX_CONFLICTS = 20
# How long the answer about the budget is waited for once the run is being torn down.
ANSWER_S = 2.0
FIRST_DELAY_S = 0.01
LONGEST_DELAY_S = 5.0


async def run(
    receive: trio.MemoryReceiveChannel[Batch],
    work: Work,
    account: Account,
    order: Order,
    is_spare: Callable[[], bool] = lambda: False,
) -> None:
    """Load batches until the reader closes its end, or until `is_spare` says so after one of them.

    Raises ConflictError after MAX_CONFLICTS, LeaseLost (also when the job was stopped for its rejects),
    PermanentError, AccountingError. Cancelled, the batch at hand is rolled back.
    """
    with receive:
        async for batch in receive:
            await write(batch, work, account, order)
            if is_spare():
                return


async def write(batch: Batch, work: Work, account: Account, order: Order) -> BatchResult | None:
    """Load one batch that was read, and what follows from it; None when it was in the ledger already.

    Raises, and leaves when it is cancelled, what `run` does.
    """
    account.take()
    began = trio.current_time()
    result = await _load(batch, work, order)
    account.settle(trio.current_time() - began)
    order.settle(batch.range.start)
    _log_result(batch, result, trio.current_time() - began)
    if result is not None and result.rejected and batch.chunk.has_budget:
        await _enforce_budget(batch, work)
    return result


async def _load(batch: Batch, work: Work, order: Order) -> BatchResult | None:
    """Load one batch, whatever it takes; None when it turned out to be in the ledger already."""
    after = work.expected[1] if work.expected and work.expected[0] == batch.chunk.job_id else None
    attempt = _Attempt(batch=batch, work=work, order=order, isolated=after is not None, after=after)
    failed, conflicts, delays = None, 0, _delays()
    while True:
        try:
            result = await attempt.run()
            _learn(batch, result, work, failed)
            return result
        except AlreadyCommitted:
            return None
        except GaveWay:
            attempt = replace(attempt, ahead=False)
        except RowError as error:
            if attempt.isolated:
                raise
            log.debug("batch_isolated", first_line=batch.range.first_line, sqlstate=error.sqlstate)
            failed = error.sqlstate
            attempt = replace(attempt, isolated=True, after=failed)
        except ConflictError as error:
            conflicts += 1
            if conflicts > MAX_CONFLICTS:
                raise
            await _wait(error, batch, work, next(delays))
        except UnavailableError as error:
            await _wait(error, batch, work, next(delays))
            if await _is_committed(batch, work):
                return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """How a batch is tried: as a whole, or `isolated` because of the SQLSTATE `after`.

    `ahead`: a batch that is staged as a whole begins before its turn.
    """

    batch: Batch
    work: Work
    order: Order
    isolated: bool = False
    after: str | None = None
    ahead: bool = True

    async def run(self) -> BatchResult:
        """Load the batch once, when that is allowed. Raises what loading raises, and GaveWay."""
        start, way = self.batch.range.start, "isolated" if self.isolated else way_of(self.batch)
        if way != "staged" or not self.ahead:
            await self.order.turn(start)
        await self.order.begin(start)
        try:
            async with self.work.lanes.through(len(self.batch.data)):
                with self.work.metrics.trying(way):
                    result = await self._load()
        except BaseException:
            self.order.stop(start)
            raise
        self.work.metrics.committed(self.batch.chunk.spec.dataset, result)
        return result

    async def _load(self) -> BatchResult:
        if self.isolated:
            return await load_isolated(self.work.database, self.batch, after=self.after)
        turn = partial(self.order.turn_within, self.batch.range.start)
        return await load_whole(self.work.database, self.batch, turn)


def _learn(batch: Batch, result: BatchResult, work: Work, failed: str | None) -> None:
    """Expect of a job's next batch what was wrong with this one: then it is not tried as a whole first."""
    job_id = batch.chunk.job_id
    sqlstate = expected_after(batch, result, failed)
    if sqlstate is not None:
        work.expected = job_id, sqlstate
    elif work.expected is not None and work.expected[0] == job_id:
        work.expected = None


async def _enforce_budget(batch: Batch, work: Work) -> None:
    """Stop the job when its rejects are too many. Raises LeaseLost when it was: the chunk is no longer ours."""
    stopped = False
    try:
        # Stopping the job ends our own lease too, often before the answer is here; it should still be told who did it.
        with trio.move_on_after(ANSWER_S, shield=True):
            stopped = await work.queue.enforce_budget(batch.chunk)
    except (ConflictError, UnavailableError) as error:
        log.warning("budget_not_checked", code=error.code, sqlstate=error.sqlstate)  # the next batch asks again
        return
    if stopped:
        log.warning("job_over_budget", job_id=str(batch.chunk.job_id))
        raise LeaseLost("the job has more rejects than it may have and was stopped")


async def _is_committed(batch: Batch, work: Work) -> bool:
    """Tell whether a COMMIT whose answer was lost has happened; False too while the database is away."""
    try:
        return await work.queue.is_committed(batch)
    except UnavailableError:
        return False


async def _wait(error: DatabaseError, batch: Batch, work: Work, delay_s: float) -> None:
    work.metrics.retried(error.sqlstate)
    log.warning(
        "batch_retry", first_line=batch.range.first_line, code=error.code, sqlstate=error.sqlstate, delay_s=delay_s
    )
    await trio.sleep(delay_s)


def _delays() -> Iterator[float]:
    """Yield delays that double up to LONGEST_DELAY_S, each spread over 0.5 to 1.5 so that writers fall out of step."""
    delay_s = FIRST_DELAY_S
    while True:
        yield round(delay_s * random.uniform(0.5, 1.5), 4)
        delay_s = min(delay_s * 2, LONGEST_DELAY_S)


def _log_result(batch: Batch, result: BatchResult | None, seconds: float) -> None:
    log.info(
        "batch_committed",
        first_line=batch.range.first_line,
        records=batch.range.records,
        rejected=result.rejected if result else None,
        seconds=round(seconds, 3),
    )
