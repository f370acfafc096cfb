"""SIGTERM and SIGINT: exit 0 in time, work handed back at once, and the next start goes on where this one stopped."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.client import Client, events, session, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count, digest
from tests.acceptance.test_crashes import half_an_upload, prepare_lineitem
from tests.conftest import Psql
from tests.processes import Process, Starter

# From the signal to the end of a process that has nothing to do.
IDLE_S = 2.0
# Beyond the grace: what it may take to roll back and to say goodbye.
HARD_STOP_S = 4.0

Batch = tuple[int, int]  # ordinal of the chunk, first line


def committed(process: Process) -> set[Batch]:
    """The batches that a process has read and brought into the ledger."""
    lines = events(process, "batch_committed")
    found = {(line["chunk"], line["first_line"]) for line in lines}
    assert len(found) == len(lines), "a batch was read twice"
    return found


def stop_in_s(process: Process, number: int = signal.SIGTERM) -> float:
    """Send a signal, wait for exit code 0, return how long it took."""
    began = time.monotonic()
    process.signal(number)
    assert process.wait() == 0, process.log
    return time.monotonic() - began


def assert_handed_back(psql: Psql) -> None:
    """Nothing is held by anybody, and no try was counted."""
    assert count(psql, "ingest.chunks where state = 'processing'") == 0
    assert count(psql, "ingest.chunks where state = 'pending' and (attempt > 0 or run_at > clock_timestamp())") == 0
    assert (count(psql, "ingest.leases"), count(psql, "ingest.workers")) == (0, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_load(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path, number: int
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    first = service(**SMALL)
    client = connect(first)
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    until(lambda: client.job(job_id)["progress"] >= 0.3, "a part is loaded")

    assert stop_in_s(first, number) < 25

    assert_handed_back(psql)
    in_ledger = count(psql, "ingest.ledger")
    assert 0 < in_ledger == len(committed(first)) < 200
    second = service(**SMALL)
    job = connect(second).wait(job_id)
    assert (job["status"], job["processed_rows"]) == ("completed", 100_000)
    assert digest(psql, "lineitem") == digest(psql, "reference")
    assert second.terminate() == 0
    assert committed(first) & committed(second) == set(), "batches that were in the ledger were read again"
    assert len(committed(first) | committed(second)) == count(psql, "ingest.ledger")


@pytest.mark.parametrize("role", ["serve", "api", "worker"])
def test_an_idle_process_ends_at_once(service: Starter, connect: Connect, role: str) -> None:
    process = service(role)
    assert connect(process).get("/health/live").status_code == 200  # and leaves its connection open

    assert stop_in_s(process) < IDLE_S


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_for_its_database_ends_at_once(service: Starter, number: int) -> None:
    process = service(ready=False, DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    process.wait_for('"event": "database_unavailable"')

    assert stop_in_s(process, number) < IDLE_S
    assert tracebacks(process) == []


@pytest.fixture
def stuck(service: Starter, connect: Connect, psql: Psql, dsn: str) -> Callable[[Process], Client]:
    """Let a process claim a chunk whose table is locked."""
    psql("create table t (a text)")

    def get_stuck(process: Process) -> Client:
        client = connect(process)
        client.send(b"a\n" + b"x\n" * 5000, "public.t")
        until(lambda: count(psql, "pg_locks where relation = 't'::regclass and not granted"), "a batch waits")
        return client

    return get_stuck


def test_work_that_cannot_end_is_cut_off_after_the_grace(
    service: Starter, stuck: Callable[[Process], Client], psql: Psql, dsn: str
) -> None:
    process = service(SHUTDOWN_GRACE="1")
    psql("create table if not exists t (a text)")
    with session(dsn, "begin; lock table t"):
        stuck(process)
        assert 1 <= stop_in_s(process) < 1 + HARD_STOP_S
        assert_handed_back(psql)
    assert count(psql, "t") == 0

    service()
    until(lambda: count(psql, "t") == 5000, "the next start loads it")


def test_a_second_signal_cuts_off_at_once(
    service: Starter, stuck: Callable[[Process], Client], psql: Psql, dsn: str
) -> None:
    process = service()
    with session(dsn, "begin; lock table t"):
        client = stuck(process)
        process.signal(signal.SIGTERM)
        process.wait_for(r'"event": "signal"')
        # It drains meanwhile, and says so.
        until(lambda: client.get("/health/ready").status_code == 503, "not ready")
        assert client.json("/health")["draining"] is True
        refused = client.put(b"a\n1\n", "public.t")
        assert (refused.status_code, refused.json()["code"]) == (503, "E_DRAINING")

        assert stop_in_s(process) < HARD_STOP_S
        assert_handed_back(psql)
    assert count(psql, "t") == 0
    assert tracebacks(process) == []

    service()
    until(lambda: count(psql, "t") == 5000, "the next start loads it")


def test_a_storm_of_signals_does_no_harm(
    service: Starter, stuck: Callable[[Process], Client], psql: Psql, dsn: str
) -> None:
    process = service()
    with session(dsn, "begin; lock table t"):
        stuck(process)
        for _ in range(50):
            process.signal(signal.SIGTERM)
        assert stop_in_s(process, signal.SIGINT) < HARD_STOP_S
        assert_handed_back(psql)
    assert tracebacks(process) == []


def test_an_upload_under_way_ends_with_the_process(
    service: Starter, psql: Psql, stored: Callable[[], list[Path]]
) -> None:
    psql("create table t (a text)")
    process = service(**SMALL)
    with half_an_upload(process, psql):
        stop_in_s(process)
    assert psql("select state, error_code from ingest.jobs") == "failed|E_UPLOAD_INCOMPLETE"
    assert (stored(), count(psql, "ingest.chunks"), count(psql, "t")) == ([], 0, 0)
