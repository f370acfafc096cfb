"""Roles apart: one API and two workers, as processes of their own, load one file together."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.client import BASE, events, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count, digest
from tests.acceptance.test_crashes import prepare_lineitem
from tests.conftest import Psql
from tests.processes import Starter

# One chunk at a time each, so that the chunks of a file are shared out.
ONE_CHUNK = {**SMALL, "WORKER_CONCURRENT_CHUNKS": "1"}


def test_two_workers_load_one_file_together(service: Starter, connect: Connect, psql: Psql, lineitem_csv: Path) -> None:
    prepare_lineitem(psql, lineitem_csv)
    api, *workers = (service(role, ready=False, **ONE_CHUNK) for role in ("api", "worker", "worker"))
    client = connect(api)
    until(lambda: count(psql, "ingest.workers") == 2, "both workers are there")

    job = client.load(lineitem_csv, "public.lineitem")

    assert (job["status"], job["processed_rows"]) == ("completed", count(psql, "reference"))
    assert digest(psql, "lineitem") == digest(psql, "reference")
    chunks = client.chunks(job["id"])
    assert len(chunks) == sum(job["chunks"].values()) == job["chunks"]["completed"] > 20
    assert {chunk["worker_pid"] for chunk in chunks} == {worker.process.pid for worker in workers}
    ids = {connect(worker).json("/health")["worker"]["id"] for worker in workers}
    assert {chunk["worker_id"] for chunk in chunks} == ids
    assert {chunk["attempt"] for chunk in chunks} == {1}
    by_worker = [len(events(worker, "batch_committed")) for worker in workers]
    assert min(by_worker) > 0
    assert sum(by_worker) == count(psql, "ingest.ledger")


def test_a_worker_that_starts_later_takes_over_what_another_leaves(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    api = connect(service("api", **ONE_CHUNK))
    job_id = api.send(small_lineitem_csv, "public.lineitem")
    assert api.job(job_id)["status"] == "pending"
    assert api.json("/health")["worker"] is None

    first = service("worker", **ONE_CHUNK)
    until(lambda: api.job(job_id)["progress"] > 0.2, "the first worker has begun")
    assert first.terminate() == 0
    assert 0 < api.job(job_id)["progress"] < 1
    service("worker", **ONE_CHUNK)

    assert api.wait(job_id)["status"] == "completed"
    assert digest(psql, "lineitem") == digest(psql, "reference")


def test_the_role_decides_what_a_process_does(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (a text)")
    api, worker = (connect(process) for process in [service(role, ready=False) for role in ("api", "worker")])
    assert (api.json("/health")["role"], worker.json("/health")["role"]) == ("api", "worker")
    assert api.json(f"{BASE}/jobs")["total"] == 0
    assert api.load(b"a\nx\n", "public.t")["processed_rows"] == 1
    # A worker alone answers for its health and for nothing else.
    assert worker.get("/health/ready").status_code == 200
    assert worker.get(f"{BASE}/jobs").status_code == 404
    assert worker.put(b"a\nx\n", "public.t").status_code == 404
