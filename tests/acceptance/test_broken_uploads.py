"""Uploads that end badly leave no rows, no claimable job and no object behind; memory stays flat whatever is slow."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.client import BASE, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import LINEITEM, count
from tests.acceptance.test_crashes import half_an_upload
from tests.conftest import Psql
from tests.processes import Process, Starter

MIB = 1024 * 1024

# What an upload of 300 MB may add to the memory of the service, and what a loading service may need in all.
GROWTH_BYTES = 40 * MIB
LOADING_BYTES = 200 * MIB

Stored = Callable[[], list[Path]]

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


def assert_nothing_left(psql: Psql, stored: Stored, code: str) -> None:
    """The one job has failed with `code`; nothing else of the upload is there."""
    until(lambda: psql("select state from ingest.jobs") == "failed", "the job has failed")
    assert psql("select error_code from ingest.jobs") == code
    assert until(lambda: stored() == [], "the objects are gone")
    assert (count(psql, "ingest.chunks"), count(psql, "t")) == (0, 0)


def test_a_client_cut_at_half_leaves_nothing(service: Starter, psql: Psql, stored: Stored) -> None:
    psql("create table t (a text)")
    process = service(**SMALL)
    with half_an_upload(process, psql):
        assert len(stored()) >= 2
    assert_nothing_left(psql, stored, "E_UPLOAD_INCOMPLETE")
    assert tracebacks(process) == []


def test_a_client_that_falls_silent_is_cut(service: Starter, psql: Psql, stored: Stored) -> None:
    psql("create table t (a text)")
    process = service(**SMALL, UPLOAD_IDLE_TIMEOUT="0.5")
    with half_an_upload(process, psql) as connection:
        connection.settimeout(30)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"E_TIMEOUT" in answer
    assert_nothing_left(psql, stored, "E_TIMEOUT")


def test_a_client_cut_within_the_header_makes_no_job(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (a text)")
    process = service()
    client = connect(process)
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 10) as connection:
        head = f"PUT {BASE}/upload/x.csv?dataset=public.t HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\na"
        connection.sendall(head.encode())
        until(lambda: client.json("/health")["status"] == "ok", "the service answers")
    process.wait_for('"event": "upload_refused"')
    assert client.jobs() == []


def test_fifty_broken_uploads_at_once_do_not_disturb_a_whole_one(
    service: Starter, connect: Connect, psql: Psql, stored: Stored
) -> None:
    psql("create table t (a text)")
    process = service(**SMALL)
    client = connect(process)
    host, port = process.url.removeprefix("http://").split(":")
    head = f"PUT {BASE}/upload/x.csv?dataset=public.t HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\na\n1\n"
    broken = [socket.create_connection((host, int(port)), 10) for _ in range(50)]
    for connection in broken:
        connection.sendall(head.encode() + b"2\n" * 10_000)

    job = client.load(b"a\n" + b"x\n" * 1000, "public.t")

    for connection in broken:
        connection.close()
    assert (job["status"], job["processed_rows"]) == ("completed", 1000)
    until(lambda: count(psql, "ingest.jobs where state = 'failed'") == 50, "the broken ones have failed")
    assert (count(psql, "t"), count(psql, "ingest.jobs")) == (1000, 51)
    assert until(lambda: stored() == [], "the objects are gone")


@needs_proc
def test_memory_stays_flat_when_storing_is_slower_than_the_client(
    service: Starter, connect: Connect, psql: Psql
) -> None:
    psql("create table t (a text)")
    process = service("api", CHUNK_SIZE=str(4 * MIB))
    client = connect(process)
    client.send(megabytes(20), "public.t")
    before = peak_bytes(process)
    make_slow(psql, "ingest.chunks", "0.05")

    job = client.job(client.send(megabytes(300), "public.t"))

    assert (job["status"], job["bytes_received"]) == ("pending", 300 * 1000 * 1000 + 2)
    assert peak_bytes(process) - before < GROWTH_BYTES


@needs_proc
def test_memory_stays_flat_when_the_database_is_slower_than_the_reader(
    service: Starter, connect: Connect, psql: Psql, lineitem_csv: Path
) -> None:
    psql(f"create table lineitem ({LINEITEM})")
    process = service(WORKER_CONCURRENT_BATCHES="2", CHUNK_SIZE=str(4 * MIB))
    client = connect(process)
    make_slow(psql, "lineitem", "0.05")

    job = client.load(lineitem_csv, "public.lineitem")

    assert job["status"] == "completed"
    assert peak_bytes(process) < LOADING_BYTES


def make_slow(psql: Psql, table: str, seconds: str) -> None:
    """Let every statement that inserts into a table take some time more."""
    psql(
        "create function slow() returns trigger language plpgsql as"
        f" $$ begin perform pg_sleep({seconds}); return null; end $$;"
        f"create trigger slow after insert on {table} execute function slow()"
    )


def megabytes(n: int) -> Iterator[bytes]:
    """A file of one column, header included, in pieces of a million bytes."""
    return itertools.chain([b"a\n"], itertools.repeat((b"x" * 99 + b"\n") * 10_000, n))


def peak_bytes(process: Process) -> int:
    """The most memory the process has ever used."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024
