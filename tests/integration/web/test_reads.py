"""What holds for every read: validators, HEAD, OPTIONS and the methods that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from .conftest import Web
from .fakes import job_view

BASE = "/api/v1/csv"
JOB_READS = ("", "/progress", "/chunks", "/rejects", "/rejects/summary")
READS = ("/jobs", *(f"/jobs/{{id}}{name}" for name in JOB_READS), "/datasets", "/datasets/public.t", "/stats")


@pytest.mark.parametrize("read", READS)
async def test_a_read_has_a_validator(web: Web, read: str) -> None:
    """Who has the answer already gets 304 without it, by GET and HEAD, however the tag was sent along."""
    view = job_view()
    web.jobs.views = [view]
    path = BASE + read.format(id=view.id)
    first = await web.client.get(path)
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        for method in ("GET", "HEAD"):
            again = await web.client.request(method, path, headers={"If-None-Match": given})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
            assert "content-type" not in again.headers
    other = await web.client.get(path, headers={"If-None-Match": '"x"'})
    assert (other.status_code, other.content) == (200, first.content)


async def test_the_tag_changes_with_the_job(web: Web) -> None:
    """And only with it."""
    view = job_view()
    web.jobs.views = [view]
    path = f"{BASE}/jobs/{view.id}"
    tags = [(await web.client.get(path)).headers["etag"] for _ in range(2)]
    web.jobs.views = [replace(view, progress=0.5)]
    changed = await web.client.get(path, headers={"If-None-Match": tags[0]})
    assert tags[0] == tags[1] != changed.headers["etag"]
    assert (changed.status_code, changed.json()["progress"]) == (200, 0.5)


@pytest.mark.parametrize("path", ["/health", f"{BASE}/jobs/x", f"{BASE}/jobs?x=1", f"{BASE}/nowhere"])
async def test_what_is_no_read_of_data_is_not_kept(web: Web, path: str) -> None:
    """Neither health nor problems."""
    answer = await web.client.get(path, headers={"If-None-Match": "*"})
    assert answer.status_code != 304
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("read", [*READS, "/jobs/{id}/rejects.csv"])
async def test_head_is_get_without_the_body(web: Web, read: str) -> None:
    """All headers are the same."""
    view = job_view()
    web.jobs.views = [view]
    path = BASE + read.format(id=view.id)
    head, get = await web.client.head(path), await web.client.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    names = {"content-type", "content-length", "etag", "cache-control", "content-disposition", "x-content-type-options"}
    assert {name: head.headers.get(name) for name in names} == {name: get.headers.get(name) for name in names}


@pytest.mark.parametrize("read", [*READS, "/jobs/{id}/rejects.csv"])
async def test_options_and_other_methods(web: Web, read: str) -> None:
    """OPTIONS says what there is, for jobs that are not there too; 405 says the same."""
    path = BASE + read.format(id=job_view().id)
    choice = await web.client.options(path)
    assert (choice.status_code, choice.content) == (200, b"")
    allowed = {name.strip() for name in choice.headers["allow"].split(",")}
    assert allowed >= {"GET", "HEAD", "OPTIONS"}
    for method in {"POST", "PUT", "PATCH", "DELETE"} - allowed:
        answer = await web.client.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (405, "E_METHOD")
        assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
