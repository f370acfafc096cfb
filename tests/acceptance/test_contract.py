"""Rows of the HTTP contract that no other test looks at for themselves, over real sockets."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.acceptance.client import BASE
from tests.acceptance.running import Running, running
from tests.acceptance.tusclient import FILES, VERSION, metadata

FILE = b"id,name\n1,x\n"
DIALECT_OPTIONS = (
    "comment", "delimiter", "encoding", "escape", "footer_rows", "header", "header_rows", "newline", "on_header", "on_quote",
    "on_ragged", "quote", "skip_rows", "trim",
)  # fmt: skip
WRONG = "a1b2c3d4e5f6g7h8"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files may be loaded in place."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "f.csv").write_bytes(FILE)
    return folder


@pytest.fixture(scope="module")
def service(shared_dsn: str, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service for all tests."""
    folder = tmp_path_factory.mktemp("contract")
    with running(shared_dsn, folder, INGEST_SOURCE_ROOTS=str(sources), CHUNK_SIZE="70000",
                 MAX_RECORD_BYTES="65536", WORKER_BATCH_BYTES="65536") as service:  # fmt: skip
        yield service


def asked_everywhere(service: Running, sources: Path, **options: str) -> dict[str, httpx.Response]:
    """Upload requests with these options, in every place where options can be."""
    dataset, http = service.table(), service.http
    named = {"dataset": dataset, **options}
    source = {"source": (sources / "f.csv").as_uri(), **named}
    headers = VERSION | {"Upload-Length": "12"} | metadata(filename="f.csv", **named)
    return {
        "query": http.put(f"{BASE}/upload/f.csv", params=named, content=FILE),
        "query of a form": http.post(f"{BASE}/upload", params=named, files={"file": ("f.csv", FILE)}),
        "field of a form": http.post(f"{BASE}/upload", data=named, files={"file": ("f.csv", FILE)}),
        "metadata": http.post(FILES, headers=headers),
        "query of a resumable upload": http.post(FILES, params=options, headers=headers),
        "JSON": http.post(f"{BASE}/jobs", json=source),
        "query of a preview": http.post(f"{BASE}/preview", params=named, content=FILE),
    }


@pytest.mark.parametrize("option", DIALECT_OPTIONS)
def test_an_option_with_a_wrong_value_is_refused_by_name(service: Running, sources: Path, option: str) -> None:
    """Wherever it is sent: whoever relies on it must not find out from the rows."""
    before = len(service.client.jobs())
    for place, answer in asked_everywhere(service, sources, **{option: WRONG}).items():
        assert (answer.status_code, answer.json()["code"]) == (400, "E_OPTION"), (place, answer.text)
        assert answer.json()["option"] == option
        assert answer.json()["detail"].startswith(f"{option} ") or option == "encoding"
    assert len(service.client.jobs()) == before


def test_an_object_store_is_refused_by_name(service: Running) -> None:
    """It is not one of the sources of this version."""
    answer = service.http.post(f"{BASE}/jobs", json={"source": "s3://bucket/f.csv", "dataset": service.table()})
    assert (answer.status_code, answer.json()["code"]) == (422, "E_SOURCE")
    assert "S3 cannot be read by this version" in answer.json()["detail"]
    done = service.load("s3://bucket/f.csv", "--dataset", service.table())
    assert done.code == 2
    assert "'s3://bucket/f.csv' is no local file" in done.err


def test_jobs_are_listed_newest_first_in_pages(service: Running) -> None:
    """Of one dataset or status, with how many there are in all."""
    dataset, other = service.table(), service.table()
    ids = [service.wait(service.put(FILE, dataset, on_duplicate="load"))["id"] for _ in range(5)]
    failed = service.wait(service.put(b"id,name\nx,x\n", other, max_rejects="0"))
    pages = [service.client.json(f"{BASE}/jobs", dataset=dataset, limit=2, page=page) for page in (1, 2, 3, 4)]
    assert [[job["id"] for job in page["jobs"]] for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1], []]
    assert [(page["page"], page["limit"], page["total"]) for page in pages] == [(n, 2, 5) for n in (1, 2, 3, 4)]
    assert failed["status"] == "failed"
    assert [job["id"] for job in service.client.jobs(dataset=other, status="failed")] == [failed["id"]]
    assert service.client.jobs(dataset=other, status="completed") == []
    everything = service.client.json(f"{BASE}/jobs")
    assert (everything["page"], everything["limit"]) == (1, 10)
    assert all(newer["created_at"] >= older["created_at"] for newer, older in pairwise(everything["jobs"]))


