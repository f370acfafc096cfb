"""The routes that change a job: what they take, what they answer, and what they refuse."""

from __future__ import annotations

import pytest

from ingest.errors import ConflictError, RequestError
from ingest.job import JobView
from tests.integration.web.conftest import Web
from tests.integration.web.fakes import job_view

BASE = "/api/v1/csv"


@pytest.fixture
def job(web: Web) -> JobView:
    """A job that there is."""
    view = job_view()
    web.jobs.views.append(view)
    return view


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
async def test_an_action_answers_with_the_job(web: Web, job: JobView, action: str) -> None:
    """As it is then, and where it is."""
    response = await web.client.post(f"{BASE}/jobs/{job.id}/{action}")
    assert (response.status_code, response.json()["id"]) == (202, str(job.id))
    assert response.headers["location"] == f"{BASE}/jobs/{job.id}"
    assert web.control.calls == ([] if action == "retry" else [(action, job.id, None)])


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
async def test_a_refusal_says_in_which_state_the_job_is(web: Web, job: JobView, action: str) -> None:
    """So that a script can go on by it."""
    web.retrying.failure = web.control.failure = RequestError("it has ended", code="E_STATE", state="completed")
    response = await web.client.post(f"{BASE}/jobs/{job.id}/{action}")
    assert (response.status_code, response.json()["code"], response.json()["state"]) == (409, "E_STATE", "completed")


async def test_a_busy_database_is_worth_another_try(web: Web, job: JobView) -> None:
    """The answer says when."""
    web.control.failure = ConflictError("deadlock detected", sqlstate="40P01")
    response = await web.client.post(f"{BASE}/jobs/{job.id}/pause")
    assert (response.status_code, response.json()["code"]) == (503, "E_CONFLICT")
    assert response.headers["retry-after"]


async def test_a_deleted_job_leaves_no_body(web: Web, job: JobView) -> None:
    """204, as HTTP wants it."""
    response = await web.client.delete(f"{BASE}/jobs/{job.id}")
    assert (response.status_code, response.content) == (204, b"")
    assert web.control.calls == [("delete", job.id, None)]


async def test_a_priority_is_changed(web: Web, job: JobView) -> None:
    """By a PATCH of the job."""
    response = await web.client.patch(f"{BASE}/jobs/{job.id}", json={"priority": 9})
    assert (response.status_code, response.json()["priority"]) == (202, 9)
    assert web.control.calls == [("prioritise", job.id, 9, None)]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[" * 5000, b"9", b"[]", b"{}", b'{"priority": "9"}', b'{"priority": true}', b'{"priority": 1.5}',
     b'{"priority": 10}', b'{"priority": -1}', b'{"priority": null}', b'{"priority": 1, "status": "completed"}',
     b'{"priority": ' + b"9" * 5000 + b"}", b'\xff{"priority": 1}'],
)  # fmt: skip
async def test_any_other_body_is_refused(web: Web, job: JobView, body: bytes) -> None:
    """And changes nothing."""
    headers = {"Content-Type": "application/json"}
    response = await web.client.patch(f"{BASE}/jobs/{job.id}", content=body, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "E_OPTION")
    assert web.control.calls == []


async def test_a_form_is_no_json(web: Web, job: JobView) -> None:
    """It is refused by its type."""
    response = await web.client.patch(f"{BASE}/jobs/{job.id}", data={"priority": "9"})
    assert (response.status_code, response.json()["code"]) == (415, "E_MEDIA_TYPE")


async def test_the_audit_is_shown(web: Web, job: JobView) -> None:
    """Who did what, and when."""
    response = await web.client.get(f"{BASE}/jobs/{job.id}/audit")
    assert response.json() == {
        "audit": [{"at": "2026-01-01T00:00:00Z", "actor": None, "action": "pause", "detail": {}}]
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/retry"), ("DELETE", ""), ("PATCH", ""),
     ("GET", "/audit")],
)  # fmt: skip
async def test_where_there_is_no_job(web: Web, job: JobView, method: str, path: str) -> None:
    """404 for one unknown and for a path that names none, 400 for an option that there is not, 405 for a method."""
    for named, status in (("00000000-0000-0000-0000-000000000001", 404), ("x", 404), (f"{job.id}", 400)):
        query = "?max_rejects=5" if status == 400 else ""
        assert (await web.client.request(method, f"{BASE}/jobs/{named}{path}{query}")).status_code == status
    assert (await web.client.put(f"{BASE}/jobs/{job.id}{path}")).status_code == 405
    assert web.control.calls == []
