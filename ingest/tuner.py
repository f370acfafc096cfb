"""The tuner: has the number of writers follow what the load can use. `climbing` decides, this looks and acts.

It looks at what the lanes have measured, asks the database about locks only when a batch takes long, and looks at the
memory of the process. With a number that was set by hand there is nothing for it to do.
"""

from __future__ import annotations

from dataclasses import replace

import structlog
import trio

from ingest.climbing import Climber, Reason
from ingest.errors import DatabaseError
from ingest.memory import is_tight
from ingest.statements import statement
from ingest.throughput import Trouble
from ingest.work import Work

log = structlog.get_logger(__name__)

LOOK_S = 0.25
# Most batches take less. One that takes longer may wait for a lock; the server gives up on that after five seconds.
LONG_BATCH_S = 1.0
# How long the answer may take: no reason to wait for a server that has other troubles.
ANSWER_S = 2.0
# Trials and the returns from them are the rule, and most of all changes.
QUIET: frozenset[Reason] = frozenset({"trial", "return"})


async def run(work: Work) -> None:
    """Adapt the writers until cancelled; returns at once where their number was set."""
    if work.settings.writers != "auto":
        return
    climber = Climber(least=1, start=work.lanes.writers, most=work.settings.most_writers)
    while True:
        await trio.sleep(LOOK_S)
        sample = work.lanes.take()
        reason = climber.observe(replace(sample, trouble=sample.trouble or await _trouble(work)))
        work.lanes.rate = climber.rate
        if reason is not None:
            _change(work, climber.writers, reason)


async def _trouble(work: Work) -> Trouble | None:
    if not work.lanes.busy:
        return None
    if work.lanes.oldest_s > LONG_BATCH_S and await _is_waiting_for_locks(work):
        return "lock"
    return "memory" if is_tight() else None


async def _is_waiting_for_locks(work: Work) -> bool:
    """Whether half of the batches at the database, or more, wait for somebody's lock."""
    chunks = [lease.chunk for lease in work.leases]
    ids, epochs = [chunk.id for chunk in chunks], [chunk.epoch for chunk in chunks]
    try:
        with trio.move_on_after(ANSWER_S):
            waiting: int = await work.database.value(statement("batches_waiting_for_locks"), ids, epochs)
            return waiting * 2 >= max(1, work.lanes.busy)
    except DatabaseError:
        pass  # the writers find out, too, and say so
    return False


def _change(work: Work, writers: int, reason: Reason) -> None:
    before = work.lanes.writers
    work.lanes.resize(writers, reason)
    work.database.allow(writers)
    work.metrics.writers_changed(reason)
    line = log.debug if reason in QUIET else log.info
    line("writers_changed", writers=writers, before=before, reason=reason)
