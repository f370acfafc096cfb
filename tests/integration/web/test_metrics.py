"""`GET /metrics` over a socket: requests under their routes, and the database's part left out when it is away."""

from __future__ import annotations

from ingest.errors import UnavailableError
from tests.exposition import Exposition

from .conftest import Web


async def metrics(web: Web) -> Exposition:
    """What the server says now."""
    answer = await web.client.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return Exposition(answer.text)


async def test_what_the_process_and_the_database_say(web: Web) -> None:
    """Every state is there, also those that no job is in."""
    found = await metrics(web)
    assert found.value("ingest_build_info", version="1.2.3", role="api") == 1
    assert found.by("ingest_database_pool_connections", "state") == {"used": 1, "idle": 2}
    assert (found.value("ingest_uploads"), found.value("ingest_upload_bytes_total")) == (1, 1000)
    assert (found.value("ingest_database_up"), found.value("ingest_jobs", state="completed")) == (1, 2)
    assert ("ingest_jobs", frozenset({("state", "paused")})) in found.samples


async def test_without_a_database_its_part_is_missing(web: Web) -> None:
    """An old number would look like a new one."""
    web.readings.failure = UnavailableError("away")
    found = await metrics(web)
    assert found.value("ingest_database_up") == 0
    assert not {"ingest_jobs", "ingest_chunks", "ingest_queue_oldest_age_seconds"} & set(found.types)
    assert "process_resident_memory_bytes" in found.types


async def test_requests_count_under_their_route_and_never_their_path(web: Web) -> None:
    """Made-up paths and methods share one label each."""
    for path in ("/health/live", "/nothing/1", "/nothing/2", "/api/v1/csv/jobs/1", "/api/v1/csv/jobs/2"):
        await web.client.get(path)
    await web.client.request("BREW", "/nothing/3")
    await web.client.put("/api/v1/csv/upload/a.csv?dataset=nowhere", content=b"a\n")
    found = await metrics(web)
    name = "ingest_http_requests_total"
    assert found.by(name, "status", route="other", method="GET") == {"404": 2}
    assert found.value(name, route="other", method="other") == 1
    assert found.by(name, "status", route="/api/v1/csv/jobs/{job_id}") == {"404": 2}
    assert found.by(name, "status", route="/api/v1/csv/upload/{filename}", method="PUT") == {"404": 1}
    assert found.value("ingest_http_request_seconds_count", route="/health/live") == 1
    assert {route for route in found.by(name, "route") if "nothing" in route} == set()
