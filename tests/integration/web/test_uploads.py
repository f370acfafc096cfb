"""Files arrive whole, with back-pressure, and a refusal can be read by the client that is still sending."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from ingest.errors import UnavailableError
from ingest.web import answering

from .conftest import MAX_UPLOAD_BYTES, Web, curl
from .fakes import FakeUpload

CSV = b"a,b\n" + b"1,2\n" * 50_000
PUT = b"PUT /api/v1/csv/upload/f.csv?dataset=t HTTP/1.1\r\nHost: a\r\n"


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    """Yield data in pieces, which makes httpx send it chunked."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """A file of 200 kB."""
    path = tmp_path / "flights 2026.csv"
    path.write_bytes(CSV)
    return path


def big(path: Path, size: int) -> Path:
    """Make a file of that many zero bytes."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


# raw


async def test_curl_sends_a_file(web: Web, csv_file: Path) -> None:
    """curl -T gets 202, the job and its Location; the bytes are the file's."""
    code, body, head = await curl("-T", str(csv_file), f"{web.upload_url}/f.csv?dataset=public.t")
    job = json.loads(body)
    assert code == 0
    assert "HTTP/1.1 202" in head
    assert f"location: /api/v1/csv/jobs/{job['id']}" in head.lower()
    assert job["sha256"] == hashlib.sha256(CSV).hexdigest()
    assert job["created_at"] == "2026-01-02T03:04:05Z"
    assert job["links"]["rejects"] == f"/api/v1/csv/jobs/{job['id']}/rejects"
    assert (job["dataset"], job["filename"], job["status"]) == ("public.t", "f.csv", "pending")


async def test_options_reach_the_upload(web: Web) -> None:
    """Query parameters and Content-Length become the upload's options."""
    query = "dataset=public.t&delimiter=%3B&quote='&null=NA&priority=9&load=after_upload&mode=batches"
    response = await web.client.put(f"/api/v1/csv/upload/a%20b.csv?{query}", content=CSV)
    assert response.status_code == 202
    (upload,) = web.receiving.uploads
    assert upload.options.filename == "a b.csv"
    assert upload.options.dialect.to_json() == {"delimiter": ";", "quote": "'", "null": "NA"}
    assert (upload.options.priority, upload.options.bytes_total) == (9, len(CSV))


@pytest.mark.parametrize("size", [1, 7, 4096, 65536, 1 << 20])
async def test_a_chunked_body_arrives_whole(web: Web, size: int) -> None:
    """However it is cut."""
    data = CSV[: size * 3000]
    response = await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=pieces(data, size))
    assert response.json()["sha256"] == hashlib.sha256(data).hexdigest()
    assert web.receiving.uploads[0].options.bytes_total is None


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("f.csv", 400, "E_OPTION"),
        ("f.csv?dataset=", 400, "E_OPTION"),
        ("f.csv?dataset=t&encodign=x", 400, "E_OPTION"),
        ("f.csv?dataset=t&encoding=latin-99", 400, "E_OPTION"),
        ("f.csv?dataset=t&load=later", 400, "E_OPTION"),
        ("f.csv?dataset=t&load=while_uploading&mode=atomic", 400, "E_OPTION"),
        ("f.csv?dataset=t&load=while_uploading&on_duplicate=refuse", 400, "E_OPTION"),
        ("f.csv?dataset=t&on_duplicate=maybe", 400, "E_OPTION"),
        ("f.csv?dataset=t&priority=10", 400, "E_OPTION"),
        ("f.csv?dataset=t&delimiter=ab", 400, "E_OPTION"),
        ("f.csv?dataset=%00", 400, "E_OPTION"),
        ("f.csv?dataset=%ff", 400, "E_OPTION"),
        ("?dataset=t", 400, "E_FILENAME"),
        ("f.csv?dataset=nowhere", 404, "E_DATASET_UNKNOWN"),
    ],
)
async def test_a_refused_request_is_a_problem(web: Web, path: str, status: int, code: str) -> None:
    """With the status of its code, and all of RFC 9457's members."""
    response = await web.client.put(f"/api/v1/csv/upload/{path}", content=CSV)
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"/docs/problems#{code}"
    assert problem["title"]
    assert problem["detail"]
    assert not any(upload.finished for upload in web.receiving.uploads)


