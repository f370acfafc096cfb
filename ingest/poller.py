"""The poller: claims chunks whenever one can be started, and starts a run for each. Never claims more than that.

NOTIFY wakes it; polling at an interval finds what a lost notification would have told.
"""

from __future__ import annotations

import random

import structlog
import trio

from ingest import chunkrun
from ingest.chunk import Chunk
from ingest.errors import DatabaseError
from ingest.work import Work

log = structlog.get_logger(__name__)

# Pollers that were started together fall out of step.
JITTER = 0.1
# A claim that is being cancelled is awaited this long, so that no chunk is claimed by nobody.
CLAIM_S = 10.0


async def run(work: Work) -> None:
    """Claim and run chunks until the worker is told to stop, then return when the last run has ended."""
    async with trio.open_nursery() as runs:
        running: set[tuple[int, int]] = set()  # by chunk and epoch: a lost chunk may come back before its run has ended
        while not work.stop.is_set():
            claimed = await _claim(work, work.settings.concurrent_chunks - len(running))
            for chunk in claimed:
                running.add((chunk.id, chunk.epoch))
                runs.start_soon(_run, chunk, work, running)
            if not claimed:
                await work.wake.wait(work.settings.poll_interval_s * random.uniform(1, 1 + JITTER))
        log.info("worker_draining", chunks=len(running))


async def _run(chunk: Chunk, work: Work, running: set[tuple[int, int]]) -> None:
    try:
        await chunkrun.run(chunk, work)
    finally:
        running.discard((chunk.id, chunk.epoch))
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
