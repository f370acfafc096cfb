"""The janitor: takes back chunks of dead workers, ends uploads of dead receivers, removes objects nobody needs.

Every worker runs one; none of them leads. What two do at once, the second finds done.
"""

from __future__ import annotations

import os
import platform
import random
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

import structlog
import trio

from ingest.errors import DatabaseError, StorageError
from ingest.idempotency import SILENCE_S
from ingest.objectkeys import chunk_prefix
from ingest.statements import statement
from ingest.storage import StoredObject
from ingest.work import Work

log = structlog.get_logger(__name__)

ROUND_S = 5.0
# Objects whose job has ended are removed after this; those that no job of this database knows, after a day: they may
# belong to another database that uses the same folder.
ENDED_AGE_S = 60.0
UNKNOWN_AGE_S = 24 * 3600.0
SWEEP_EVERY_ROUNDS = 6
# What is looked for has been silent for minutes, and each look costs the database a query when nothing else happens.
END_UPLOADS_EVERY_ROUNDS = 3
FORGET_WORKERS_S = 3600.0


async def run(work: Work) -> None:
    """Make rounds until cancelled; the first at once, so that a restarted worker goes on where its predecessor died."""
    rounds = 0
    while True:
        try:
            await _rescue(work)
            if rounds % END_UPLOADS_EVERY_ROUNDS == 0:
                await _end_uploads(work)
            if rounds % SWEEP_EVERY_ROUNDS == 0:
                await _forget_workers(work, [])
                await _sweep(work)
        except (DatabaseError, StorageError) as error:
            log.warning("janitor_failed", code=error.code)
        rounds += 1
        await trio.sleep(min(ROUND_S, work.settings.lease_ttl_s / 2) * random.uniform(0.9, 1.1))


async def _rescue(work: Work) -> None:
    dead = await _dead_neighbours(work)
    rescued = await work.queue.rescue(work.settings.lease_ttl_s, dead)
    if rescued:
        log.warning("chunks_rescued", chunks=rescued)
    if dead:
        await _forget_workers(work, dead)


async def _forget_workers(work: Work, dead: list[UUID]) -> None:
    await work.database.execute(statement("forget_workers"), timedelta(seconds=FORGET_WORKERS_S), dead)


async def _dead_neighbours(work: Work) -> list[UUID]:
    """Return workers of this host whose process is gone: no need to wait until their leases run out.

    A process number that was given to another process makes a dead worker look alive; then the lease decides.
    """
    rows = await work.database.fetch(statement("workers_of_host"), platform.node(), work.queue.worker_id)
    return [row["id"] for row in rows if not _is_alive(row["pid"])]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def _end_uploads(work: Work) -> None:
    """End uploads whose receiver died, and forget resumable ones that were not completed in time."""
    silence_s = 2 * work.settings.upload_idle_s + 60
    for row in await work.database.fetch(statement("end_uploads"), timedelta(seconds=silence_s)):
        log.warning("upload_expired" if row["expired"] else "upload_ended", job_id=str(row["job_id"]))
        await work.storage.remove_all(chunk_prefix(row["job_id"]))


async def _sweep(work: Work) -> None:
    """Remove stored objects whose job has ended, or was never written; idempotency keys and sessions that ended."""
    await work.database.execute(statement("forget_requests"), timedelta(seconds=SILENCE_S))
    await work.database.execute(statement("forget_sessions"))
    by_job: dict[UUID, list[StoredObject]] = defaultdict(list)
    for stored in await work.storage.listing():
        job_id = _job_of(stored.key)
        if job_id is not None and stored.age_s > ENDED_AGE_S:
            by_job[job_id].append(stored)
    if not by_job:
        return
    rows = await work.database.fetch(statement("jobs_with_objects"), list(by_job))
    needed = {row["id"]: row["needed"] for row in rows}
    for job_id, objects in by_job.items():
        for stored in objects:
            if stored.age_s > UNKNOWN_AGE_S if job_id not in needed else not needed[job_id]:
                await work.storage.remove(stored.key)


def _job_of(key: str) -> UUID | None:
    parts = key.split("/")
    try:
        return UUID(parts[1]) if parts[0] == "chunks" else None
    except (IndexError, ValueError):
        return None
