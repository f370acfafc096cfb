"""Processes killed or frozen at any moment of a load: the table equals the file, nothing lost and nothing doubled."""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from tests.acceptance.client import BASE, Client, events, session, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import LINEITEM, count, digest
from tests.conftest import Psql
from tests.processes import Process, Starter

KILLS = 20

# Older than the age at which the janitor takes leftovers for leftovers.
LONG_AGO_S = 600


def prepare_lineitem(psql: Psql, path: Path) -> None:
    """Make an empty table, which has no key that could hide a doubled row, and `reference` with what it must hold."""
    psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
    psql(f"\\copy reference from '{path}' with (format csv, header true)")


def pause_at_random(moments: random.Random, most_s: float) -> None:
    """Let a random time pass: the moment itself is what is varied, nothing is waited for."""
    time.sleep(moments.uniform(0, most_s))


def test_kill_9_at_random_moments_of_a_load(
    service: Starter,
    connect: Connect,
    psql: Psql,
    small_lineitem_csv: Path,
    moments: random.Random,
    stored: Callable[[], list[Path]],
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    process = service(**SMALL)
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    # Spread over the load's progress and not over time, so that they all fall into the load on any machine.
    for moment in sorted(moments.uniform(0, 0.85) for _ in range(KILLS)):
        go_on_until(client, job_id, moment)
        pause_at_random(moments, 0.01)
        process.kill()
        process = service(**SMALL)
        client = connect(process)

    job = client.wait(job_id)

    assert (job["status"], job["error"], job["processed_rows"]) == ("completed", None, 100_000)
    assert digest(psql, "lineitem") == digest(psql, "reference")
    assert psql("select sum(records) from ingest.ledger") == "100000"
    assert int(psql("select sum(epoch - 1) from ingest.chunks")) >= KILLS / 2, "too few kills hit a chunk at work"
    assert process.terminate() == 0
    assert_leftovers_are_swept(service, stored)


def go_on_until(client: Client, job_id: str, moment: float) -> None:
    """Wait until the job has got so far."""
    until(lambda: client.job(job_id)["progress"] >= moment, f"progress {moment:.2f}")


def assert_leftovers_are_swept(service: Starter, stored: Callable[[], list[Path]]) -> None:
    """Objects whose removal a kill prevented go when they are old enough."""
    for path in stored():
        os.utime(path, (time.time() - LONG_AGO_S,) * 2)
    process = service(**SMALL)
    until(lambda: stored() == [], "the leftovers are swept")
    assert process.terminate() == 0


def test_kill_9_in_the_middle_of_an_upload(
    service: Starter, connect: Connect, psql: Psql, stored: Callable[[], list[Path]]
) -> None:
    psql("create table t (a text)")
    process = service(**SMALL)
    with half_an_upload(process, psql):
        process.kill()
    assert psql("select distinct state from ingest.chunks") == "receiving"
    assert len(stored()) > 1

    client = connect(service(**SMALL))
    [job] = client.jobs()
    assert job["status"] == "receiving"
    # As if the receiver had been silent for that long.
    psql(f"update ingest.jobs set updated_at = updated_at - interval '{LONG_AGO_S} s'")
    job = client.wait(job["id"])

    assert (job["status"], job["error"]["code"]) == ("failed", "E_UPLOAD_INCOMPLETE")
    assert until(lambda: stored() == [], "the objects are gone")
    assert (count(psql, "t"), count(psql, "ingest.chunks"), count(psql, "ingest.ledger")) == (0, 0, 0)


class half_an_upload:
    """An upload of which half was sent, and of which chunks are stored already."""

    def __init__(self, process: Process, psql: Psql) -> None:
        host, _, port = process.url.removeprefix("http://").partition(":")
        self._socket = socket.create_connection((host, int(port)), 10)
        self._psql = psql

    def __enter__(self) -> socket.socket:
        body = b"a\n" + b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 30_000
        head = f"PUT {BASE}/upload/half.csv?dataset=public.t HTTP/1.1\r\nHost: test\r\nContent-Length: {2 * len(body)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body)
        until(lambda: count(self._psql, "ingest.chunks") >= 2, "chunks of the upload are stored")
        return self._socket

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def test_a_worker_frozen_beyond_its_lease_is_fenced(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path, moments: random.Random
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    api, frozen, other = (service(role, ready=False, **SMALL) for role in ("api", "worker", "worker"))
    client = connect(api)
    until(lambda: count(psql, "ingest.workers") == 2, "both workers are there")
    job_id = client.send(small_lineitem_csv, "public.lineitem")

    until(lambda: freeze_at_work(frozen, client, job_id, moments), "the worker is frozen with a chunk at work")
    job = client.wait(job_id)
    assert job["status"] == "completed"
    before = digest(psql, "lineitem")
    frozen.signal(signal.SIGCONT)
    frozen.wait_for(r'"event": "chunk_(lost|released|unsettled)"')

    assert before == digest(psql, "lineitem") == digest(psql, "reference")
    assert count(psql, "ingest.chunks where epoch > 1") >= 1
    assert events(other, "chunks_rescued")
    assert (frozen.terminate(), other.terminate()) == (0, 0)
    assert digest(psql, "lineitem") == before


def freeze_at_work(process: Process, client: Client, job_id: str, moments: random.Random) -> bool:
    """Freeze a process at a random moment; let it go on again when it held no chunk just then."""
    pause_at_random(moments, 0.05)
    process.signal(signal.SIGSTOP)
    pid = process.process.pid
    if any(chunk["worker_pid"] == pid and chunk["status"] == "processing" for chunk in client.chunks(job_id)):
        return True
    process.signal(signal.SIGCONT)
    return False


def test_a_worker_frozen_inside_a_transaction_holds_up_nobody_for_ever(
    service: Starter, connect: Connect, psql: Psql, dsn: str
) -> None:
    """Its rows are in the table, not committed: the other worker collides with their keys until they are cut off."""
    psql("create table t (id int primary key)")
    psql(
        "create function wait() returns trigger language plpgsql as $$ begin"
        " perform pg_advisory_xact_lock_shared(1); return null; end $$;"
        "create trigger wait after insert on t execute function wait()"
    )
    api, frozen = service("api", ready=False, **SMALL), service("worker", ready=False, **SMALL)
    client = connect(api)
    with session(dsn, "select pg_advisory_lock(1)"):
        job_id = client.send(b"id\n" + b"".join(b"%d\n" % i for i in range(2000)), "public.t")
        until(lambda: count(psql, "pg_locks where locktype = 'advisory' and not granted"), "a batch waits")
        frozen.signal(signal.SIGSTOP)
    service("worker", **SMALL)

    job = client.wait(job_id)

    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 2000, 0)
    frozen.signal(signal.SIGCONT)
    assert frozen.terminate() == 0
    assert psql("select count(*), sum(id) from t") == f"2000|{1999 * 1000}"
