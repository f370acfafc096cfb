"""`/metrics` of real processes: right types and units, few labels, and counters that equal what a load did."""

from __future__ import annotations

import re
from collections import Counter

from tests.acceptance.client import BASE, Client, session, until
from tests.acceptance.conftest import SMALL, Connect
from tests.conftest import Psql
from tests.exposition import Exposition
from tests.processes import Starter

# Every metric there is, with its type and its labels. In the text, counters end in _total.
METRICS = {
    "ingest_rows": ("counter", {"dataset", "outcome"}),
    "ingest_rejects": ("counter", {"code"}),
    "ingest_batches": ("counter", {"path", "result"}),
    "ingest_batch_seconds": ("histogram", {"path"}),
    "ingest_batch_retries": ("counter", {"sqlstate_class"}),
    "ingest_lease_losses": ("counter", {"reason"}),
    "ingest_http_requests": ("counter", {"method", "route", "status"}),
    "ingest_http_request_seconds": ("histogram", {"method", "route"}),
    "ingest_loop_lag_seconds": ("histogram", set()),
    "ingest_upload_bytes": ("counter", set()),
    "ingest_uploads": ("gauge", set()),
    "ingest_chunks_running": ("gauge", set()),
    "ingest_batches_in_flight": ("gauge", {"stage"}),
    "ingest_writers": ("gauge", set()),
    "ingest_writers_limit": ("gauge", set()),
    "ingest_writer_changes": ("counter", {"reason"}),
    "ingest_channel_batches": ("gauge", set()),
    "ingest_channel_capacity_batches": ("gauge", set()),
    "ingest_database_pool_connections": ("gauge", {"state"}),
    "ingest_database_pool_limit_connections": ("gauge", set()),
    "ingest_database_up": ("gauge", set()),
    "ingest_jobs": ("gauge", {"state"}),
    "ingest_chunks": ("gauge", {"state"}),
    "ingest_queue_oldest_age_seconds": ("gauge", set()),
    "ingest_build_info": ("gauge", {"version", "role"}),
    "ingest_peak_memory_bytes": ("gauge", set()),
    "process_resident_memory_bytes": ("gauge", set()),
    "process_open_fds": ("gauge", set()),
    "process_start_time_seconds": ("gauge", set()),
    "process_cpu_seconds": ("counter", set()),
}
ENDINGS = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}


def scrape(client: Client) -> Exposition:
    """What `/metrics` says now."""
    return Exposition(client.get("/metrics").raise_for_status().text)


def check_form(found: Exposition) -> None:
    """Every metric is a known one of the right type, with the labels it should have, a unit and a sentence."""
    assert found.types == {name: kind for name, (kind, _) in METRICS.items()}
    for name, (kind, labels) in METRICS.items():
        assert re.fullmatch(r"(ingest|process)(_[a-z]+)+", name)
        assert found.help[name].endswith(".")
        for ending in ENDINGS[kind]:
            further = {"le"} if ending == "_bucket" else set()
            assert found.labels(name + ending) <= {frozenset(labels | further)}
    known = {name + ending for name, (kind, _) in METRICS.items() for ending in ENDINGS[kind]}
    assert {name for name, _ in found.samples} <= known
    assert all(value >= 0 for value in found.samples.values())


def test_counters_equal_what_a_load_did(service: Starter, connect: Connect, psql: Psql) -> None:
    """Rows by outcome, rejects by code, batches by path, bytes, requests: as jobs, ledger and sockets have them."""
    psql("create table t (a int primary key, b text)")
    records = [f"{n},{'x' * 20}" for n in range(20_000)]
    records[5], records[9_000], records[9_001] = "x,y", "7,twice", "1,2,3"
    body = ("a,b\n" + "\n".join(records) + "\n").encode()
    keyed = (
        b"email,name,city,created_at\na@b.example,A,B,2024-01-01\nnobody,A,B,2024-01-01\nc@b.example,Z,B,2024-01-01\n"
    )
    process = service(**SMALL, LOG_LEVEL="DEBUG")
    client = connect(process)

    plain, definition = client.load(body, "public.t"), client.load(keyed, "customers")
    refused = client.put(b"wrong\n1\n", "public.t")
    found = until(lambda: when_counted(client, jobs=2), "the census has seen both jobs")

    check_form(found)
    assert refused.status_code == 422
    for job in (plain, definition):
        rows = found.by("ingest_rows_total", "outcome", dataset=job["dataset"])
        shown = {outcome: job[f"{outcome}_rows"] for outcome in ("inserted", "updated", "unchanged", "skipped")}
        assert rows == {name: count for name, count in {**shown, "rejected": job["failed_rows"]}.items() if count}
        assert sum(rows.values()) == job["total_rows"]
    reasons = Counter(one["code"] for job in (plain, definition) for one in client.rejects(job["id"]))
    assert found.by("ingest_rejects_total", "code") == reasons
    assert plain["failed_rows"] == 3
    check_batches(
        found,
        batches=sum(chunk["batches"] for job in (plain, definition) for chunk in client.chunks(job["id"])),
        refused=process.log.count('"event": "batch_isolated"'),
    )
    assert found.value("ingest_upload_bytes_total") == len(body) + len(keyed) + len(b"wrong\n1\n")
    upload = {"route": f"{BASE}/upload/{{filename}}", "method": "PUT"}
    assert found.by("ingest_http_requests_total", "status", **upload) == {"202": 2, "422": 1}
    assert found.value("ingest_http_request_seconds_count", **upload) == 3
    assert found.value("ingest_http_request_seconds_sum", **upload) > 0
    assert found.by("ingest_chunks", "state") == {
        "completed": sum(j["chunks"]["completed"] for j in (plain, definition))
    }
    assert (found.value("ingest_uploads"), found.value("ingest_batches_in_flight")) == (0, 0)
    assert (found.value("ingest_channel_batches"), found.value("ingest_channel_capacity_batches")) == (0, 0)


