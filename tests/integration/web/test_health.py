"""What probes see in each state of the service."""

from __future__ import annotations

import pytest

from ingest.errors import UnavailableError
from ingest.web import health

from .conftest import Web


async def states(web: Web) -> tuple[str, int, int]:
    """Return the status /health shows, and the codes of ready and live."""
    shown = (await web.client.get("/health")).json()["status"]
    ready = (await web.client.get("/health/ready")).status_code
    return shown, ready, (await web.client.get("/health/live")).status_code


async def test_health_shows_everything(web: Web) -> None:
    """Every field of the contract."""
    body = (await web.client.get("/health")).json()
    assert (body["status"], body["version"], body["role"], body["draining"]) == ("ok", "1.2.3", "serve", False)
    assert body["uptime"] == 12.3
    assert body["database"]["ok"] is True
    assert body["database"]["latency_ms"] >= 0
    assert body["database"]["pool"] == {"size": 10, "idle": 9}
    assert body["worker"]["batches_in_flight"] == {"queued": 1, "writing": 0}
    assert set(body["worker"]) == {"id", "heartbeat_age_s", "chunks", "batches_in_flight", "last_batch_s", "writers"}
    change = {"age_s": 2.5, "before": 3, "writers": 6, "reason": "climb"}
    assert body["worker"]["writers"] == {
        "auto": True, "now": 6, "most": 16, "busy": 5, "bytes_per_s": 1000, "changes": [change],
    }  # fmt: skip
    assert body["queue"] == {"pending": 3, "processing": 1, "oldest_age_s": 1.5}
    assert 1_000_000 < body["memory"]["rss_bytes"] <= body["memory"]["peak_bytes"] * 1.1
    assert "storage" in body


async def test_a_service_in_order_is_ready(web: Web) -> None:
    """All three say so."""
    assert await states(web) == ("ok", 200, 200)


async def test_starting_is_not_ready(web: Web) -> None:
    """But alive."""
    web.health.started = False
    assert await states(web) == ("starting", 503, 200)


async def test_draining_is_not_ready(web: Web) -> None:
    """But alive, and still answering."""
    web.draining.set()
    assert await states(web) == ("draining", 503, 200)


async def test_without_the_database_it_is_not_ready(web: Web) -> None:
    """But alive: a restart would not bring the database back."""
    web.health.failure = UnavailableError("the database does not answer")
    assert await states(web) == ("database_unavailable", 503, 200)
    database = (await web.client.get("/health")).json()["database"]
    assert (database["ok"], database["code"]) == (False, "E_DATABASE_UNAVAILABLE")


async def test_a_database_that_hangs_does_not_hang_the_probe(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes before the prober gives up."""
    monkeypatch.setattr(health, "PROBE_S", 0.05)
    web.health.hangs = True
    assert await states(web) == ("database_unavailable", 503, 200)
