"""The tus protocol, request by request, over real sockets; what a request may not do is refused by name."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha1, sha256

import httpx
import pytest

from tests.acceptance.client import tracebacks, until
from tests.acceptance.inputs import Inputs
from tests.acceptance.tusclient import BYTES, FILES, VERSION, Tus, job_of, metadata
from tests.exposition import Exposition

TABLES = {"t": "a text, b int"}
DATASETS: dict[str, str] = {}

FILE = b"a,b\n" + b"".join(b"x%d,%d\n" % (n, n) for n in range(5000))


@pytest.fixture
def tus(inputs: Inputs) -> Iterator[Tus]:
    with Tus(inputs.client.url) as tus:
        yield tus


@pytest.fixture(autouse=True)
def _no_crash(inputs: Inputs) -> Iterator[None]:
    yield
    assert tracebacks(inputs.process) == []


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and code of a problem, and check the form that all problems have."""
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Tus-Resumable"] == "1.0.0"
    body = answer.json()
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert body["status"] == answer.status_code
    return answer.status_code, body["code"]


def loaded(inputs: Inputs, job_id: str) -> int:
    """Wait for a job that must be completed; returns its rows."""
    job = inputs.client.wait(job_id)
    assert job["status"] == "completed", job["error"]
    assert job["sha256"] is not None
    return int(job["processed_rows"])


def test_options_tell_what_is_supported(tus: Tus) -> None:
    """Without the version, as browsers ask."""
    answer = tus.request("OPTIONS", headers={})
    assert (answer.status_code, answer.headers["Tus-Version"]) == (204, "1.0.0")
    extensions = "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration"
    assert answer.headers["Tus-Extension"] == extensions
    assert answer.headers["Tus-Checksum-Algorithm"] == "sha1,sha256"
    assert int(answer.headers["Tus-Max-Size"]) == 100 << 30
    assert tus.request("OPTIONS", f"{FILES}/x", headers={}).headers["Allow"] == "DELETE, HEAD, OPTIONS, PATCH"


def test_a_file_in_three_requests(tus: Tus, inputs: Inputs) -> None:
    """The header says the job as soon as the file's header was accepted, then on every answer, HEAD too."""
    path = tus.create(len(FILE))
    assert "Ingest-Job" not in tus.head(path).headers
    first = tus.patch(path, 0, FILE[:3])
    assert (first.status_code, first.headers["Upload-Offset"], "Ingest-Job" in first.headers) == (204, "3", False)
    second = tus.patch(path, 3, FILE[3:20_001])
    assert (second.status_code, second.headers["Upload-Offset"]) == (204, "20001")
    receiving = inputs.client.job(job_of(second))
    assert (receiving["status"], receiving["bytes_received"], receiving["bytes_total"]) == (
        "receiving",
        20_001,
        len(FILE),
    )
    third = tus.patch(path, 20_001, FILE[20_001:])
    assert (third.status_code, int(third.headers["Upload-Offset"])) == (204, len(FILE))
    assert loaded(inputs, job_of(third)) == 5000
    assert inputs.client.job(job_of(third))["sha256"] == sha256(FILE).hexdigest()
    head = tus.head(path)
    assert (head.status_code, int(head.headers["Upload-Offset"]), int(head.headers["Upload-Length"])) == (
        200, len(FILE), len(FILE),
    )  # fmt: skip
    assert job_of(second) == job_of(third) == job_of(head)
    assert head.headers["Cache-Control"] == "no-store"


def test_head_gives_the_metadata_back(tus: Tus) -> None:
    sent = metadata(filename="a b.csv", dataset="public.t", priority="7")
    path = tus.request("POST", headers=VERSION | {"Upload-Length": "9"} | sent).headers["Location"]
    assert tus.head(path).headers["Upload-Metadata"] == sent["Upload-Metadata"]


def test_an_upload_that_is_not_complete_expires(tus: Tus) -> None:
    created = tus.request("POST", headers=VERSION | {"Upload-Length": "99"} | metadata(dataset="public.t"))
    patched = tus.patch(created.headers["Location"], 0, b"a,b\n")
    for answer in (created, patched, tus.head(created.headers["Location"])):
        left = parsedate_to_datetime(answer.headers["Upload-Expires"]) - datetime.now(UTC)
        assert timedelta(hours=23) < left <= timedelta(hours=24)


