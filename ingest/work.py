"""What the actors of one worker share: its settings, its queue, its storage, and the state each of them owns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

import trio
from uuid_utils.compat import uuid7

from ingest.accounts import Accounts
from ingest.announcing import Announcer
from ingest.database import Database
from ingest.events import Wake
from ingest.lanes import Lanes
from ingest.leases import Leases
from ingest.metrics import Metrics
from ingest.queue import Queue
from ingest.settings import Settings
from ingest.storage import Storage


@dataclass(slots=True, kw_only=True)
class Work:
    """One worker's shared state. `lanes` bounds what its writers do at once, over all chunk runs."""

    settings: Settings
    database: Database
    queue: Queue
    storage: Storage
    stop: trio.Event  # set once, by whoever asks the worker to drain; never cleared
    lanes: Lanes
    metrics: Metrics
    announcer: Announcer  # run by whoever runs the worker
    accounts: Accounts = field(default_factory=Accounts)
    leases: Leases = field(default_factory=Leases)
    wake: Wake = field(default_factory=Wake)
    beat: Wake = field(default_factory=Wake)  # asks for a heartbeat before its time
    # Who else is told the id of each job that changes, "" when any may have: one connection listens for all.
    told: list[Callable[[str], None]] = field(default_factory=list)
    expected: tuple[UUID, str] | None = None  # a job whose last batch was not clean, and the SQLSTATE: more is expected


def create_work(
    settings: Settings,
    database: Database,
    storage: Storage,
    stop: trio.Event,
    queue: str = "default",
    *,
    metrics: Metrics | None = None,
    announcer: Announcer | None = None,
) -> Work:
    """Return the shared state of a new worker, under an id that no process had before."""
    return Work(
        metrics=metrics or Metrics(),
        announcer=announcer or Announcer(database),
        settings=settings,
        database=database,
        queue=Queue(database, uuid7(), queue),
        storage=storage,
        stop=stop,
        lanes=Lanes(settings.writer_count),
    )