def test_chunks_and_rejects_come_in_pages(service: Running) -> None:
    """Rejects of one code or column, too; the summary counts them."""
    dataset = service.table("id int not null, name varchar(5), n int")
    body = b"id,name,n\n" + b"".join(b"%d,%s,%s\n" % (k, b"x" * (3 + 5 * (k % 1000 == 0)), b"y" if k % 2000 == 1 else b"1")
                                     for k in range(20_000))  # fmt: skip
    job = service.wait(service.put(body, dataset))
    path = f"{BASE}/jobs/{job['id']}"
    assert service.client.json(f"{path}/progress") == service.client.json(path)
    chunks = service.client.json(f"{path}/chunks", limit=2, page=2)
    assert (chunks["page"], chunks["limit"], chunks["total"]) == (2, 2, sum(job["chunks"].values()))
    assert [chunk["ordinal"] for chunk in chunks["chunks"]] == [3, 4][: chunks["total"] - 2]

    def found(**query: object) -> tuple[set[str], set[str], int]:
        page = service.client.json(f"{path}/rejects", limit=100, **query)
        rows = page["rejects"]
        return {row["code"] for row in rows}, {row["column"] for row in rows}, page["total"]

    assert found(code="E_TOO_LONG") == ({"E_TOO_LONG"}, {"name"}, 20)
    assert found(column="n") == ({"E_TYPE"}, {"n"}, 10)
    assert found(code="E_TYPE", column="name") == (set(), set(), 0)
    assert found()[2] == 30
    second = service.client.json(f"{path}/rejects", limit=7, page=2)
    assert [row["line"] for row in second["rejects"]] == sorted(row["line"] for row in second["rejects"])
    assert len(second["rejects"]) == 7
    summary = service.client.json(f"{path}/rejects/summary")
    counts = {(one["column"], one["code"]): one["count"] for one in summary["groups"]}
    assert counts == {("name", "E_TOO_LONG"): 20, ("n", "E_TYPE"): 10}


def test_what_is_outside_the_base(service: Running) -> None:
    """Probes, metrics, the document, its pages, and where things are."""
    kinds = {
        "/health": "application/json", "/health/live": "application/json", "/health/ready": "application/json",
        "/metrics": "application/openmetrics-text", "/openapi.json": "application/json",
        "/docs": "text/html; charset=utf-8", "/docs/problems": "text/html; charset=utf-8", "/": "application/json",
    }  # fmt: skip
    for path, kind in kinds.items():
        answer = service.http.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].split(";")[0] in (kind.split(";")[0], "text/plain"), path
        head = service.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert {"GET", "HEAD", "OPTIONS"} == set(service.http.options(path).headers["allow"].split(", "))
    assert service.http.get("/openapi.json").json()["openapi"].startswith("3.1")
    assert service.http.get("/nothing").json()["code"] == "E_NOT_FOUND"


def test_stats_are_what_the_jobs_come_to(service: Running) -> None:
    """Totals, success rate, speed, the queue and the workers."""
    service.wait(service.put(FILE, service.table()))
    stats = service.client.json(f"{BASE}/stats")
    assert stats["jobs"]["total"] == sum(count for state, count in stats["jobs"].items() if state != "total")
    assert {"rows_per_second", "queue", "lately", "jobs"} <= stats.keys()
    assert {"pending", "processing", "oldest_age_s"} == stats["queue"].keys()
    [worker] = stats["workers"]
    assert worker["id"] == service.client.json("/health")["worker"]["id"]
    assert worker.keys() == {"id", "host", "pid", "version", "draining", "heartbeat_age_s", "chunks"}


def test_a_finished_job_is_deleted_and_its_rows_stay(service: Running) -> None:
    """Its rejects and objects go with it."""
    dataset = service.table()
    job = service.wait(service.put(b"id,name\n1,x\nx,y\n", dataset))
    path = job["links"]["self"]
    assert service.http.delete(path).status_code == 204
    assert (service.http.get(path).status_code, service.http.delete(path).status_code) == (404, 404)
    assert service.count(dataset) == 1
    assert service.count(f"ingest.rejects where job_id = '{job['id']}'") == 0
    assert not [stored for stored in service.stored() if job["id"] in str(stored)]


def test_metadata_may_be_any_text(service: Running) -> None:
    """A file name in any script comes back as it was."""
    pair = f"filename {b64encode('Käufer 買.csv'.encode()).decode()},dataset {b64encode(service.table().encode()).decode()}"
    headers = VERSION | {
        "Upload-Length": "12",
        "Upload-Metadata": pair,
        "Content-Type": "application/offset+octet-stream",
    }
    job = service.http.post(FILES, content=FILE, headers=headers).headers["Ingest-Job"]
    assert json.loads(service.http.get(job).text)["filename"] == "Käufer 買.csv"
