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
import structlog
import trio

from ingest import janitor
from ingest.errors import StorageError
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_key
from ingest.work import Work
from tests.conftest import Psql
from tests.integration.actors.conftest import MakeJob, MakeWork, claim
from tests.integration.build import cut, numbers, receive

LONG_S = 60.0
OLD_S = 2 * 24 * 3600.0


def store(work: Work, job_id: UUID, age_s: float, tmp_path: Path) -> Path:
    """Put an object of a job into the storage that is so many seconds old; returns its file."""
    key = chunk_key(job_id, 1)
    writer = work.storage.create(key)
    writer.write(b"1\n")
    writer.seal()
    [path] = tmp_path.rglob(key)
    os.utime(path, (time.time() - age_s,) * 2)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds follow one another at once, and each sweeps."""
    monkeypatch.setattr(janitor, "ROUND_S", 0.0)
    monkeypatch.setattr(janitor, "SWEEP_EVERY_ROUNDS", 1)


async def whole_rounds(work: Work, tmp_path: Path) -> None:
    """Let the janitor work for at least one whole round: two things to sweep, the second put there after the first."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(janitor.run, work)
        for _ in range(2):
            job_id = await receive(work.database.reserved, [])
            await Jobs(work.database.reserved).complete_upload(job_id, bytes_total=0, sha256=bytes(32), records=0)
            swept = store(work, job_id, OLD_S, tmp_path)
            with trio.fail_after(LONG_S):
                while swept.exists():
                    await work.database.reserved.value("SELECT 1")
        nursery.cancel_scope.cancel()


