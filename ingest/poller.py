"""The poller: claims chunks whenever one can be started, and starts a run for each. Never claims more than that.

A small chunk spends its time on trips to the database, during which others can go on: several of them count as one.
NOTIFY wakes the poller; polling at an interval finds what a lost notification would have told.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import structlog
import trio

from ingest import chunkrun
from ingest.chunk import Chunk
from ingest.errors import DatabaseError
from ingest.work import Work

log = structlog.get_logger(__name__)

# So many chunks of so few bytes are run in the place of one; not where one is all that is allowed.
SMALL_BYTES, SMALL_AT_ONCE = 256 * 1024, 6
# Pollers that were started together fall out of step.
JITTER = 0.1
# A claim that is being cancelled is awaited this long, so that no chunk is claimed by nobody.
CLAIM_S = 10.0


async def run(work: Work) -> None:
    """Claim and run chunks until the worker is told to stop, then return when the last run has ended."""
    async with trio.open_nursery() as runs:
        # What each counts, by chunk and epoch: a lost chunk may come back before its run has ended.
        running: dict[tuple[int, int], int] = {}
        while not work.stop.is_set():
            claimed = await _claim(work, _free(work, running.values()))
            for chunk in claimed:
                work.announcer.tell(chunk.job_id)
                running[chunk.id, chunk.epoch] = _share(work, chunk)
                runs.start_soon(_run, chunk, work, running)
            if not claimed:
                await work.wake.wait(work.settings.poll_interval_s * random.uniform(1, 1 + JITTER))
        log.info("worker_draining", chunks=len(running))


def _share(work: Work, chunk: Chunk) -> int:
    """Return what a chunk counts, in parts of a large one."""
    is_small = chunk.cut.length_bytes <= SMALL_BYTES and work.settings.concurrent_chunks > 1
    return 1 if is_small else SMALL_AT_ONCE


def _free(work: Work, shares: Iterable[int]) -> int:
    """Return how many chunks may be claimed: large ones, or at least one that is hoped to be small."""
    parts = work.settings.concurrent_chunks * SMALL_AT_ONCE - sum(shares)
    return max(parts // SMALL_AT_ONCE, min(parts, 1))


async def _run(chunk: Chunk, work: Work, running: dict[tuple[int, int], int]) -> None:
    try:
        await chunkrun.run(chunk, work)
    finally:
        del running[chunk.id, chunk.epoch]
        work.wake.set()


async def _claim(work: Work, free: int) -> list[Chunk]:
    if free <= 0:
        return []
    try:
        with trio.move_on_after(CLAIM_S, shield=True):
            return await work.queue.claim(free)
    except DatabaseError as error:
        log.warning("claim_failed", code=error.code, sqlstate=error.sqlstate)
    return []
