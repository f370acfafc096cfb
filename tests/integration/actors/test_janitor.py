"""The janitor takes back, ends and removes what nobody looks after any more, and nothing else."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from ingest import janitor
from ingest.storage import Storage, chunk_key
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim
from tests.integration.build import cut, numbers, receive

LONG_S = 20.0


async def rounds(work: Work, count: int = 1) -> None:
    """Let the janitor make some rounds."""
    with trio.fail_after(LONG_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(janitor.run, work)
            for _ in range(count):
                await trio.testing.wait_all_tasks_blocked()
                await done(work)
            nursery.cancel_scope.cancel()


async def done(work: Work) -> None:
    """Wait for the last statement of a round."""
    before = await work.database.value("SELECT 1")
    assert before == 1


def stored(storage: Storage, job_id: UUID, *, age_s: float) -> Path:
    """Put an object of a job into the storage that is so many seconds old; returns its file."""
    key = chunk_key(job_id, 1)
    writer = storage.create(key)
    writer.write(b"1\n")
    writer.seal()
    path = storage._root / key
    os.utime(path, (time.time() - age_s,) * 2)
    return path
