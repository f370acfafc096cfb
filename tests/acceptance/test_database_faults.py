"""A database that goes away, comes back, or was never there: nothing is lost and nobody has to restart the service."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.database.account import account_for
from ingest.database.cluster import Cluster
from ingest.database.embedded import embedded_postgres
from tests.acceptance.client import BASE, CUT_ALL, Client, ended, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import digest
from tests.acceptance.test_crashes import pause_at_random, prepare_lineitem
from tests.conftest import Psql, run_psql
from tests.processes import Starter, starting

CUTS = 8
RESTARTS = 3


class Server:
    """A PostgreSQL server of the test's own that can be crashed."""

    def __init__(self, home: Path, dsn: str) -> None:
        self.dsn = dsn
        self._cluster = Cluster(home / "postgres", account_for(home / "postgres"))

    def psql(self, sql: str) -> str:
        """Run SQL."""
        return run_psql(self.dsn, sql)

    def crash(self) -> None:
        """Stop at once, as `pg_ctl stop -m immediate`: what was not flushed is lost, the next start recovers."""
        pid = int((self._cluster.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        until(lambda: not self._cluster.running(), "the server has stopped")

    def start(self) -> None:
        """Start it again."""
        self._cluster.start()


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server that other tests do not use."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-") as folder, embedded_postgres(Path(folder)) as dsn:
        yield Server(Path(folder), dsn)


@pytest.fixture
def on_own_server(own_server: Server, tmp_path: Path) -> Iterator[Starter]:
    """Like `service`, on that server."""
    environment = {"DATABASE_URL": own_server.dsn, "INGEST_HOME": str(tmp_path / "home"), "LOG_FORMAT": "json"}
    with starting(tmp_path, environment) as starter:
        yield starter


def look(client: Client, job_id: str) -> dict[str, Any]:
    """Return the job; while the database is away, one that has got nowhere."""
    answer = client.get(f"{BASE}/jobs/{job_id}")
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {"progress": 0.0, "status": "pending"}
    return found


def go_on_until(client: Client, job_id: str, moment: float) -> None:
    """Wait until the job has got so far."""
    until(lambda: look(client, job_id)["progress"] >= moment, f"progress {moment:.2f}")


def test_a_database_that_crashes_in_the_middle_of_a_load(
    own_server: Server, on_own_server: Starter, connect: Connect, small_lineitem_csv: Path, moments: random.Random
) -> None:
    prepare_lineitem(own_server.psql, small_lineitem_csv)
    process = on_own_server(**SMALL)
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    for moment in sorted(moments.uniform(0, 0.8) for _ in range(RESTARTS)):
        go_on_until(client, job_id, moment)
        pause_at_random(moments, 0.05)
        own_server.crash()
        own_server.start()

    job = until(lambda: ended(look(client, job_id)), "the job ends")

    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 100_000, 0)
    assert digest(own_server.psql, "lineitem") == digest(own_server.psql, "reference")
    assert process.process.poll() is None, "the service did not survive"
    assert process.terminate() == 0
    assert tracebacks(process) == []


def test_a_database_that_is_away_is_not_ready_and_comes_back(
    own_server: Server, on_own_server: Starter, connect: Connect
) -> None:
    own_server.psql("create table t (a text)")
    client = connect(on_own_server())
    own_server.crash()

    until(lambda: client.get("/health/ready").status_code == 503, "not ready")
    assert client.get("/health/live").status_code == 200
    health = client.json("/health")
    assert (health["status"], health["database"]["ok"]) == ("database_unavailable", False)
    answer = client.put(b"a\nx\n", "public.t")
    assert (answer.status_code, answer.json()["code"]) == (503, "E_DATABASE_UNAVAILABLE")

    own_server.start()
    until(lambda: client.get("/health/ready").status_code == 200, "ready again")
    assert client.load(b"a\nx\n", "public.t")["processed_rows"] == 1


def test_a_database_that_is_down_at_the_start_is_waited_for(
    own_server: Server, on_own_server: Starter, connect: Connect
) -> None:
    own_server.psql("create table t (a text)")
    own_server.crash()
    process = on_own_server(ready=False)
    process.wait_for('"event": "database_unavailable"')

    own_server.start()

    assert connect(process).load(b"a\nx\n", "public.t")["processed_rows"] == 1


def test_every_connection_cut_again_and_again(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path, moments: random.Random
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    process = service(**SMALL)
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem")
    for moment in sorted(moments.uniform(0, 0.8) for _ in range(CUTS)):
        go_on_until(client, job_id, moment)
        assert int(psql(CUT_ALL)) > 0

    job = until(lambda: ended(look(client, job_id)), "the job ends")

    assert (job["status"], job["processed_rows"]) == ("completed", 100_000)
    assert digest(psql, "lineitem") == digest(psql, "reference")
    assert process.terminate() == 0
    assert tracebacks(process) == []
