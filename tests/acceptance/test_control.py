"""Cancel, pause, resume, priority and delete against real processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.client import BASE, Client, events, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count, digest
from tests.acceptance.test_crashes import prepare_lineitem
from tests.conftest import Psql
from tests.processes import Process, Starter


def loud(process: Process) -> list[str]:
    """What in the log could have woken somebody."""
    lines = [line for line in process.log.splitlines() if '"level": "error"' in line or '"level": "warning"' in line]
    return lines + tracebacks(process)


def do(client: Client, job_id: str, action: str) -> dict[str, Any]:
    """Change a job; it must be possible."""
    answer = client.post(f"{BASE}/jobs/{job_id}/{action}")
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json()
    return found


def running(client: Client, job_id: str) -> dict[str, Any]:
    """Wait until some of the job is in, and it still runs."""
    job = until(lambda: (job := client.job(job_id))["processed_rows"] and job, "rows are in")
    assert job["status"] == "processing"
    return job


@pytest.fixture
def slowly(psql: Psql, small_lineitem_csv: Path) -> Callable[[], None]:
    """Make each batch take a moment, so that a load is still there when it is to be changed; call it to stop that."""
    prepare_lineitem(psql, small_lineitem_csv)
    psql("create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(0.05); return null; end $$;"
         "create trigger slowly after insert on lineitem for each statement execute function slowly()")  # fmt: skip
    return lambda: psql("alter table lineitem disable trigger slowly") and None


@pytest.mark.slow
def test_a_cancelled_job_stops_and_says_what_stayed(
    service: Starter, connect: Connect, slowly: Callable[[], None], small_lineitem_csv: Path, psql: Psql,
    stored: Callable[[], list[Path]],
) -> None:  # fmt: skip
    """To the row; its worker is free within about a second and its log is quiet; then the job can be forgotten."""
    process = service(**SMALL | {"WORKER_HEARTBEAT_INTERVAL": "5000", "WORKER_LEASE_TTL": "20000"})
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    running(client, job_id)
    job = do(client, job_id, "cancel")
    rows = count(psql, "lineitem")
    began = time.monotonic()
    until(lambda: not client.json("/health")["worker"]["chunks"], "the worker is free")
    freed_s = time.monotonic() - began
    assert freed_s < 5  # far less than the heartbeat's interval on a machine that is not overloaded
    assert (job["status"], job["processed_rows"]) == ("cancelled", rows)
    assert 0 < rows < 100_000
    assert job["error"]["message"] == f"cancelled; {rows} rows of the file are in the table and stay there"
    assert count(psql, "lineitem") == rows
    assert client.job(job_id)["processed_rows"] == rows
    until(lambda: stored() == [], "the objects are gone")
    for action in ("cancel", "pause", "resume", "retry"):
        answer = client.post(f"{BASE}/jobs/{job_id}/{action}")
        assert (answer.status_code, answer.json()["state"]) == (409, "cancelled")
    assert httpx.delete(f"{client.url}{BASE}/jobs/{job_id}").status_code == 204
    assert client.get(f"{BASE}/jobs/{job_id}").status_code == 404
    assert psql("select count(*) from ingest.chunks; select count(*) from ingest.ledger") == "0\n0"
    assert psql("select action from ingest.audit order by id") == "cancel\ndelete"
    assert count(psql, "lineitem") == rows
    assert loud(process) == []


@pytest.mark.slow
def test_a_job_that_is_paused_again_and_again_is_loaded_once(
    service: Starter, connect: Connect, slowly: Callable[[], None], small_lineitem_csv: Path, psql: Psql
) -> None:
    """By two workers, over a dozen pauses; while it rests nothing moves."""
    processes = [service(**SMALL), service("worker", **SMALL)]
    client = connect(processes[0])
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    running(client, job_id)
    for _ in range(12):
        if client.job(job_id)["status"] == "completed":
            break
        rows = do(client, job_id, "pause")["processed_rows"]
        until(lambda: not client.json("/health")["worker"]["chunks"], "the worker is free")
        assert (count(psql, "lineitem"), client.job(job_id)["status"]) == (rows, "paused")
        do(client, job_id, "resume")
        until(lambda rows=rows: client.job(job_id)["processed_rows"] > rows, "it goes on")  # type: ignore[misc]
    slowly()
    job = client.wait(job_id)
    assert (job["status"], job["processed_rows"]) == ("completed", 100_000)
    assert digest(psql, "lineitem") == digest(psql, "reference")
    assert list(map(loud, processes)) == [[], []]


@pytest.mark.parametrize("mode", ["atomic", "validate"])
def test_of_a_load_as_a_whole_nothing_stays(
    service: Starter, connect: Connect, slowly: Callable[[], None], small_lineitem_csv: Path, psql: Psql, mode: str
) -> None:
    """Paused it lets go of everything, resumed it begins anew, cancelled nothing is there."""
    process = service(**SMALL | {"WORKER_HEARTBEAT_INTERVAL": "5000", "WORKER_LEASE_TTL": "20000"})
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem", mode=mode)
    until(lambda: client.job(job_id)["bytes_processed"], "some of it was read")
    do(client, job_id, "pause")
    until(lambda: not client.json("/health")["worker"]["chunks"], "the worker is free")
    locks = "select count(*) from pg_locks l join pg_class c on c.oid = l.relation where relname = 'lineitem'"
    until(lambda: psql(locks) == "0", "the table is free")
    do(client, job_id, "resume")
    until(lambda: client.job(job_id)["bytes_processed"], "it begins again")
    job = do(client, job_id, "cancel")
    until(lambda: not client.json("/health")["worker"]["chunks"], "the worker is free")
    assert (job["processed_rows"], job["error"]["message"]) == (0, "cancelled; the table is as it was")
    assert count(psql, "lineitem") == 0
    assert loud(process) == []


@pytest.mark.parametrize("silent", [False, True])
def test_an_upload_that_is_cancelled_stops_with_a_clear_problem(
    service: Starter, connect: Connect, psql: Psql, stored: Callable[[], list[Path]], silent: bool
) -> None:
    """The client learns of it, whether it still sends or has something else to do; nothing is left of the file."""
    psql("create table t (a int)")
    client = connect(service(CHUNK_SIZE="100000", WORKER_BATCH_BYTES="10000", MAX_RECORD_BYTES="10000"))
    answered = threading.Event()

    def endless() -> Iterator[bytes]:
        yield b"a\n" + b"1\n" * 150_000
        while not silent:
            time.sleep(0.01)
            yield b"1\n" * 50_000
        answered.wait(60)
        yield b"2\n"

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.put, endless(), "public.t")
        job = until(lambda: next(iter(client.jobs(status="receiving")), None), "the job is there")
        assert do(client, job["id"], "cancel")["status"] == "cancelled"
        if silent:
            until(lambda: not stored(), "its upload has heard of it")
        answered.set()
        answer = sending.result(60)
    assert (answer.status_code, answer.json()["code"]) == (409, "E_UPLOAD_GONE")
    assert "cancelled" in answer.json()["detail"]
    job = client.job(job["id"])
    assert (job["status"], job["error"]["code"]) == ("cancelled", "E_CANCELLED")
    until(lambda: not stored(), "its objects are gone")
    assert count(psql, "t") == 0


def test_a_priority_decides_which_file_is_next(
    service: Starter, connect: Connect, slowly: Callable[[], None], small_lineitem_csv: Path
) -> None:
    """Also of files that wait already."""
    client = connect(service(**SMALL | {"WORKER_CONCURRENT_CHUNKS": "1"}))
    busy, late, early = (client.send(small_lineitem_csv, "public.lineitem") for _ in range(3))
    answer = httpx.patch(f"{client.url}{BASE}/jobs/{early}", json={"priority": 9})
    assert (answer.status_code, answer.json()["priority"]) == (202, 9)
    until(lambda: client.job(early)["processed_rows"], "it has overtaken")
    assert client.job(late)["status"] == "pending"
    for job_id in (busy, late, early):
        do(client, job_id, "cancel")


def test_every_change_is_in_the_log_and_in_the_audit(service: Starter, connect: Connect, psql: Psql) -> None:
    """With what it was before."""
    psql("create table t (a int)")
    process = service("api")
    client = connect(process)
    job_id = client.send(b"a\n1\n2\n", "public.t")
    for action in ("pause", "resume", "cancel"):
        do(client, job_id, action)
    audit = client.json(f"{BASE}/jobs/{job_id}/audit")["audit"]
    assert [(line["action"], line["detail"].get("was")) for line in audit] == [
        ("cancel", "pending"), ("resume", None), ("pause", "pending")
    ]  # fmt: skip
    assert [line["action"] for line in events(process, "job_changed")] == ["pause", "resume", "cancel"]
