"""The JSON routes: what they show, what they refuse, and how they say so."""

from __future__ import annotations

from uuid import UUID

import pytest

from ingest.errors import PermanentError, UnavailableError
from ingest.job import JobState
from ingest.rejects import RejectFilter

from .conftest import Web
from .fakes import job_view

BASE = "/api/v1/csv"
# No job has it; the same in every process that collects the tests.
NOBODY = UUID("01a20000-0000-7000-8000-000000000000")


async def test_a_job_is_shown_whole(web: Web) -> None:
    """Every field of the contract, times in UTC, links to what belongs to it; /progress is the same."""
    view = job_view(status=JobState.FAILED, error={"code": "E_X", "message": "why"}, rows_per_second=1.5)
    web.jobs.views = [view]
    job = (await web.client.get(f"{BASE}/jobs/{view.id}")).json()
    assert (job["id"], job["status"], job["updated_at"]) == (str(view.id), "failed", "2026-01-02T03:04:05Z")
    assert job["error"] == {"code": "E_X", "message": "why"}
    assert job["started_at"] is None
    assert set(job) >= {
        "id", "dataset", "filename", "status", "mode", "priority", "bytes_total", "bytes_received", "bytes_processed",
        "total_rows", "processed_rows", "inserted_rows", "updated_rows", "skipped_rows", "failed_rows", "progress",
        "rows_per_second", "eta_seconds", "chunks", "error", "parent_id", "sha256", "created_at", "started_at",
        "completed_at", "updated_at", "links",
    }  # fmt: skip
    assert (await web.client.get(f"{BASE}/jobs/{view.id}/progress")).json() == job
    for name, link in job["links"].items():
        assert (await web.client.get(link)).status_code == (426 if name == "ws" else 200), name


async def test_jobs_come_in_pages(web: Web) -> None:
    """With defaults, filters, and the total."""
    web.jobs.views = [job_view(), job_view()]
    body = (await web.client.get(f"{BASE}/jobs")).json()
    assert (body["page"], body["limit"], body["total"], len(body["jobs"])) == (1, 10, 2, 2)
    assert web.jobs.asked == {"page": 1, "limit": 10, "status": None, "dataset": None, "owner": None, "filename": None}
    await web.client.get(f"{BASE}/jobs?page=3&limit=500&status=completed&dataset=public.t&filename=%C3%BCb")
    assert web.jobs.asked == {
        "page": 3,
        "limit": 500,
        "status": "completed",
        "dataset": "public.t",
        "owner": None,
        "filename": "üb",
    }


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=501", "page=0", "page=-1", "page=x", "page=1&page=2", "page=²", "page=99999999999999999999",
     "status=done", "sort=id", "dataset=%00", "dataset=%ff", "page=%31%00"],
)  # fmt: skip
async def test_a_wrong_query_is_400(web: Web, query: str) -> None:
    """Including every parameter that does not exist."""
    response = await web.client.get(f"{BASE}/jobs?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "E_OPTION")


@pytest.mark.parametrize("path", ["", "/progress", "/chunks", "/rejects", "/rejects/summary", "/rejects.csv"])
@pytest.mark.parametrize("job_id", [NOBODY, "x", "%00", f"{{{NOBODY}}}", NOBODY.hex])
async def test_an_unknown_job_is_404(web: Web, path: str, job_id: object) -> None:
    """Also when the id is not one at all."""
    response = await web.client.get(f"{BASE}/jobs/{job_id}{path}")
    assert (response.status_code, response.json()["code"]) == (404, "E_NOT_FOUND")
    assert response.headers["content-type"] == "application/problem+json"


async def test_rejects_show_raw_as_text(web: Web) -> None:
    """Bytes that are not UTF-8 are shown as escapes."""
    view = job_view()
    web.jobs.views = [view]
    web.rejects.rows = [{"line": 7, "raw": b"caf\xe9,\xc3\xa9", "code": "E_ENCODING"}]
    body = (await web.client.get(f"{BASE}/jobs/{view.id}/rejects?limit=5&code=E_ENCODING&column=a")).json()
    assert body == {
        "rejects": [{"line": 7, "raw": "caf\\xe9,é", "code": "E_ENCODING"}], "page": 1, "limit": 5, "total": 1,
        "stored": 1, "rejected": 0, "next": None,
    }  # fmt: skip
    assert web.rejects.asked == {
        "job_id": view.id, "wanted": RejectFilter(code="E_ENCODING", column="a"), "page": 1, "limit": 5, "after": (0, 0)
    }  # fmt: skip


async def test_chunks_come_in_pages(web: Web) -> None:
    """With their times in UTC."""
    view = job_view()
    web.jobs.views = [view]
    body = (await web.client.get(f"{BASE}/jobs/{view.id}/chunks")).json()
    assert body["chunks"] == [{"ordinal": 1, "claimed_at": "2026-01-01T00:00:00Z"}]


async def test_datasets_are_listed_and_shown(web: Web) -> None:
    """An unknown one is 404."""
    assert (await web.client.get(f"{BASE}/datasets")).json()["datasets"][0]["name"] == "public.t"
    assert (await web.client.get(f"{BASE}/datasets/public.t")).json()["table"] == "public.t"
    assert (await web.client.get(f"{BASE}/datasets/public.u")).json()["code"] == "E_DATASET_UNKNOWN"
    assert (await web.client.get(f"{BASE}/datasets?x=1")).status_code == 400


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (UnavailableError("the database does not answer"), 503, "E_DATABASE_UNAVAILABLE"),
        (PermanentError("a column is missing"), 500, "E_DATABASE_REFUSED"),
        (KeyError("secret"), 500, "E_INTERNAL"),
        (ExceptionGroup("several", [ValueError("secret")]), 500, "E_INTERNAL"),
    ],
)
async def test_a_failure_is_a_problem(web: Web, failure: Exception, status: int, code: str) -> None:
    """Without anything of an unexpected exception in it."""
    web.jobs.failure = failure
    response = await web.client.get(f"{BASE}/jobs/{UUID(int=1)}")
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert "secret" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)


async def test_another_method_is_405_and_another_path_404(web: Web) -> None:
    """As problems, with Allow."""
    response = await web.client.put(f"{BASE}/jobs", content=b"x" * 200_000)
    assert (response.status_code, response.json()["code"]) == (405, "E_METHOD")
    assert "GET" in response.headers["allow"]
    for path in ("/nowhere", f"{BASE}", f"{BASE}/uploads", "/%2e%2e/etc", f"{BASE}/jobs/"):
        response = await web.client.get(path)
        assert (response.status_code, response.json()["code"]) == (404, "E_NOT_FOUND"), path


@pytest.mark.parametrize("path", ["/", "/health", "/health/live", "/health/ready", f"{BASE}/jobs", f"{BASE}/datasets"])
async def test_head_answers_like_get(web: Web, path: str) -> None:
    """With the length and without the body."""
    head, get = await web.client.head(path), await web.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"] == "application/json"


async def test_the_root_says_where_things_are(web: Web) -> None:
    """As links."""
    assert (await web.client.get("/")).json()["links"]["jobs"] == f"{BASE}/jobs"