def test_creation_with_the_whole_file(tus: Tus, inputs: Inputs) -> None:
    headers = VERSION | BYTES | {"Upload-Length": str(len(FILE))} | metadata(filename="w.csv", dataset="public.t")
    answer = tus.request("POST", content=FILE, headers=headers)
    assert (answer.status_code, int(answer.headers["Upload-Offset"])) == (201, len(FILE))
    assert loaded(inputs, job_of(answer)) == 5000
    assert inputs.client.job(job_of(answer))["filename"] == "w.csv"


def test_creation_with_the_first_bytes(tus: Tus, inputs: Inputs) -> None:
    headers = VERSION | BYTES | {"Upload-Length": str(len(FILE))} | metadata(dataset="public.t")
    answer = tus.request("POST", content=FILE[:10_000], headers=headers)
    assert (answer.status_code, answer.headers["Upload-Offset"]) == (201, "10000")
    assert loaded(inputs, job_of(tus.patch(answer.headers["Location"], 10_000, FILE[10_000:]))) == 5000


def test_the_length_may_be_said_later(tus: Tus, inputs: Inputs) -> None:
    """Once, and not less than what has come."""
    path = tus.create(None)
    assert tus.patch(path, 0, FILE[:30_000]).status_code == 204
    head = tus.head(path)
    assert (head.headers["Upload-Defer-Length"], "Upload-Length" in head.headers) == ("1", False)
    assert refused(tus.patch(path, 30_000, b"", Upload_Length="29999")) == (400, "E_UPLOAD_LENGTH")
    assert refused(tus.patch(path, 30_000, b"", Upload_Length=str(1 << 40))) == (413, "E_TOO_LARGE")
    assert tus.patch(path, 30_000, FILE[30_000:40_000], Upload_Length=str(len(FILE))).status_code == 204
    assert refused(tus.patch(path, 40_000, b"", Upload_Length="50000")) == (400, "E_UPLOAD_LENGTH")
    last = tus.patch(path, 40_000, FILE[40_000:], Upload_Length=str(len(FILE)))
    assert loaded(inputs, job_of(last)) == 5000


def test_a_length_said_last_ends_the_file(tus: Tus, inputs: Inputs) -> None:
    path = tus.create(None)
    tus.patch(path, 0, FILE)
    assert loaded(inputs, job_of(tus.patch(path, len(FILE), b"", Upload_Length=str(len(FILE))))) == 5000


@pytest.mark.parametrize(("name", "make"), [("sha1", sha1), ("sha256", sha256)])
def test_bytes_with_a_wrong_checksum_are_dropped(
    tus: Tus, inputs: Inputs, name: str, make: Callable[..., object]
) -> None:
    def checksum(data: bytes) -> str:
        return f"{name} {b64encode(make(data).digest()).decode()}"  # type: ignore[attr-defined]

    path = tus.create(len(FILE))
    part = FILE[:30_000]
    assert tus.patch(path, 0, part, Upload_Checksum=checksum(part)).status_code == 204
    broken = FILE[30_000:].replace(b"x4999", b"y4999")
    assert refused(tus.patch(path, 30_000, broken, Upload_Checksum=checksum(FILE[30_000:]))) == (460, "E_CHECKSUM")
    assert tus.offset(path) == 30_000
    last = tus.patch(path, 30_000, FILE[30_000:], Upload_Checksum=checksum(FILE[30_000:]))
    assert last.status_code == 204
    assert loaded(inputs, job_of(last)) == 5000
    assert inputs.client.job(job_of(last))["sha256"] == sha256(FILE).hexdigest()


