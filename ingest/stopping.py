"""How the service is told to stop: the first signal drains, the second one cuts off, a watchdog ends what hangs."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field

import structlog
import trio

log = structlog.get_logger("ingest.service")

# After the grace: time for cancelled work to roll back and say goodbye, before the watchdog ends the process.
HARD_STOP_S = 10.0
# Uploads and answers under way when the worker has drained may go on for this long, within the grace.
HTTP_GRACE_S = 5.0


@dataclass(slots=True)
class Stopping:
    """What a signal stops. Written by `watch_signals` alone, but for `ready`.

    Before the service is ready, a signal ends it as a whole; afterwards the first one asks for a drain (`requested`)
    and the second one cuts off the `work` that is left.
    """

    ready: bool = False
    requested: trio.Event = field(default_factory=trio.Event)
    everything: trio.CancelScope = field(default_factory=trio.CancelScope)
    work: trio.CancelScope = field(default_factory=trio.CancelScope)


async def watch_signals(
    stopping: Stopping, grace_s: float, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Turn the first SIGTERM or SIGINT into a drain with a deadline, and the second into a cancellation."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            log.info("signal", signal=signal.Signals(number).name, draining=stopping.requested.is_set())
            if stopping.requested.is_set():
                stopping.work.cancel(reason="second signal")
                continue
            stopping.requested.set()
            stopping.work.deadline = trio.current_time() + grace_s
            _start_watchdog(grace_s + HTTP_GRACE_S + HARD_STOP_S)
            if not stopping.ready:
                stopping.everything.cancel(reason="stopped before it was ready")


def _start_watchdog(after_s: float) -> None:
    """End the process when it is still there after the grace, whatever it hangs in."""
    watchdog = threading.Timer(after_s, os._exit, (70,))
    watchdog.daemon = True
    watchdog.start()
