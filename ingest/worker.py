"""A worker: the poller with its chunk runs, and beside them heartbeat, janitor, tuner and wake-ups.

The side actors live as long as the poller: they keep leases alive while it drains, and end when it has.
"""

from __future__ import annotations

import os
import platform
from functools import partial

import structlog
import trio

from ingest import __version__, heartbeat, janitor, poller, tuner
from ingest.database import Notification
from ingest.errors import DatabaseError, UnavailableError
from ingest.events import JOB_CHANNEL, tell_worker
from ingest.heartbeat import Pulse
from ingest.work import Work

log = structlog.get_logger(__name__)

# How long leaving the database may take, once the work is done or was cut off.
FAREWELL_S = 5.0
# A database that goes away the moment after the start is waited for as at any other time.
REGISTER_AGAIN_S = 1.0


async def run(work: Work, pulse: Pulse) -> None:
    """Work until `work.stop` is set and the last chunk run has ended.

    Cancelled, chunk runs roll back and hand their chunks back; what they cannot hand back, the farewell does.
    """
    if not await _register(work):
        return
    try:
        async with trio.open_nursery() as beside:
            beside.start_soon(heartbeat.run, work, pulse)
            beside.start_soon(janitor.run, work)
            beside.start_soon(tuner.run, work)
            beside.start_soon(tell_worker, work.database, partial(_hear, work))
            beside.start_soon(_wake_on_stop, work)
            await poller.run(work)
            beside.cancel_scope.cancel(reason="drained")
    finally:
        with trio.move_on_after(FAREWELL_S, shield=True):
            await _leave(work)


async def _register(work: Work) -> bool:
    """Make the worker known, as soon as the database is there; False when it was told to stop before."""
    while not work.stop.is_set():
        try:
            await work.queue.register(platform.node(), os.getpid(), __version__)
        except UnavailableError as error:
            log.warning("worker_not_registered", code=error.code, sqlstate=error.sqlstate)
        else:
            return True
        with trio.move_on_after(REGISTER_AGAIN_S):
            await work.stop.wait()
    return False


def _hear(work: Work, told: Notification) -> None:
    """Look for work, or let the heartbeat find out whether a job at hand was cancelled or paused; tell others."""
    if told.channel != JOB_CHANNEL:
        work.wake.set()
    if not told.channel or told.payload in {str(lease.chunk.job_id) for lease in work.leases}:
        work.beat.set()
    if told.channel in ("", JOB_CHANNEL):
        for tell in work.told:
            tell(told.payload)


async def _wake_on_stop(work: Work) -> None:
    """A poller that waits for work hears of the stop at once."""
    await work.stop.wait()
    work.wake.set()


async def _leave(work: Work) -> None:
    try:
        await work.queue.unregister()
    except DatabaseError as error:
        log.warning("worker_not_unregistered", code=error.code)  # its neighbours find it dead
