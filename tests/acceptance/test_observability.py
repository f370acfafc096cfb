"""What the service says about itself: the ready line, health, and logs that give away neither cells nor passwords."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

from tests.acceptance.client import PATIENCE_S, tracebacks, until
from tests.acceptance.conftest import Connect
from tests.conftest import Psql, as_user
from tests.processes import Starter, clean_environment, starting

SECRET = "canary-password"
# In every cell that is not a number of its own.
CANARY = "canary-cell"


def test_the_ready_line_is_all_there_is_on_standard_output(service: Starter, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", "ingest", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=clean_environment() | service.environment,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            process.terminate()
            assert re.fullmatch(r"ingest is ready on http://127\.0\.0\.1:[1-9]\d+\n", line)
            assert process.stdout.read() == ""
            assert process.wait(PATIENCE_S) == 0
        finally:
            process.kill()
    for text in log.read_text().splitlines():
        assert {"event", "level", "timestamp", "logger"} <= set(json.loads(text))


def test_health_says_what_the_contract_says(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (a text)")
    client = connect(service())
    client.load(b"a\nx\n", "public.t")

    health = client.json("/health")

    assert set(health) >= {
        "status", "version", "uptime", "role", "draining", "database", "storage", "worker", "queue", "memory"
    }  # fmt: skip
    assert (health["status"], health["role"], health["draining"]) == ("ok", "serve", False)
    assert health["database"]["ok"] is True
    assert health["database"]["latency_ms"] >= 0
    assert set(health["database"]["pool"]) >= {"open", "idle", "limit"}
    assert str(uuid.UUID(health["worker"]["id"])) == health["worker"]["id"]
    assert health["worker"]["heartbeat_age_s"] < 60
    assert health["worker"]["batches_in_flight"] == {"queued": 0, "writing": 0}
    assert health["worker"]["last_batch_s"] > 0
    assert isinstance(health["worker"]["chunks"], int)
    assert set(health["queue"]) >= {"pending", "processing", "oldest_age_s"}
    assert health["memory"]["rss_bytes"] > 0
    assert health["memory"]["peak_bytes"] >= health["memory"]["rss_bytes"]
    assert client.json("/health/live") == {"status": "ok"}
    assert client.json("/health/ready") == {"status": "ok"}


def test_a_job_says_what_the_contract_says(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (a int)")
    client = connect(service())

    job = client.load(b"a\n1\nx\n", "public.t", name="a name.csv")

    assert set(job) >= {
        "id", "dataset", "filename", "status", "mode", "priority", "bytes_total", "bytes_received", "bytes_processed",
        "total_rows", "processed_rows", "inserted_rows", "updated_rows", "skipped_rows", "failed_rows", "progress",
        "rows_per_second", "eta_seconds", "chunks", "error", "parent_id", "sha256", "created_at", "started_at",
        "completed_at", "updated_at", "links",
    }  # fmt: skip
    assert (job["filename"], job["dataset"], job["mode"], job["priority"]) == ("a name.csv", "public.t", "batches", 5)
    assert job["chunks"] == {"pending": 0, "processing": 0, "completed": 1, "failed": 0}
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]
    assert client.job(job["id"]) == client.json(f"/api/v1/csv/jobs/{job['id']}/progress")
    assert [found["id"] for found in client.jobs(status="completed", dataset="public.t")] == [job["id"]]


def test_logs_hold_no_cell_and_no_password(service: Starter, connect: Connect, psql: Psql, dsn: str) -> None:
    psql(
        "create table parent (id text primary key);"
        "create table t (id text primary key, n int, day date, short varchar(20), parent text references parent,"
        " checked text check (checked not like '%bad%'), data json, required text not null);"
        "create function complain() returns trigger language plpgsql as"
        " $$ begin if new.checked like '%trigger%' then raise 'not %', new; end if; return new; end $$;"
        "create trigger complain before insert on t for each row execute function complain()"
    )
    good = [f"{CANARY} 0", "1", "2024-01-01", CANARY[:20], "", CANARY, "{}", CANARY]
    broken = {
        0: (f"{CANARY} 0",), 1: (CANARY,), 2: (CANARY, "tomorrow"), 3: (CANARY * 2,), 4: (CANARY,),
        5: (f"{CANARY} bad", f"{CANARY} trigger"), 6: (CANARY, f'"{{""{CANARY}"": }}"'), 7: ("", CANARY + ",more"),
    }  # fmt: skip
    records = [good]
    for column, values in broken.items():
        for value in values:
            key = [f"{CANARY} {len(records)}"]
            fields = key + good[1:]
            fields[column] = value
            records.append(fields)
    # A binary file is known by its first 4 KiB, so the NUL comes after them.
    records += [[f"{CANARY} good {i}", *good[1:]] for i in range(100)]
    body = b"id,n,day,short,parent,checked,data,required\n" + "\n".join(",".join(r) for r in records).encode()
    body += f"\n{CANARY}\xe9,1,,,,,,".encode("latin-1") + f"\n{CANARY}\0,1,,,,,,".encode()
    process = service(DATABASE_URL=as_user(dsn, f"postgres:{SECRET}"), LOG_LEVEL="DEBUG")
    client = connect(process)

    job = client.load(body, "public.t")
    assert (job["processed_rows"], job["failed_rows"]) == (101, len(records) - 101 + 2)
    assert len({reject["code"] for reject in client.rejects(job["id"])}) >= 10
    client.put(body + f'\n"{CANARY}'.encode(), "public.t")
    psql("alter table t rename to gone; create table t (like gone); alter table t add x int not null")
    client.put(body, "public.t")
    process.terminate()

    assert "batch_committed" in process.log
    assert CANARY not in process.log
    assert SECRET not in process.log
    assert tracebacks(process) == []


def test_the_embedded_server_logs_no_cell_either(connect: Connect, tmp_path: Path) -> None:
    # A short path: the server's socket lies in it.
    with tempfile.TemporaryDirectory(prefix="ingest-test-") as home:
        with starting(tmp_path, {"INGEST_HOME": home, "LOG_FORMAT": "json"}) as start:
            client = connect(start())
            body = f"email,name\n{CANARY},x\n{CANARY}@{CANARY}.org,\n{CANARY}@{CANARY}.org"
            job = client.load(body.encode(), "customers")
            assert (job["processed_rows"], job["failed_rows"]) == (1, 2)
            assert start.started[0].terminate() == 0
        server_log = Path(home) / "postgres" / "server.log"
        assert until(lambda: "shut down" in server_log.read_text(), "the server has stopped with the service")
        assert CANARY not in server_log.read_text()
