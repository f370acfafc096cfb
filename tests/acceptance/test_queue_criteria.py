"""What a queue for crowdfunding exports promises: its success criteria and its recovery, each as a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import Client, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count
from tests.conftest import Psql
from tests.exports import PLATFORMS, counts, pledges
from tests.processes import Starter

RECORDS = 10_000
BASE = "/api/v1/csv"
# A worker that loads nothing else, in chunks and batches small enough to be seen.
ONE_BY_ONE = {**SMALL, "CHUNK_SIZE": "400000", "WORKER_CONCURRENT_BATCHES": "1", "WORKER_CONCURRENT_CHUNKS": "1"}


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A report of 10,000 backers."""
    path = tmp_path / "export.csv"
    path.write_text(PLATFORMS["kickstarter"](list(pledges(RECORDS))), encoding="utf-8", newline="")
    return path


def send(client: Client, body: bytes | Path) -> str:
    """Send an export for one shop and project; returns the id of its job."""
    return client.send(body, "crowdfunding", shop="acme", project="game")


def load(client: Client, body: bytes | Path) -> dict[str, Any]:
    """Send an export and wait for the end of its job."""
    return client.wait(send(client, body))


def test_chunks_become_backers_surveys_products_and_pledges(
    service: Starter, connect: Connect, psql: Psql, export: Path
) -> None:
    """Process the data of stored chunks; create the records; more than ten thousand rows; by few statements."""
    client = connect(service(**ONE_BY_ONE))
    job = load(client, export)
    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", RECORDS, 0)
    assert len(client.chunks(job["id"])) > 1
    expected = counts("kickstarter", list(pledges(RECORDS)))
    assert {table: count(psql, table) for table in expected} == expected
    # Bulk operations: a transaction for each batch of some 300 records, not for each record.
    assert count(psql, "ingest.ledger") <= RECORDS / 200


def test_status_of_chunks_and_upload_and_progress_are_kept(
    service: Starter, connect: Connect, psql: Psql, export: Path
) -> None:
    """Update chunk and upload status; provide progress; the end has its time."""
    client = connect(service(**ONE_BY_ONE))
    job_id = send(client, export)
    seen = [client.job(job_id)]
    while seen[-1]["status"] not in ("completed", "failed"):
        seen.append(client.job(job_id))
    assert [job["progress"] for job in seen] == sorted(job["progress"] for job in seen)
    assert {"processing", "completed"} <= {job["status"] for job in seen}
    assert any(0 < job["progress"] < 1 for job in seen)
    assert seen[-1]["completed_at"] is not None
    assert {chunk["status"] for chunk in client.chunks(job_id)} == {"completed"}


def test_errors_are_reported_in_detail_and_cost_their_rows_alone(
    service: Starter, connect: Connect, psql: Psql
) -> None:
    """Handle errors gracefully; failed rows do not block the others."""
    client = connect(service(**ONE_BY_ONE))
    header, *lines = PLATFORMS["kickstarter"](list(pledges(300))).splitlines()
    names = header.split(",")
    broken = lines[100].replace("@example.com", "", 1)
    job = load(client, "\r\n".join([header, *lines[:100], broken, *lines[101:], ""]).encode())
    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 299, 1)
    [reject] = client.rejects(job["id"])
    assert (reject["line"], reject["code"]) == (102, "E_RULE")
    assert reject["column"] in names
    assert reject["message"].endswith("is not an e-mail address")


def test_a_failed_chunk_is_kept_with_its_error_and_retried_on_its_own(
    service: Starter, connect: Connect, psql: Psql, export: Path
) -> None:
    """Partial completion is tracked, and what is done already is not done again."""
    client = connect(service(**ONE_BY_ONE))
    load(client, export.read_bytes().splitlines(keepends=True)[0])  # makes the tables
    psql(
        "create function halt() returns trigger language plpgsql as"
        " $$ begin if new.pledge_id = '9000' then perform 1 from nowhere; end if; return new; end $$;"
        " create trigger halt before insert on pledges for each row execute function halt()"
    )
    job = load(client, export)
    assert job["status"] == "failed"
    assert 0 < job["processed_rows"] < RECORDS
    assert job["chunks"]["completed"] >= 1
    failed = next(chunk for chunk in client.chunks(job["id"]) if chunk["status"] == "failed")
    assert "nowhere" in failed["error"]["message"]
    done = count(psql, "ingest.ledger")

    psql("drop trigger halt on pledges")
    assert client.post(f"{BASE}/jobs/{job['id']}/retry").status_code == 202
    again = until(lambda: client.job(job["id"]) if client.job(job["id"])["status"] == "completed" else None, "retried")
    assert again["processed_rows"] == RECORDS
    assert count(psql, "pledges") == RECORDS
    assert count(psql, "ingest.ledger where epoch = 1") >= done
