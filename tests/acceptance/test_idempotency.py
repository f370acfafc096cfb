"""Idempotency-Key, digests and duplicates over real sockets: one job for a request, however often and whenever it is sent."""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.client import BASE, at_once, until
from tests.acceptance.conftest import SMALL
from tests.acceptance.running import Running, Slow, rows, running, the_job

CSV = b"id,name\n" + rows(1000)
OTHER = b"id,name\n" + rows(1000, first=2001)


@pytest.fixture(scope="module")
def service(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(shared_dsn, tmp_path_factory.mktemp("keys"), **SMALL) as running_service:
        yield running_service


def new_key() -> dict[str, str]:
    """Return the header of a key nobody has used."""
    return {"Idempotency-Key": f'"{uuid4()}"'}


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of a problem."""
    return answer.status_code, answer.json()["code"]


def form(service: Running, dataset: str, key: dict[str, str], *files: bytes, **options: str) -> httpx.Response:
    """Send files as a form."""
    parts = [("file", (f"f{number}.csv", content)) for number, content in enumerate(files)]
    return service.http.post(f"{BASE}/upload", params={"dataset": dataset, **options}, files=parts, headers=key)


def sha256(content: bytes) -> str:
    """Return a digest as the header has it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def test_the_same_request_is_the_same_job(service: Running) -> None:
    """With 200, at any time: while it waits, is loaded, and has ended. The key may come bare."""
    dataset, key = service.table(), new_key()
    first = service.put(CSV, dataset, headers=key)
    assert first.status_code == 202
    bare = {"Idempotency-Key": key["Idempotency-Key"].strip('"')}
    for headers in (key, key, bare):
        again = service.put(CSV, dataset, headers=headers)
        assert (again.status_code, again.json()["id"]) == (200, first.json()["id"])
        assert again.headers["location"] == first.headers["location"]
    service.wait(first)
    assert service.put(CSV, dataset, headers=key).json()["status"] == "completed"
    assert (service.count(dataset), len(service.client.jobs(dataset=dataset))) == (1000, 1)


@pytest.mark.parametrize("other", ["body", "longer", "option", "name", "dataset", "coding"])
def test_another_request_with_the_key_is_refused(service: Running, other: str) -> None:
    """Whatever differs; nothing of it is stored, and the key keeps its job."""
    dataset, key = service.table(), new_key()
    first = service.wait(service.put(CSV, dataset, headers=key))
    body = {"body": OTHER, "longer": CSV + b"5,x\n", "coding": gzip.compress(CSV)}.get(other, CSV)
    answer = service.put(
        body,
        service.table() if other == "dataset" else dataset,
        name="g.csv" if other == "name" else "f.csv",
        headers=key | ({"Content-Encoding": "gzip"} if other == "coding" else {}),
        **({"priority": "7"} if other == "option" else {}),
    )
    assert refusal(answer) == (409, "E_KEY_REUSED")
    assert service.put(CSV, dataset, headers=key).json()["id"] == first["id"]
    assert service.count(dataset) == 1000


def test_requests_with_one_key_at_the_same_moment_make_one_job(service: Running) -> None:
    """The others hear that it is busy, or get its job."""
    dataset, key = service.table(), new_key()
    answers = at_once([lambda: service.put(CSV, dataset, headers=key)] * 12)
    assert sorted({answer.status_code for answer in answers} - {200, 409}) == [202]
    assert sum(answer.status_code == 202 for answer in answers) == 1
    for answer in answers:
        if answer.status_code == 409:
            assert answer.json()["code"] == "E_KEY_BUSY"
            assert int(answer.headers["retry-after"]) > 0
    job = service.wait(service.put(CSV, dataset, headers=key))
    assert {answer.json()["id"] for answer in answers if answer.is_success} == {job["id"]}
    assert (service.count(dataset), len(service.client.jobs(dataset=dataset))) == (1000, 1)


def test_a_request_that_is_being_received_is_busy(service: Running) -> None:
    """Then its job is there."""
    dataset, key = service.table(), new_key()
    field = f"Idempotency-Key: {key['Idempotency-Key']}\r\n"
    with Slow(service.process, dataset, fields=field) as upload:
        upload.send(CSV * 5)
        until(lambda: service.count("ingest.request_keys where holder is not null") > 0, "the key is held")
        assert refusal(service.put(CSV, dataset, headers=key)) == (409, "E_KEY_BUSY")
        upload.send(b"")


def test_a_key_whose_upload_broke_may_be_used_again(service: Running) -> None:
    """For the same request or another; also after a refusal."""
    dataset, key = service.table(), new_key()
    field = f"Idempotency-Key: {key['Idempotency-Key']}\r\n"
    with Slow(service.process, dataset, fields=field) as upload:
        upload.send(b"id,name\n" + rows(100_000))
        the_job(service, dataset)
    until(lambda: service.count("ingest.request_keys where holder is not null") == 0, "the key is let go")
    assert refusal(service.put(b"x,y\n1,2\n", dataset, headers=key)) == (422, "E_HEADER_MISMATCH")
    assert refusal(service.put(CSV, "public.nowhere", headers=key)) == (404, "E_DATASET_UNKNOWN")
    answer = service.put(OTHER, dataset, name="g.csv", headers=key)
    assert answer.status_code == 202
    service.wait(answer)
    assert service.count(dataset) == 1000


def test_kill_9_of_the_service_that_was_receiving(service: Running, shared_dsn: str, tmp_path: Path) -> None:
    """Once its silence is noticed, the request can be sent again; what the dead one had begun never counts."""
    dataset, key = service.table(), new_key()
    field = f"Idempotency-Key: {key['Idempotency-Key']}\r\n"
    with running(shared_dsn, tmp_path, "api", **SMALL) as receiver:
        with Slow(receiver.process, dataset, fields=field) as upload:
            upload.send(b"id,name\n" + rows(100_000))
            dead = the_job(service, dataset)
            receiver.process.kill()
    assert refusal(service.put(CSV, dataset, headers=key)) == (409, "E_KEY_BUSY")
    service.psql("update ingest.request_keys set renewed_at = renewed_at - interval '1 minute'")
    answer = service.put(CSV, dataset, headers=key)
    assert answer.status_code == 202
    service.wait(answer)
    assert service.client.job(dead["id"])["error"]["code"] == "E_UPLOAD_GONE"
    assert service.count(dataset) == 1000


def test_a_holder_that_lost_its_key_cannot_complete(service: Running) -> None:
    """It was taken for dead, and the request was served by another."""
    dataset, key = service.table(), new_key()
    field = f"Idempotency-Key: {key['Idempotency-Key']}\r\n"
    with Slow(service.process, dataset, fields=field) as upload:
        upload.send(CSV)
        until(lambda: service.count("ingest.request_keys where holder is not null") > 0, "the key is held")
        service.psql("update ingest.request_keys set renewed_at = renewed_at - interval '1 minute'")
        answer = service.put(CSV, dataset, headers=key)
        status, problem = upload.end()
    assert (answer.status_code, status, problem["code"]) == (202, 409, "E_UPLOAD_GONE")
    service.wait(answer)
    assert service.count(dataset) == 1000


def test_keys_expire(dsn: str, tmp_path: Path) -> None:
    """Then the same request is another one; keys of the past are removed."""
    with running(dsn, tmp_path, **SMALL, IDEMPOTENCY_KEY_TTL="3600") as service:
        dataset, key = service.table(), new_key()
        first = service.wait(service.put(CSV, dataset, headers=key))
        assert service.psql("select expires_at > now() + interval '59 min' from ingest.request_keys") == "t"
        service.psql("update ingest.request_keys set expires_at = now()")
        second = service.wait(service.put(CSV, dataset, headers=key))
        assert first["id"] != second["id"]
        assert second["duplicate_of"] == first["id"]
        service.psql("update ingest.request_keys set expires_at = now()")
        assert service.process.terminate() == 0
        service.starter(**SMALL)
        until(lambda: service.count("ingest.request_keys") == 0, "the key is forgotten")
        assert service.count("ingest.jobs") == 2


def test_keys_belong_to_their_owner(service: Running) -> None:
    """The key of another owner is another key."""
    dataset, key = service.table(), new_key()
    first = service.wait(service.put(CSV, dataset, headers=key))
    service.psql("update ingest.request_keys set owner = 'ada'")
    second = service.wait(service.put(CSV, dataset, headers=key))
    assert first["id"] != second["id"]


def test_a_form_has_one_key_for_all_its_files(service: Running) -> None:
    """Sent again it has the same jobs, also those it was sent with compressed; refused files are tried again."""
    dataset, key = service.table(), new_key()
    packed = gzip.compress(OTHER)  # once: gzip writes the time of day
    first = form(service, dataset, key, CSV, b"bad\n1\n", packed)
    again = form(service, dataset, key, CSV, b"bad\n1\n", packed)
    assert (first.status_code, again.status_code) == (202, 202)
    ids = [[job.get("id") or job["code"] for job in answer.json()["jobs"]] for answer in (first, again)]
    assert ids[0] == ids[1]
    assert ids[0][1] == "E_HEADER_MISMATCH"
    for job_id in (ids[0][0], ids[0][2]):
        service.client.wait(job_id)
    assert service.count(dataset) == 2000


def test_a_form_that_is_the_same_or_is_not(service: Running) -> None:
    """200 with the jobs; 409 for other files, fewer or more of them, other options."""
    dataset, key = service.table(), new_key()
    first = form(service, dataset, key, CSV, OTHER)
    again = form(service, dataset, key, CSV, OTHER)
    assert (first.status_code, again.status_code) == (202, 200)
    assert [job["id"] for job in first.json()["jobs"]] == [job["id"] for job in again.json()["jobs"]]
    for files in ((CSV,), (CSV, OTHER, OTHER), (OTHER, CSV), (CSV, CSV)):
        assert refusal(form(service, dataset, key, *files)) == (409, "E_KEY_REUSED")
    assert refusal(form(service, dataset, key, CSV, OTHER, priority="1")) == (409, "E_KEY_REUSED")
    for job in first.json()["jobs"]:
        service.client.wait(job["id"])
    assert service.count(dataset) == 2000


def test_a_form_that_broke_goes_on_where_it_was(service: Running) -> None:
    """Files that are in are not loaded twice; the others are loaded now."""
    dataset, key = service.table(), new_key()
    whole = httpx.Request("POST", "http://t", files=[("file", ("f0.csv", CSV)), ("file", ("f1.csv", OTHER))])
    body = whole.read()
    headers = key | {"Content-Type": whole.headers["content-type"]}
    url, query = f"{BASE}/upload", {"dataset": dataset}
    broken = service.http.post(url, params=query, content=body[: len(CSV) + 1000], headers=headers)
    assert refusal(broken) == (400, "E_MULTIPART")
    [first] = broken.json()["jobs"]
    answer = service.http.post(url, params=query, content=body, headers=headers)
    assert answer.status_code == 202
    assert answer.json()["jobs"][0]["id"] == first["id"]
    for job in answer.json()["jobs"]:
        service.client.wait(job["id"])
    assert service.count(dataset) == 2000
    assert service.http.post(url, params=query, content=body, headers=headers).status_code == 200


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize("packed", [False, True])
def test_digests_are_checked(service: Running, field: str, packed: bool) -> None:
    """Over the bytes as sent; a wrong one leaves nothing, one of an algorithm nobody knows means nothing."""
    dataset = service.table()
    body = gzip.compress(CSV) if packed else CSV
    answer = service.put(body, dataset, headers={field: sha256(OTHER)})
    assert refusal(answer) == (422, "E_DIGEST")
    assert (answer.json()["field"], answer.json()["algorithm"]) == (field, "sha-256")
    service.nothing_left(dataset, "E_DIGEST")
    sha512 = base64.b64encode(hashlib.sha512(body).digest()).decode()
    good = f"md5=:AAAA:, sha-512=:{sha512}:, {sha256(body)}"
    service.wait(service.put(body, dataset, headers={field: good, "X": "y"}))
    assert service.count(dataset) == 1000


@pytest.mark.parametrize("header", ["Repr-Digest", "Content-Encoding"])
def test_a_form_promises_no_such_thing(service: Running, header: str) -> None:
    """Its files would be loaded before the end of the form is known."""
    value = {"Repr-Digest": sha256(CSV), "Content-Encoding": "gzip"}[header]
    assert refusal(form(service, service.table(), {header: value}, CSV)) == (400, "E_OPTION_UNSUPPORTED")


def test_each_of_several_digests_must_hold(service: Running) -> None:
    """In one field, in several of the same name, in both."""
    dataset = service.table()
    wrong = f"sha-512=:{base64.b64encode(bytes(64)).decode()}:"
    for headers in (
        [("Repr-Digest", f"{sha256(CSV)}, {wrong}")],
        [("Repr-Digest", sha256(CSV)), ("Repr-Digest", wrong)],
        [("Repr-Digest", sha256(CSV)), ("Content-Digest", sha256(OTHER))],
    ):
        answer = service.http.put(f"{BASE}/upload/f.csv", params={"dataset": dataset}, content=CSV, headers=headers)
        assert refusal(answer) == (422, "E_DIGEST")
    service.nothing_left(dataset, "E_DIGEST")


def test_a_repeated_request_with_a_wrong_digest(service: Running) -> None:
    dataset, key = service.table(), new_key()
    service.put(CSV, dataset, headers=key)
    assert refusal(service.put(CSV, dataset, headers=key | {"Repr-Digest": sha256(OTHER)})) == (422, "E_DIGEST")


def test_duplicates_are_reported_or_refused(service: Running) -> None:
    """A file that failed is no reason to refuse it."""
    dataset = service.table()
    assert refusal(service.put(b"id,name\nx,y\n", dataset, on_duplicate="no")) == (400, "E_OPTION")
    first = service.wait(service.put(CSV, dataset, on_duplicate="refuse"))
    assert first["duplicate_of"] is None
    refused = service.put(CSV, dataset, on_duplicate="refuse")
    assert refusal(refused) == (409, "E_DUPLICATE")
    assert refused.json()["duplicate_of"] == first["id"]
    again = service.wait(service.put(CSV, dataset, on_duplicate="load"))
    assert again["duplicate_of"] == first["id"]
    assert service.count(dataset) == 2000
    until(lambda: not service.stored(), "the objects are gone")
    parts = form(service, dataset, {}, CSV, OTHER, on_duplicate="refuse").json()["jobs"]
    assert (parts[0]["code"], parts[1]["duplicate_of"]) == ("E_DUPLICATE", None)