def dead_process() -> int:
    """The number of a process that has ended and that nobody has now."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


async def test_chunks_of_silent_workers_are_taken_back(
    work: Work, make_work: MakeWork, job: MakeJob, psql: Psql, tmp_path: Path
) -> None:
    """After the lease has run out, wherever the worker is; those of others stay."""
    await job(numbers(5))
    await job(numbers(5))
    silent, alive = make_work(), make_work()
    await silent.queue.register("elsewhere", 1, "0")
    await alive.queue.register("elsewhere", 1, "0")
    lost, kept = await claim(silent), await claim(alive)
    psql("update ingest.chunks set claimed_at = now() - interval '1 hour'; update ingest.leases set heartbeat_at = "
         f"now() - interval '21 s' where chunk_id = {lost.id}")  # fmt: skip
    with structlog.testing.capture_logs() as logs:
        await whole_rounds(work, tmp_path)
    assert psql("select id, state from ingest.chunks order by id") == f"{lost.id}|pending\n{kept.id}|processing"
    assert [entry["chunks"] for entry in logs if entry["event"] == "chunks_rescued"] == [1]


async def test_chunks_of_a_process_of_this_host_that_has_gone(
    work: Work, make_work: MakeWork, job: MakeJob, psql: Psql, tmp_path: Path
) -> None:
    """At once, whatever its lease; the worker is forgotten. A process number of another host says nothing."""
    for _ in range(3):
        await job(numbers(5))
    gone = dead_process()
    dead, far, alive = make_work(), make_work(), make_work()
    await dead.queue.register(platform.node(), gone, "0")
    await far.queue.register("elsewhere", gone, "0")
    await alive.queue.register(platform.node(), os.getpid(), "0")
    chunks = [await claim(worker) for worker in (dead, far, alive)]
    await whole_rounds(work, tmp_path)
    states = [psql(f"select state from ingest.chunks where id = {chunk.id}") for chunk in chunks]
    assert states == ["pending", "processing", "processing"]
    assert psql(f"select count(*) from ingest.workers where id = '{dead.queue.worker_id}'") == "0"
    assert psql("select count(*) from ingest.workers") == "2"


async def test_sessions_that_have_ended_are_forgotten(work: Work, psql: Psql, tmp_path: Path) -> None:
    """By themselves, or with their key."""
    psql("""
        insert into ingest.keys (prefix, secret_sha256, owner, scopes, expires_at, revoked_at) values
          ('good', sha256('1'), 'ada', '{read}', null, null), ('old', sha256('2'), 'ada', '{read}', now() - interval '1 s', null),
          ('gone', sha256('3'), 'ada', '{read}', null, now());
        insert into ingest.sessions (token_sha256, key_id, expires_at)
          select sha256((prefix || n)::bytea), id, now() + n * interval '1 hour' from ingest.keys, (values (-1), (1)) as v (n);
    """)
    await whole_rounds(work, tmp_path)
    assert (
        psql("select prefix, s.expires_at > now() from ingest.sessions s join ingest.keys k on k.id = key_id")
        == "good|t"
    )


async def test_uploads_of_dead_receivers_are_ended(work: Work, psql: Psql, tmp_path: Path) -> None:
    """The job has failed, its chunks and its objects are gone; an upload that is heard of goes on."""
    silent, alive = await receive(work.database, [cut(numbers(5))]), await receive(work.database, [cut(numbers(5))])
    kept, removed = store(work, alive, OLD_S, tmp_path), store(work, silent, 0, tmp_path)
    psql(f"update ingest.jobs set updated_at = now() - interval '1 hour' where id = '{silent}'")
    await whole_rounds(work, tmp_path)
    assert psql(
        "select state, error_code from ingest.jobs where dataset = 'public.t' and state <> 'completed' order by state"
    ) == ("failed|E_UPLOAD_INCOMPLETE\nreceiving|")
    assert (kept.exists(), removed.exists()) == (True, False)


@pytest.mark.parametrize(
    ("state", "chunk_state", "age_s", "stays"),
    [
        ("receiving", "receiving", OLD_S, True),
        ("pending", "pending", OLD_S, True),
        ("processing", "processing", OLD_S, True),
        ("paused", "pending", OLD_S, True),
        ("completed", "completed", OLD_S, False),
        ("completed", "completed", 5, True),
        ("cancelled", "cancelled", OLD_S, False),
        ("failed", "failed", OLD_S, True),
        ("failed", "completed", OLD_S, False),
        ("over budget", "failed", OLD_S, False),
        ("over budget", "cancelled", OLD_S, False),
        ("unknown", "", OLD_S, False),
        ("unknown", "", 3600, True),
    ],
)
async def test_objects_are_swept_when_nobody_needs_them(
    work: Work, job: MakeJob, psql: Psql, tmp_path: Path, state: str, chunk_state: str, age_s: float, stays: bool
) -> None:
    """Not before the job has ended, not while a failed chunk can be retried, not those of others too soon."""
    job_id = uuid4()
    if state != "unknown":
        job_id = await job(numbers(3))
        ended = "now()" if chunk_state in ("completed", "failed", "cancelled") else "null"
        psql(f"update ingest.chunks set state = '{chunk_state}', finished_at = {ended}, inserted = 3, "
             "claimed_at = now(), worker_id = gen_random_uuid()")  # fmt: skip
        code = "E_TOO_MANY_REJECTS" if state == "over budget" else "E"
        state = "failed" if state == "over budget" else state
        ended = "now()" if state in ("completed", "failed", "cancelled") else "null"
        psql(f"update ingest.jobs set state = '{state}', finished_at = {ended}, inserted = 3, error_code = '{code}'")
    path = store(work, job_id, age_s, tmp_path)
    await whole_rounds(work, tmp_path)
    assert path.exists() is stays


async def test_a_failed_round_is_no_end(
    work: Work, job: MakeJob, psql: Psql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The storage or the database is away for a while: the next round is made as if nothing had been."""
    listing, failed = work.storage.listing, 0

    async def broken() -> list[object]:
        nonlocal failed
        failed += 1
        if failed < 3:
            raise StorageError("away")
        psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ingest test'")
        monkeypatch.setattr(work.storage, "listing", listing)
        return []

    monkeypatch.setattr(work.storage, "listing", broken)
    await whole_rounds(work, tmp_path)
    assert failed == 3


async def test_objects_come_and_go_while_the_storage_is_listed(work: Work, tmp_path: Path) -> None:
    """Other actors remove objects, and with the last one their folder, at any moment."""

    async def come_and_go(listing: trio.CancelScope) -> None:
        for _ in range(300):
            job_id = uuid4()
            await trio.to_thread.run_sync(store, work, job_id, 0, tmp_path)
            await work.storage.remove(chunk_key(job_id, 1))
        listing.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_and_go, nursery.cancel_scope)
        while True:
            await work.storage.listing()
            await work.storage.remove_all(f"chunks/{uuid4()}")


async def test_foreign_files_are_left_alone(work: Work, tmp_path: Path) -> None:
    """Whatever else lies in the folder is not ours."""
    folder = store(work, uuid4(), 0, tmp_path).parents[1]
    strange = [folder / "readme" / "000001", folder / str(uuid4()) / "notes.txt", folder / "notes.txt"]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (0, 0))
    await whole_rounds(work, tmp_path)
    assert all(path.exists() for path in strange)