async def test_an_unknown_option_is_named_with_those_that_exist(web: Web) -> None:
    """So that a typing error explains itself."""
    problem = (await web.client.put("/api/v1/csv/upload/f.csv?dataset=t&delimeter=;", content=b"")).json()
    assert problem["option"] == "delimeter"
    assert "delimiter" in problem["allowed"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Content-Encoding: br", 415),
        ("Content-Encoding: gzip, zstd", 415),
        ("Idempotency-Key: two words", 400),
        ('Idempotency-Key: ""', 400),
        ("Repr-Digest: x", 400),
        ("Content-Digest: sha-256=:AAAA:", 400),
        ("Trailer: Repr-Digest", 400),
    ],
)
async def test_a_promise_that_cannot_be_kept_is_refused(web: Web, header: str, status: int) -> None:
    """A header that asks for more than this version does is not ignored."""
    name, _, value = header.partition(": ")
    response = await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=CSV, headers={name: value})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "", "POST"), ("PUT", "", "POST"), ("POST", "/f.csv", "PUT"), ("DELETE", "/f.csv", "PUT")],
)
async def test_another_method_is_not_allowed(web: Web, method: str, path: str, allowed: str) -> None:
    """And the answer says which is."""
    response = await web.client.request(method, f"/api/v1/csv/upload{path}")
    assert (response.status_code, response.headers["allow"]) == (405, f"OPTIONS, {allowed}")


async def test_an_upload_while_draining_is_told_to_come_back(web: Web) -> None:
    """503 with Retry-After."""
    web.draining.set()
    response = await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=CSV)
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["code"] == "E_DRAINING"


async def test_a_database_that_is_away_is_503(web: Web) -> None:
    """Whatever layer finds it out."""

    async def fail(data: bytes) -> None:
        raise UnavailableError("the database does not answer")

    web.receiving.on_feed = fail
    response = await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=CSV)
    assert (response.status_code, response.json()["code"]) == (503, "E_DATABASE_UNAVAILABLE")
    assert "retry-after" in response.headers


async def test_a_bug_costs_its_request_only(web: Web) -> None:
    """500 without a word of the exception, and the next upload works."""

    async def crash(data: bytes) -> None:
        raise KeyError("secret")

    web.receiving.on_feed = crash
    response = await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=CSV)
    assert (response.status_code, response.json()["code"]) == (500, "E_INTERNAL")
    assert "secret" not in response.text
    web.receiving.on_feed = web.receiving._note
    assert (await web.client.put("/api/v1/csv/upload/f.csv?dataset=t", content=CSV)).status_code == 202


# limits and early answers


async def test_curl_can_read_an_early_413(web: Web, tmp_path: Path) -> None:
    """A declared length over the limit is refused before the body, and curl shows the problem."""
    path = big(tmp_path / "big.csv", MAX_UPLOAD_BYTES * 16)
    code, body, head = await curl("-T", str(path), f"{web.upload_url}/big.csv?dataset=t")
    assert "HTTP/1.1 413" in head
    assert "connection: close" in head.lower()
    assert json.loads(body)["max_bytes"] == MAX_UPLOAD_BYTES
    assert code == 0
    assert web.receiving.uploads == []


async def test_curl_can_read_a_422_while_it_sends(web: Web, tmp_path: Path) -> None:
    """A wrong header is refused as soon as it is seen; curl is in the middle of sending."""
    path = tmp_path / "wrong.csv"
    path.write_bytes(b"wrong\n" + b"x" * (MAX_UPLOAD_BYTES - 100))
    _, body, head = await curl("-T", str(path), f"{web.upload_url}/f.csv?dataset=t")
    assert "HTTP/1.1 422" in head
    assert json.loads(body)["missing"] == ["a"]
    assert web.receiving.uploads[0].size < MAX_UPLOAD_BYTES / 2


async def test_httpx_can_read_an_early_answer(web: Web) -> None:
    """Also a client that reads nothing before it has sent everything; and it can go on with another request."""
    for _ in range(3):
        response = await web.client.put(
            "/api/v1/csv/upload/f.csv?dataset=t", content=pieces(b"wrong" * 2_000_000, 1 << 16)
        )
        assert response.status_code == 422


async def test_the_byte_that_crosses_the_limit_is_413(web: Web) -> None:
    """A chunked body has no length to refuse; exactly the limit is allowed."""
    for extra, status in ((0, 202), (1, 413)):
        response = await web.client.put(
            "/api/v1/csv/upload/f.csv?dataset=t", content=pieces(b"x" * (MAX_UPLOAD_BYTES + extra), 1 << 20)
        )
        assert response.status_code == status
    assert web.receiving.uploads[-1].aborted_with is not None


