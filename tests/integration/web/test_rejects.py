"""The routes over rejects: filters and cursors, the summary, the streamed file, the retry."""

from __future__ import annotations

import itertools
from uuid import UUID

import httpx
import pytest
import trio
import trio.testing

from ingest.errors import UnavailableError
from ingest.job import JobView
from ingest.rejects import RejectFilter

from .conftest import Web
from .fakes import job_view

BASE = "/api/v1/csv"
PIECE = b"x" * 65_536
MB = 1_000_000


@pytest.fixture
def job(web: Web) -> JobView:
    """A job with rejects."""
    view = job_view(filename="sales 2024 § é.csv", failed_rows=7, resolved_rows=2)
    web.jobs.views = [view]
    return view


async def test_every_filter_is_passed_on_and_kept_in_the_next_link(web: Web, job: JobView) -> None:
    """The cursor comes back as it was given out."""
    web.rejects.after = (12, 34)
    query = "code=E_TYPE&column=a%26b&line=9&resolved=false&limit=3"
    body = (await web.client.get(f"{BASE}/jobs/{job.id}/rejects?{query}")).json()
    assert web.rejects.asked["wanted"] == RejectFilter(code="E_TYPE", column="a&b", line=9, resolved=False)
    assert (body["rejected"], body["stored"], body["total"]) == (7, 0, 0)
    web.rejects.after = None
    body = (await web.client.get(body["next"])).json()
    assert body["next"] is None
    assert web.rejects.asked == {
        "job_id": job.id, "wanted": RejectFilter(code="E_TYPE", column="a&b", line=9, resolved=False), "limit": 3,
        "page": 1, "after": (12, 34),
    }  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["after=", "after=x", "after=%C3%A9", "after=MTIsMzQ", "after=MTIs", "after=LTEsMQ==", "line=0", "line=x", "line=-1",
     "resolved=", "resolved=yes", "page=2&after=MTIsMzQ=", "line=9999999999999999999", "sort=line"],
)  # fmt: skip
async def test_a_wrong_filter_is_400(web: Web, job: JobView, query: str) -> None:
    """And names its option."""
    response = await web.client.get(f"{BASE}/jobs/{job.id}/rejects?{query}")
    assert (response.status_code, response.json()["code"]) == (400, "E_OPTION")
    assert response.json()["option"] in query


async def test_the_summary(web: Web, job: JobView) -> None:
    """Counts all rejected records, and the stored ones apart."""
    assert (await web.client.get(f"{BASE}/jobs/{job.id}/rejects/summary")).json() == {
        "total": 7, "resolved": 2, "stored": 1, "groups": [{"column": "a", "code": "E_TYPE", "count": 1}]
    }  # fmt: skip


async def test_the_file_is_sent_as_it_comes(web: Web, job: JobView) -> None:
    """As an attachment whose name is harmless in every client; unresolved records unless others are asked for."""
    web.rejects.pieces = (b"a,_line\n", b"1,2\n", b"3,4\n")
    response = await web.client.get(f"{BASE}/jobs/{job.id}/rejects.csv")
    assert (response.status_code, response.content) == (200, b"a,_line\n1,2\n3,4\n")
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == (
        "attachment; filename=\"sales_2024_.rejects.csv\"; filename*=UTF-8''sales%202024%20%C2%A7%20%C3%A9.rejects.csv"
    )
    assert web.rejects.asked["resolved"] is False
    for word, value in (("true", True), ("all", None), ("false", False)):
        await web.client.get(f"{BASE}/jobs/{job.id}/rejects.csv?resolved={word}")
        assert web.rejects.asked["resolved"] is value
    assert (await web.client.get(f"{BASE}/jobs/{job.id}/rejects.csv?limit=1")).status_code == 400


@pytest.mark.parametrize("name", ['a".csv', "a\r\nX: y.csv", "..", "", "'; rm.csv", "ü.csv"])
async def test_a_file_name_cannot_break_the_header(web: Web, name: str) -> None:
    """Whatever the client called its file."""
    web.jobs.views = [job_view(filename=name)]
    response = await web.client.get(f"{BASE}/jobs/{web.jobs.views[0].id}/rejects.csv")
    disposition = response.headers["content-disposition"]
    assert disposition.count('"') == 2
    assert disposition.isascii()
    assert "x" not in {header.lower() for header in response.headers}


async def test_head_takes_no_more_than_the_first_piece(web: Web, job: JobView) -> None:
    """There may be many."""
    web.rejects.pieces = itertools.repeat(PIECE)
    response = await web.client.head(f"{BASE}/jobs/{job.id}/rejects.csv")
    assert (response.status_code, response.content, web.rejects.taken) == (200, b"", 1)


async def test_a_client_that_leaves_ends_the_file(web: Web, job: JobView) -> None:
    """At once: a stop that follows has nothing to wait for."""
    web.rejects.pieces = itertools.repeat(PIECE)
    async with await web.connect() as stream:
        await stream.send_all(f"GET {BASE}/jobs/{job.id}/rejects.csv HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = 0
        while received < 5 * MB:
            received += len(await stream.receive_some(1 << 20))
    web.shutdown.set()
    with trio.fail_after(2):
        await web.stopped.wait()


async def test_a_client_that_does_not_read_gets_no_more_than_buffers_hold(web: Web, job: JobView) -> None:
    """Back-pressure reaches the database; then the rest follows."""
    web.rejects.pieces = itertools.repeat(PIECE, 1000)
    stream = await web.connect()
    async with stream:
        await stream.send_all(f"GET {BASE}/jobs/{job.id}/rejects.csv HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await trio.testing.wait_all_tasks_blocked(0.2)
        assert web.rejects.taken * len(PIECE) < 20 * MB
        received = 0
        with trio.fail_after(20):
            while received < 1000 * len(PIECE):
                received += len(await stream.receive_some(1 << 20))
    assert web.rejects.taken == 1000


async def test_without_a_database_the_file_is_a_problem(web: Web, job: JobView) -> None:
    """Not an empty file."""
    web.rejects.failure = UnavailableError("the database does not answer")
    response = await web.client.get(f"{BASE}/jobs/{job.id}/rejects.csv")
    assert (response.status_code, response.json()["code"]) == (503, "E_DATABASE_UNAVAILABLE")


async def test_a_file_that_breaks_off_is_no_whole_answer(
    web: Web, job: JobView, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The client sees that the rest is missing, the service serves on, and its log has a line and no traceback."""

    def pieces() -> itertools.chain[bytes]:
        yield b"a,_line\n"
        web.rejects.failure = UnavailableError("gone")
        yield b"1,2\n"

    web.rejects.pieces = pieces()
    with pytest.raises(httpx.RemoteProtocolError):
        await web.client.get(f"{BASE}/jobs/{job.id}/rejects.csv")
    log = capsys.readouterr().out
    assert "answer_broke_off" in log
    assert "Traceback" not in log + caplog.text
    assert (await web.client.get(f"{BASE}/jobs/{job.id}")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", f"{UUID(int=1)}/rejects", 405),
    ],
)
async def test_what_else_can_be_asked(web: Web, method: str, path: str, status: int) -> None:
    """Is refused as everywhere."""
    assert (await web.client.request(method, f"{BASE}/jobs/{path}")).status_code == status
