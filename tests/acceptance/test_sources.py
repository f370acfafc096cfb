"""`POST /jobs`: files that the service reads where they lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.acceptance.client import BASE, PATIENCE_S, tracebacks
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count
from tests.acceptance.test_broken_uploads import make_slow
from tests.acceptance.test_tus_faults import FILE, big_file
from tests.conftest import Psql
from tests.processes import Process, Starter

Stored = Callable[[], list[Path]]


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


def ask(process: Process, body: object) -> httpx.Response:
    return httpx.post(
        f"{process.url}{BASE}/jobs",
        content=json.dumps(body),
        headers={"Content-Type": "application/json"},
        timeout=PATIENCE_S,
    )


def test_a_file_is_loaded_in_place(
    service: Starter, psql: Psql, connect: Connect, sources: Path, stored: Stored
) -> None:
    """With all options; the file stays, and nothing is copied."""
    psql("create table t (a text, b int)")
    file = sources / "my file?.csv"
    file.write_bytes(FILE)
    process = service(**SMALL, INGEST_SOURCE_ROOTS=f"/nowhere,{sources}")
    url = file.as_uri()
    answer = ask(process, {"source": url, "dataset": "public.t", "priority": 7, "max_rejects": "1%"})
    assert answer.status_code == 202, answer.text
    assert answer.headers["Location"] == f"{BASE}/jobs/{answer.json()['id']}"
    job = connect(process).wait(answer.json()["id"])
    assert (job["status"], job["processed_rows"], job["filename"]) == ("completed", 20_000, "my file?.csv")
    assert (job["priority"], job["sha256"]) == (7, sha256(FILE).hexdigest())
    assert stored() == []
    assert file.read_bytes() == FILE


def test_only_files_below_the_allowed_folders_are_read(
    service: Starter, psql: Psql, sources: Path, tmp_path: Path
) -> None:
    """Links are followed before that is looked at; whether another file is there is not said."""
    psql("create table t (a text, b int)")
    outside = tmp_path / "outside.csv"
    outside.write_bytes(FILE)
    (sources / "link.csv").symlink_to(outside)
    (sources / "folder").mkdir()
    (sources / "bad.csv").write_bytes(b"wrong\n1\n")
    process = service(INGEST_SOURCE_ROOTS=str(sources))
    cases = {
        outside.as_uri(): (403, "E_SOURCE_FORBIDDEN"),
        f"{sources.as_uri()}/../outside.csv": (403, "E_SOURCE_FORBIDDEN"),
        f"{sources.as_uri()}/%2e%2e/outside.csv": (403, "E_SOURCE_FORBIDDEN"),
        f"{sources.as_uri()}/link.csv": (403, "E_SOURCE_FORBIDDEN"),
        f"{sources.as_uri()}x/a.csv": (403, "E_SOURCE_FORBIDDEN"),
        "file:///etc/no-such-file": (403, "E_SOURCE_FORBIDDEN"),
        f"{sources.as_uri()}/nothing.csv": (404, "E_SOURCE_MISSING"),
        f"{sources.as_uri()}/folder": (422, "E_SOURCE"),
        f"{sources.as_uri()}/bad.csv": (422, "E_HEADER_MISMATCH"),
        f"{sources.as_uri()}/a%00.csv": (422, "E_SOURCE"),
        "file:///\ud800": (422, "E_SOURCE"),
        "file://[": (422, "E_SOURCE"),
        "s3://bucket/key.csv": (422, "E_SOURCE"),
        "http://example.org/a.csv": (422, "E_SOURCE"),
        "file://host/a.csv": (422, "E_SOURCE"),
        "relative.csv": (422, "E_SOURCE"),
    }  # fmt: skip
    answers = {url: ask(process, {"source": url, "dataset": "public.t"}) for url in cases}
    assert {url: (answer.status_code, answer.json()["code"]) for url, answer in answers.items()} == cases
    assert count(psql, "ingest.jobs") == 0
    assert tracebacks(process) == []


def test_without_the_setting_no_file_is_read(service: Starter, sources: Path) -> None:
    (sources / "a.csv").write_bytes(FILE)
    answer = ask(service(), {"source": (sources / "a.csv").as_uri(), "dataset": "public.t"})
    assert (answer.status_code, answer.json()["code"]) == (403, "E_SOURCE_FORBIDDEN")


def test_requests_that_make_no_sense_are_refused(service: Starter, sources: Path) -> None:
    process = service(INGEST_SOURCE_ROOTS=str(sources))
    url = f"{process.url}{BASE}/jobs"
    for content, kind, status, code in (
        (b"{", "application/json", 400, "E_OPTION"),
        (b"[" * 50_000, "application/json", 400, "E_OPTION"),
        (b"[]", "application/json", 400, "E_OPTION"),
        (b"{}", "application/json", 400, "E_OPTION"),
        (b'{"source": "file:///a", "mode": ["atomic"]}', "application/json", 400, "E_OPTION"),
        (b'{"source": "file:///a", "Wrong": "x"}', "application/json", 400, "E_OPTION"),
        (b"{}", "text/plain", 415, "E_MEDIA_TYPE"),
        (b"{}" + b" " * 70_000, "application/json", 413, "E_TOO_LARGE"),
    ):
        answer = httpx.post(url, content=content, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["code"]) == (status, code), content[:50]
    assert httpx.post(f"{url}?x=1", json={}).status_code == 400


def test_a_stop_while_a_file_is_read_fails_its_job(service: Starter, psql: Psql, sources: Path) -> None:
    """With a clear reason; the request was answered long before."""
    psql("create table t (a text, b int)")
    (sources / "big.csv").write_bytes(big_file(20)[0])
    process = service(**SMALL, INGEST_SOURCE_ROOTS=str(sources))
    make_slow(psql, "ingest.chunks", "0.5")
    answer = ask(process, {"source": (sources / "big.csv").as_uri(), "dataset": "public.t"})
    assert (answer.status_code, answer.json()["status"]) == (202, "receiving")
    assert answer.json()["bytes_total"] == (sources / "big.csv").stat().st_size
    assert process.terminate() == 0
    assert psql("select j.state, j.error_code, count(c) from ingest.jobs j left join ingest.chunks c on c.job_id = j.id"
                " group by 1, 2") == "failed|E_UPLOAD_INCOMPLETE|0"  # fmt: skip
    assert "the service stopped while it read the file" in psql("select error_message from ingest.jobs")