def test_a_longer_tail_that_was_dropped_is_not_in_the_file(tus: Tus, inputs: Inputs) -> None:
    """What lies in the spool beyond the acknowledged bytes is overwritten or cut off."""
    path = tus.create(None)
    tus.patch(path, 0, b"a,b\nx,1\n")
    wrong = f"sha1 {b64encode(bytes(20)).decode()}"
    assert refused(tus.patch(path, 8, b"junk,2\n" * 1000, Upload_Checksum=wrong)) == (460, "E_CHECKSUM")
    assert loaded(inputs, job_of(tus.patch(path, 8, b"y,2\n", Upload_Length="12"))) == 2


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, (412, "E_TUS_VERSION")),
        ({"Tus-Resumable": "0.2.2"}, (412, "E_TUS_VERSION")),
        (VERSION | metadata(dataset="public.t"), (400, "E_TUS_HEADER")),
        (VERSION | {"Upload-Length": "-1"}, (400, "E_TUS_HEADER")),
        (VERSION | {"Upload-Length": "5", "Upload-Metadata": "dataset !"}, (400, "E_TUS_HEADER")),
        (VERSION | {"Upload-Length": str(101 << 30)} | metadata(dataset="public.t"), (413, "E_TOO_LARGE")),
        (VERSION | {"Upload-Length": "5"}, (400, "E_OPTION")),
        (VERSION | {"Upload-Length": "5"} | metadata(dataset="public.nothing"), (404, "E_DATASET_UNKNOWN")),
        (VERSION | {"Upload-Length": "5"} | metadata(dataset="public.t", priority="10"), (400, "E_OPTION")),
        (VERSION | {"Upload-Length": "5"} | metadata(dataset="public.t", delimiter="a1"), (400, "E_OPTION")),
        (VERSION | {"Upload-Length": "5"} | metadata(dataset="public.t", shop="x"), (400, "E_OPTION")),
        (VERSION | {"Upload-Length": "5"} | metadata(dataset="public.t", escape="x"), (400, "E_OPTION")),
        (VERSION | {"Upload-Length": "0"} | metadata(dataset="public.t"), (422, "E_EMPTY")),
    ],
)  # fmt: skip
def test_creations_that_are_refused(tus: Tus, headers: dict[str, str], expected: tuple[int, str]) -> None:
    answer = tus.request("POST", headers=headers)
    assert refused(answer) == expected
    assert ("Tus-Version" in answer.headers) == (expected[0] == 412)


def test_bytes_of_another_media_type_are_refused(tus: Tus) -> None:
    headers = VERSION | {"Upload-Length": "5", "Content-Type": "text/csv"} | metadata(dataset="public.t")
    assert refused(tus.request("POST", content=b"a,b\n1", headers=headers)) == (415, "E_MEDIA_TYPE")
    path = tus.create(5)
    assert refused(tus.patch(path, 0, b"a,b\n1", Content_Type="text/csv")) == (415, "E_MEDIA_TYPE")
    assert refused(tus.patch(path, 0, b"a,b\n1", Content_Encoding="gzip")) == (415, "E_MEDIA_TYPE")
    assert tus.offset(path) == 0


def test_requests_that_do_not_fit_the_upload_are_refused(tus: Tus) -> None:
    """And change nothing."""
    path = tus.create(20)
    assert tus.patch(path, 0, b"a,b\n").status_code == 204
    for offset in (0, 3, 5, 20):
        answer = tus.patch(path, offset, b"1,2\n")
        assert refused(answer) == (409, "E_UPLOAD_OFFSET")
        assert answer.json()["offset"] == 4
    assert refused(tus.patch(path, 4, bytes(17))) == (413, "E_TOO_LARGE")
    assert refused(tus.request("PATCH", path, content=b"1", headers=VERSION | BYTES)) == (400, "E_TUS_HEADER")
    assert refused(tus.patch(path, 4, b"1", Upload_Checksum="md5 YQ==")) == (400, "E_TUS_HEADER")
    assert refused(tus.patch(path, 4, b"1", Tus_Resumable="2.0.0")) == (412, "E_TUS_VERSION")
    assert tus.head(path).headers["Upload-Offset"] == "4"
    assert refused(tus.request("PUT", path)) == (405, "E_METHOD")
    assert refused(tus.request("PATCH", FILES)) == (405, "E_METHOD")
    assert refused(tus.request("DELETE", f"{path}?x=1")) == (400, "E_OPTION")
    assert refused(tus.request("POST", path)) == (405, "E_METHOD")


def test_chunked_bytes_beyond_the_length_are_refused(tus: Tus) -> None:
    """At the byte that crosses, since nothing was announced."""
    path = tus.create(10)
    headers = list((VERSION | BYTES | {"Upload-Offset": "0"}).items())
    with httpx.Client(base_url=tus.url) as http:
        answer = http.patch(path, content=iter([b"a,b\n1,2\n", b"3,4\n5,6\n"]), headers=headers)
    assert refused(answer) == (413, "E_TOO_LARGE")
    assert tus.offset(path) <= 10


@pytest.mark.parametrize("name", ["x", "00000000-0000-0000-0000-000000000000", "a/b", "%00"])
def test_there_is_no_such_upload(tus: Tus, name: str) -> None:
    assert refused(tus.patch(f"{FILES}/{name}", 0, b"")) == (404, "E_NOT_FOUND")
    assert refused(tus.delete(f"{FILES}/{name}")) == (404, "E_NOT_FOUND")
    assert tus.head(f"{FILES}/{name}").status_code == 404


