"""Events: what NOTIFY tells, turned into a wake-up for whoever polls. Polling is the truth; this only makes it fast."""

from __future__ import annotations

from collections.abc import Callable

import trio

from ingest.database import Database, Notification, listen

WORK_CHANNEL = "ingest_work"
JOB_CHANNEL = "ingest_job"

# Notifications that may wait to be looked at; more are dropped, which costs at most one poll interval.
BUFFERED_NOTIFICATIONS = 64


class Wake:
    """A latched wake-up for one waiter: a `set` between two waits is not lost."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Wake the waiter, or let its next wait return at once."""
        self._event.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when woken or after `timeout_s`, whichever comes first."""
        with trio.move_on_after(timeout_s):
            await self._event.wait()
        self._event = trio.Event()


async def tell_worker(database: Database, tell: Callable[[Notification], None]) -> None:
    """Tell a worker of work and of changes to jobs, and of every reconnection (an empty one). Runs until cancelled."""
    send, receive = trio.open_memory_channel[Notification](BUFFERED_NOTIFICATIONS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, database, (WORK_CHANNEL, JOB_CHANNEL), send)
        with receive:
            async for notification in receive:
                tell(notification)


async def tell_of_jobs(database: Database, tell: Callable[[str], None]) -> None:
    """Call `tell` with the id of each job whose state has changed, with "" after every (re)connection: any may have.

    Runs until cancelled.
    """
    send, receive = trio.open_memory_channel[Notification](BUFFERED_NOTIFICATIONS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, database, (JOB_CHANNEL,), send)
        with receive:
            async for notification in receive:
                tell(notification.payload)