def when_rows(client: Client, rows: dict[str, int]) -> Exposition | None:
    """What `/metrics` says, once these rows are counted, which is a moment after their COMMIT can be seen."""
    found = scrape(client)
    return found if found.by("ingest_rows_total", "outcome") == rows else None


def when_rejects(client: Client, count: int) -> Exposition | None:
    """What `/metrics` says, once so many rejects are counted."""
    found = scrape(client)
    return found if found.value("ingest_rejects_total") == count else None


def when_counted(client: Client, *, jobs: int) -> Exposition | None:
    """What `/metrics` says, once the census knows so many completed jobs."""
    found = scrape(client)
    return found if found.value("ingest_jobs", state="completed") == jobs else None


def check_batches(found: Exposition, *, batches: int, refused: int) -> None:
    """Each was loaded once, by all three paths, every try was timed, and what was refused as a whole was isolated."""
    loaded = found.by("ingest_batches_total", "path", result="loaded")
    assert sum(loaded.values()) == batches
    assert set(loaded) == {"direct", "staged", "isolated"}
    tries, timed = found.by("ingest_batches_total", "path"), found.by("ingest_batch_seconds_count", "path")
    assert tries == timed
    # After a batch that was not clean the next may be isolated at once, without being tried whole.
    assert found.value("ingest_batches_total", result="refused") == refused
    assert 1 <= refused <= loaded["isolated"]
    for path in loaded:
        assert found.value("ingest_batch_seconds_bucket", path=path, le="+Inf") == tries[path]


def test_a_load_in_the_middle(service: Starter, connect: Connect, psql: Psql, dsn: str) -> None:
    """Batches in flight, the channels' fill and the pool while the table is locked; then the lost connection's class."""
    psql("create table t (a int)")
    client = connect(service(**SMALL, WORKER_CONCURRENT_BATCHES="2"))
    body = b"a\n" + b"".join(b"%d\n" % n for n in range(10_000))
    waiting = (
        "select count(*) = 2 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )

    with session(dsn, "begin; lock table t in access exclusive mode"):
        job_id = client.send(body, "public.t")
        until(lambda: psql(waiting) == "t", "both writers wait for the table")
        found = until(lambda: when_full(client), "the channel is full")
        psql("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'")
    job = client.wait(job_id)

    assert found.by("ingest_batches_in_flight", "stage") == {"queued": 2, "writing": 2}
    assert found.value("ingest_channel_capacity_batches") == 1
    assert found.value("ingest_chunks_running") == 1
    assert found.value("ingest_database_pool_connections", state="used") >= 2
    assert (job["status"], job["inserted_rows"]) == ("completed", 10_000)
    after = scrape(client)
    assert after.by("ingest_batch_retries_total", "sqlstate_class").keys() <= {"57", "08"}
    assert after.value("ingest_batch_retries_total") >= 2
    assert after.value("ingest_batches_total", path="direct", result="unavailable") >= 2
    assert after.value("ingest_rows_total", outcome="inserted") == 10_000


def when_full(client: Client) -> Exposition | None:
    """What `/metrics` says, once a batch waits in a channel and the reader has another in hand."""
    found = scrape(client)
    full = found.value("ingest_channel_batches") == 1 and found.value("ingest_batches_in_flight", stage="queued") == 2
    return found if full else None


def test_a_worker_serves_its_own_metrics_and_an_api_process_those_of_http(
    service: Starter, connect: Connect, psql: Psql
) -> None:
    """On the port of their health; what one has done is not in the other's."""
    psql("create table t (a int)")
    api, worker = connect(service("api")), connect(service("worker"))
    api.load(b"a\n1\n2\nx\n", "public.t")

    loaded = {"inserted": 2, "rejected": 1}
    of_worker = until(lambda: when_rows(worker, loaded), "the worker has counted the rows")
    of_api = scrape(api)

    check_form(of_api)
    check_form(of_worker)
    assert of_api.value("ingest_build_info", role="api") == of_worker.value("ingest_build_info", role="worker") == 1
    assert (of_api.value("ingest_rows_total"), of_api.value("ingest_upload_bytes_total")) == (0, 8)
    assert worker.get("/docs").status_code == 404


def test_whole_loads_count_when_they_are_published(service: Starter, connect: Connect, psql: Psql) -> None:
    """`validate` leaves no rows, so none are counted; its rejects are stored, and so they are."""
    psql("create table t (a int)")
    client = connect(service())
    client.load(b"a\n1\n2\nx\n", "public.t", mode="validate")
    tried = until(lambda: when_rejects(client, 1), "the reject is counted")
    client.load(b"a\n1\n2\nx\n", "public.t", mode="atomic")
    loaded = {"inserted": 2, "rejected": 1}
    published = until(lambda: when_rows(client, loaded), "the published rows are counted")

    assert tried.value("ingest_rows_total") == 0
    assert published.value("ingest_rejects_total", code="E_TYPE") == 2
    assert published.by("ingest_batches_total", "result", path="direct") == {"loaded": 2}