def test_a_header_that_does_not_fit_is_refused_by_the_request_that_completes_it(tus: Tus, inputs: Inputs) -> None:
    """And then for good: gone, saying why; nothing is stored, and there is no job."""
    path = tus.create(500_000, priority="1")
    assert tus.patch(path, 0, b"a,wr").status_code == 204
    answer = tus.patch(path, 4, b"ong\n" + b"1,2\n" * 20_000)
    assert refused(answer) == (422, "E_HEADER_MISMATCH")
    assert answer.json()["unknown"] == ["wrong"]
    again = tus.patch(path, 4, b"x")
    assert refused(again) == (410, "E_UPLOAD_ENDED")
    assert again.json()["reason"] == "E_HEADER_MISMATCH"
    assert tus.head(path).status_code == 410
    assert [job for job in inputs.client.jobs() if job["priority"] == 1] == []
    assert inputs.psql("select count(*) from ingest.uploads where state = 'failed' and received = 80008") == "1"


def test_a_fault_in_the_last_record_fails_the_job(tus: Tus, inputs: Inputs) -> None:
    data = b'a,b\n1,2\n3,"4\nx\ny\n'
    path = tus.create(len(data), priority="2")
    assert refused(tus.patch(path, 0, data)) == (422, "E_QUOTE_OPEN")
    (job,) = [job for job in inputs.client.jobs() if job["priority"] == 2]
    assert (job["status"], job["error"]["code"]) == ("failed", "E_QUOTE_OPEN")


def test_options_are_those_of_other_uploads(tus: Tus, inputs: Inputs) -> None:
    data = b"a;b\nNA;1\n'x;y';2\n"
    path = tus.create(len(data), delimiter=";", null="NA", quote="'", priority="8", mode="atomic", max_rejects="5%")
    job = inputs.client.wait(job_of(tus.patch(path, 0, data)))
    assert (job["status"], job["mode"], job["priority"], job["processed_rows"]) == ("completed", "atomic", 8, 2)
    assert "x;y" in inputs.psql("select a from t where b = 2 and a like '%;%'")
    corrected = tus.create(8, parent=job["id"])
    assert inputs.client.wait(job_of(tus.patch(corrected, 0, b"a,b\nx,1\n")))["parent_id"] == job["id"]


def test_options_may_be_in_the_query(tus: Tus, inputs: Inputs) -> None:
    """The metadata win, as form fields do."""
    headers = VERSION | BYTES | {"Upload-Length": "8"} | metadata(priority="3")
    answer = tus.request("POST", f"{FILES}?dataset=public.t&priority=4", content=b"a,b\nx,1\n", headers=headers)
    assert inputs.client.wait(job_of(answer))["priority"] == 3


def test_an_upload_can_be_given_up(tus: Tus, inputs: Inputs) -> None:
    path = tus.create(len(FILE))
    job_id = job_of(tus.patch(path, 0, FILE[:30_000]))
    assert list(inputs.objects.rglob(f"*{job_id}*"))
    assert tus.delete(path).status_code == 204
    job = inputs.client.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "E_UPLOAD_TERMINATED")
    assert list(inputs.objects.rglob(f"*{job_id}*")) == []
    assert inputs.psql(f"select count(*) from ingest.chunks where job_id = '{job_id}'") == "0"
    assert tus.head(path).status_code == 404
    assert refused(tus.delete(path)) == (404, "E_NOT_FOUND")


def test_an_upload_ends_with_its_job(tus: Tus, inputs: Inputs) -> None:
    """A job that was cancelled and deleted does not come back with the rest of its file."""
    path = tus.create(len(FILE))
    job_id = job_of(tus.patch(path, 0, FILE[:30_000]))
    job = f"{inputs.client.url}/api/v1/csv/jobs/{job_id}"
    assert httpx.post(f"{job}/cancel").status_code == 202
    assert httpx.delete(job).status_code == 204
    assert refused(tus.patch(path, 30_000, FILE[30_000:])) == (410, "E_UPLOAD_ENDED")
    assert tus.head(path).status_code == 410
    assert httpx.get(job).status_code == 404
    assert inputs.psql(f"select state from ingest.uploads where job_id = '{job_id}'") == "failed"