async def test_a_client_that_sends_everything_first_can_read_413(web: Web) -> None:
    """Far beyond the limit: what follows it is read and dropped, so the connection is not reset."""
    async with await web.connect() as stream:
        await stream.send_all(PUT + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
        for _ in range(40):
            await stream.send_all(chunk)
        await stream.send_all(b"0\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 413 ")


async def test_what_is_read_after_an_early_answer_is_bounded(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never stops sending is cut."""
    monkeypatch.setattr(answering, "DRAIN_BYTES", 1 << 20)
    async with await web.connect() as stream:
        await stream.send_all(b"PUT /api/v1/csv/upload/f.csv HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n" % (1 << 20) + b"x" * (1 << 20) + b"\r\n"
        with trio.fail_after(10), pytest.raises(trio.BrokenResourceError):
            await stream.send_all(chunk * 64)


async def test_a_client_that_stalls_after_an_early_answer_is_cut(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sending nor closing does not hold the connection."""
    monkeypatch.setattr(answering, "DRAIN_S", 0.1)
    async with await web.connect() as stream:
        await stream.send_all(b"PUT /api/v1/csv/upload/f.csv HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\nx")
        answer = b""
        with trio.fail_after(5):
            async for piece in stream:
                answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")


async def test_silence_is_408(web: Web) -> None:
    """After upload_idle_s without a byte; the upload is aborted."""
    async with await web.connect() as stream:
        await stream.send_all(PUT + b"Content-Length: 100\r\n\r\na,b\n")
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 408 ")
    assert getattr(web.receiving.uploads[0].aborted_with, "code", None) == "E_TIMEOUT"


# a client that leaves


@pytest.mark.parametrize("length", [b"Content-Length: 1000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n4\r\n"])
async def test_a_client_that_leaves_aborts_the_upload(web: Web, length: bytes) -> None:
    """A body shorter than promised is never taken for a whole one."""
    stream = await web.connect()
    await stream.send_all(PUT + length + b"a,b\n")
    with trio.fail_after(5):
        await web.receiving.fed.wait()
        await stream.aclose()
        await web.receiving.aborted.wait()
    (upload,) = web.receiving.uploads
    assert getattr(upload.aborted_with, "code", None) == "E_UPLOAD_INCOMPLETE"
    assert not upload.finished


async def test_a_killed_curl_aborts_the_upload(web: Web, tmp_path: Path) -> None:
    """In the middle of a body, while the sink is busy."""
    path = big(tmp_path / "f.csv", MAX_UPLOAD_BYTES)
    gate = trio.Event()

    async def wait(data: bytes) -> None:
        web.receiving.fed.set()
        await gate.wait()

    web.receiving.on_feed = wait
    async with trio.open_nursery() as nursery:
        url = f"{web.upload_url}/f.csv?dataset=t"
        run = partial(trio.run_process, ["curl", "-sS", "-T", str(path), url], check=False, capture_stderr=True)
        process: Any = await nursery.start(run)
        with trio.fail_after(5):
            await web.receiving.fed.wait()
            process.kill()
            await process.wait()
            gate.set()
            await web.receiving.aborted.wait()


async def test_stopping_the_server_aborts_what_cannot_finish(web: Web) -> None:
    """Cancellation reaches the upload, which can then remove what it stored."""
    stream = await web.connect()
    await stream.send_all(PUT + b"Content-Length: 1000\r\n\r\na,b\n")
    await web.receiving.fed.wait()
    web.shutdown.set()
    with trio.fail_after(6):  # the grace is 5 s; silence ends it earlier here
        await web.receiving.aborted.wait()
    await stream.aclose()


async def test_nothing_is_read_ahead_of_a_slow_sink(web: Web) -> None:
    """While the sink is busy the sender is stopped by TCP, a few MiB into its body."""
    gate = trio.Event()

    async def wait(data: bytes) -> None:
        await gate.wait()

    web.receiving.on_feed = wait
    sent = 0
    async with await web.connect() as stream:
        await stream.send_all(PUT + b"Content-Length: %d\r\n\r\n" % MAX_UPLOAD_BYTES)
        with trio.move_on_after(1) as stuck:
            while sent < MAX_UPLOAD_BYTES:
                await stream.send_all(b"x" * 65536)
                sent += 65536
        gate.set()
    assert stuck.cancelled_caught
    assert sent < MAX_UPLOAD_BYTES


# multipart


async def post(web: Web, files: list[tuple[str, Any]], query: str = "?dataset=t", **more: Any) -> httpx.Response:
    """Post a form as httpx makes it."""
    return await web.client.post(f"/api/v1/csv/upload{query}", files=files, **more)


async def test_every_file_of_a_form_is_a_job(web: Web) -> None:
    """In part order, each with its own name and bytes."""
    contents = [CSV, b"x\r\n" * 10, b"one"]
    response = await post(web, [("file", (f"{n}.csv", data)) for n, data in enumerate(contents)])
    jobs = response.json()["jobs"]
    assert response.status_code == 202
    assert [job["filename"] for job in jobs] == ["0.csv", "1.csv", "2.csv"]
    assert [job["sha256"] for job in jobs] == [hashlib.sha256(data).hexdigest() for data in contents]


async def test_a_refused_file_does_not_spoil_the_others(web: Web) -> None:
    """Its entry is a problem; the rest of it is skipped."""
    response = await post(
        web, [("f", ("a.csv", CSV)), ("f", ("b.csv", b"wrong\n" + CSV)), ("f", ("c.csv", b"")), ("f", ("d.csv", CSV))]
    )
    first, wrong, empty, last = response.json()["jobs"]
    assert response.status_code == 202
    assert (wrong["code"], wrong["status"], wrong["missing"]) == ("E_HEADER_MISMATCH", 422, ["a"])
    assert empty["code"] == "E_EMPTY"
    assert first["sha256"] == last["sha256"] == hashlib.sha256(CSV).hexdigest()


async def test_curl_posts_a_form_with_fields(web: Web, csv_file: Path) -> None:
    """Fields before a file are its options, and win over the query."""
    code, body, head = await curl(
        "-F", "dataset=b", "-F", "delimiter=tab", "-F", f"file=@{csv_file}", "-F", "dataset=c",
        "-F", f"file=@{csv_file};filename=../../etc/x.csv", f"{web.upload_url}?dataset=a",
    )  # fmt: skip
    assert code == 0
    assert "HTTP/1.1 202" in head
    assert [job["dataset"] for job in json.loads(body)["jobs"]] == ["b", "c"]
    assert [upload.options.dialect.delimiter for upload in web.receiving.uploads] == ["\t", "\t"]
    assert [upload.options.filename for upload in web.receiving.uploads] == ["flights 2026.csv", "x.csv"]


@pytest.mark.parametrize(
    ("files", "query", "fields", "code"),
    [
        ([("f", ("a.csv", b"a"))], "", {}, "E_OPTION"),
        ([("f", ("a.csv", b"a"))], "?dataset=t", {"colour": "red"}, "E_OPTION"),
        ([("f", ("a.csv", b"a"))], "?dataset=t&colour=red", {}, "E_OPTION"),
        ([("f", ("a.csv", b"a"))], "?dataset=t", {"mode": "x" * 9000}, "E_MULTIPART"),
        ([("dataset", (None, b"t"))], "", {}, "E_MULTIPART"),
    ],
)
async def test_a_wrong_form_is_refused_whole(
    web: Web, files: list[tuple[str, Any]], query: str, fields: dict[str, str], code: str
) -> None:
    """Its options are the request's, not one file's."""
    response = await post(web, files, query, data=fields)
    assert (response.status_code, response.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("content_type", "status", "code"),
    [
        ("text/csv", 415, "E_MEDIA_TYPE"),
        ("multipart/form-data", 400, "E_MULTIPART"),
        ("multipart/form-data; boundary=" + "b" * 71, 400, "E_MULTIPART"),
        ("multipart/form-data; boundary=b", 400, "E_MULTIPART"),
    ],
)
async def test_what_is_no_form_is_refused(web: Web, content_type: str, status: int, code: str) -> None:
    """With a code that says what is wrong with it."""
    response = await web.client.post(
        "/api/v1/csv/upload?dataset=t", content=b"a,b\n1,2\n", headers={"Content-Type": content_type}
    )
    assert (response.status_code, response.json()["code"]) == (status, code)


async def test_a_form_cut_off_names_the_jobs_it_made(web: Web) -> None:
    """The files before the cut are in, and the client learns their jobs; the cut one is aborted."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="%d.csv"\r\n\r\na,b\n'
    response = await web.client.post(
        "/api/v1/csv/upload?dataset=t",
        content=part % 1 + b"\r\n" + part % 2,
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "E_MULTIPART")
    assert [job["filename"] for job in problem["jobs"]] == ["1.csv"]
    first, second = web.receiving.uploads
    assert (first.finished, second.finished) == (True, False)


async def test_the_limit_holds_for_the_whole_form(web: Web) -> None:
    """Skipped parts count too."""
    half = b"wrong" + b"x" * (MAX_UPLOAD_BYTES // 2)
    response = await post(web, [("f", ("a.csv", half)), ("f", ("b.csv", half))])
    assert response.status_code == 413


async def test_a_client_that_leaves_a_form_aborts_its_file(web: Web) -> None:
    """As with a raw body."""
    stream = await web.connect()
    await stream.send_all(
        b"POST /api/v1/csv/upload?dataset=t HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.csv"\r\n\r\na,b\n1,2\n'
    )
    with trio.fail_after(5):
        await web.receiving.fed.wait()
        await stream.aclose()
        await web.receiving.aborted.wait()
    (upload,) = web.receiving.uploads
    assert isinstance(upload, FakeUpload)
    assert not upload.finished