def test_a_complete_upload_can_be_forgotten(tus: Tus, inputs: Inputs) -> None:
    """Its job goes on."""
    path = tus.create(len(FILE))
    job_id = job_of(tus.patch(path, 0, FILE))
    assert tus.delete(path).status_code == 204
    assert loaded(inputs, job_id) == 5000
    assert tus.head(path).status_code == 404


def test_nothing_more_is_taken_for_a_complete_upload(tus: Tus, inputs: Inputs) -> None:
    path = tus.create(8)
    job_id = job_of(tus.patch(path, 0, b"a,b\nx,1\n"))
    assert refused(tus.patch(path, 0, b"a,b\nx,1\n")) == (409, "E_UPLOAD_OFFSET")
    assert refused(tus.patch(path, 8, b"y,2\n")) == (413, "E_TOO_LARGE")
    again = tus.patch(path, 8, b"")
    assert (again.status_code, job_of(again)) == (204, job_id)
    assert loaded(inputs, job_id) == 1


def test_a_client_without_patch_can_use_post(tus: Tus, inputs: Inputs) -> None:
    path = tus.create(8)
    override = {"X-HTTP-Method-Override": "PATCH", "Upload-Offset": "0"}
    answer = tus.request("POST", path, content=b"a,b\nx,1\n", headers=VERSION | BYTES | override)
    assert answer.status_code == 204
    assert loaded(inputs, job_of(answer)) == 1


def test_what_came_before_a_cut_counts(tus: Tus, inputs: Inputs) -> None:
    """Every byte that has arrived is acknowledged, so the client need not send it again."""
    path = tus.create(len(FILE))
    with tus.patching(path, 0, len(FILE)) as connection:
        connection.sendall(FILE[:33_333])
        connection.shutdown(socket.SHUT_WR)
        until(lambda: inputs.psql(f"select received from ingest.uploads where id = '{path.rsplit('/', 1)[1]}'") == "33333",
              "the bytes are acknowledged")  # fmt: skip
    assert tus.offset(path) == 33_333
    assert loaded(inputs, job_of(tus.patch(path, 33_333, FILE[33_333:]))) == 5000


def test_a_new_request_takes_over_from_a_hanging_one(tus: Tus, inputs: Inputs) -> None:
    """No 423: the old connection lies dead between client and server, its bytes count, and its request is told."""
    path, before = tus.create(len(FILE)), taken_bytes(inputs)
    with tus.patching(path, 0, len(FILE)) as hanging:
        hanging.sendall(FILE[:20_000])
        # HEAD would take over as well, perhaps before there is anything to take.
        until(lambda: taken_bytes(inputs) - before >= 20_000, "the service has taken the bytes")
        offset = tus.offset(path)
        assert offset == 20_000
        last = tus.patch(path, offset, FILE[offset:])
        assert last.status_code == 204, last.text
        hanging.settimeout(30)
        assert b"E_UPLOAD_TAKEN" in b"".join(iter(lambda: hanging.recv(65536), b""))
    assert loaded(inputs, job_of(last)) == 5000
    assert inputs.client.job(job_of(last))["sha256"] == sha256(FILE).hexdigest()


def taken_bytes(inputs: Inputs) -> float:
    """How many bytes of files the service has taken since its start."""
    found = Exposition(inputs.client.get("/metrics").raise_for_status().text)
    return found.value("ingest_upload_bytes_total")


def go_on(tus: Tus, path: str) -> httpx.Response:
    """Send the rest as clients do: told that others were there meanwhile, look again."""
    answer = tus.head(path)
    while answer.status_code in (200, 409, 423) and answer.headers.get("Upload-Offset") != str(len(FILE)):
        if offset := answer.headers.get("Upload-Offset"):
            answer = tus.patch(path, int(offset), FILE[int(offset) :])
        else:
            answer = tus.head(path)
    return answer


def test_many_requests_that_take_one_upload_from_another(tus: Tus, inputs: Inputs) -> None:
    """Whoever is last wins; the file is as it was sent."""
    path = tus.create(len(FILE))
    held = [tus.patching(path, 0, len(FILE)) for _ in range(8)]
    try:
        for connection in held:
            connection.sendall(FILE[:10_000])
        last = go_on(tus, path)
    finally:
        for connection in held:
            connection.close()
    assert last.status_code in (200, 204), last.text
    assert loaded(inputs, job_of(last)) == 5000
    assert inputs.client.job(job_of(last))["sha256"] == sha256(FILE).hexdigest()
