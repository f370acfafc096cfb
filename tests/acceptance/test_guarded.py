"""What has handlers of its own in front of the framework, behind the guard: resumable uploads, streams, reject files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.client import BASE, tracebacks, until
from tests.acceptance.keyed import guarding, opened
from tests.acceptance.tusclient import BYTES, FILES, VERSION, metadata
from tests.processes import Process

FILE = b"a,b\n1,x\nx,y\n2,z\n"
SCOPES = ("upload", "read", "control", "metrics")
OFFSET = {"Upload-Offset": "4"}


@dataclass
class Guarded:
    """A service that asks for keys, and clients of it: two owners, an admin, and nobody."""

    process: Process
    ada: httpx.Client
    grace: httpx.Client
    admin: httpx.Client
    nobody: httpx.Client

    def begin(self, owner: httpx.Client) -> str:
        """Begin an upload, four bytes long so far; returns its path."""
        headers = VERSION | BYTES | {"Upload-Length": str(len(FILE))} | metadata(filename="f.csv", dataset="public.t")
        answer = owner.post(FILES, content=FILE[:4], headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def job(self, owner: httpx.Client) -> str:
        """Load a file; returns the path of its job when it has ended."""
        sent = owner.put(f"{BASE}/upload/f.csv?dataset=public.t", content=FILE)
        assert sent.status_code == 202, sent.text
        path = str(sent.json()["links"]["self"])
        until(lambda: owner.get(path).json()["status"] == "completed", "the job ends")
        return path


@pytest.fixture(scope="module")
def guarded(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """One for all tests of the module."""
    with guarding(shared_dsn, tmp_path_factory.mktemp("guarded")) as (process, ring):
        keys = [ring.make("ada", *SCOPES), ring.make("grace", *SCOPES), ring.make("root", "admin"), None]
        clients = [opened(process.url, key) for key in keys]
        yield Guarded(process, *clients)
        for client in clients:
            client.close()
        assert tracebacks(process) == []


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a problem."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def requests_for(path: str) -> list[dict[str, Any]]:
    """Every request that an upload takes, each as it should be."""
    piece = {"headers": VERSION | BYTES | OFFSET, "content": FILE[4:]}
    override = {"X-HTTP-Method-Override": "PATCH"}
    return [
        {"method": "PATCH", "url": path, **piece},
        {"method": "POST", "url": path, "headers": piece["headers"] | override, "content": FILE[4:]},
        {"method": "POST", "url": path, "headers": VERSION | {"X-HTTP-Method-Override": "DELETE"}},
        {"method": "HEAD", "url": path, "headers": VERSION},
        {"method": "DELETE", "url": path, "headers": VERSION},
    ]


def test_the_upload_of_another_owner_is_not_there(guarded: Guarded) -> None:
    """Nor does it change; the answers are those about no upload at all. An admin may go on with it."""
    path, nothing = guarded.begin(guarded.ada), f"{FILES}/{uuid4()}"
    for theirs, nobodys in zip(requests_for(path), requests_for(nothing), strict=True):
        answers = [guarded.grace.request(**theirs), guarded.grace.request(**nobodys)]
        assert [answer.status_code for answer in answers] == [404, 404], theirs
        if theirs["method"] != "HEAD":
            said = [
                {**answer.json(), "request_id": "", "detail": answer.json()["detail"].replace(url.split("/")[-1], "")}
                for answer, url in zip(answers, (path, nothing), strict=True)
            ]
            assert said[0] == said[1]
            assert said[0]["code"] == "E_NOT_FOUND"
        assert set(answers[0].headers) == set(answers[1].headers)
    head = guarded.ada.head(path, headers=VERSION)
    assert (head.status_code, head.headers["Upload-Offset"]) == (200, "4")
    done = guarded.admin.patch(path, content=FILE[4:], headers=VERSION | BYTES | OFFSET)
    assert done.status_code == 204
    job = done.headers["Ingest-Job"]
    until(lambda: guarded.ada.get(job).json()["status"] == "completed", "the job ends")
    assert guarded.ada.get(job).json()["owner"] == "ada"
    assert refused(guarded.grace.get(job)) == (404, "E_NOT_FOUND")


def test_requests_for_an_upload_need_a_key(guarded: Guarded) -> None:
    """And do nothing without one."""
    path = guarded.begin(guarded.ada)
    for request in requests_for(path):
        answer = guarded.nobody.request(**request)
        assert answer.status_code == 401
        assert {"www-authenticate", "tus-resumable"} <= set(answer.headers)
    assert guarded.ada.head(path, headers=VERSION).headers["Upload-Offset"] == "4"
    told = guarded.nobody.options(FILES)
    assert (told.status_code, told.headers["Tus-Version"]) == (204, "1.0.0")


def test_wrong_requests_for_resumable_uploads(guarded: Guarded) -> None:
    """Each by its own status."""
    path = guarded.begin(guarded.ada)
    ada = guarded.ada
    assert refused(ada.get(FILES)) == (405, "E_METHOD")
    assert set(ada.get(FILES).headers["allow"].split(", ")) == {"OPTIONS", "POST"}
    for method in ("GET", "PUT"):
        answer = ada.request(method, path)
        assert refused(answer) == (405, "E_METHOD")
        assert {"DELETE", "HEAD", "OPTIONS", "PATCH"} <= set(answer.headers["allow"].split(", "))
    assert refused(ada.post(path, headers=VERSION)) == (405, "E_METHOD")
    assert refused(ada.patch(FILES, headers=VERSION)) == (405, "E_METHOD")
    assert refused(ada.patch(path, content=b"x", headers=VERSION | OFFSET)) == (415, "E_MEDIA_TYPE")
    packed = VERSION | BYTES | OFFSET | {"Content-Encoding": "gzip"}
    assert refused(ada.patch(path, content=b"x", headers=packed)) == (415, "E_MEDIA_TYPE")
    for name in ("x", "a/b", str(uuid4())):
        assert refused(ada.delete(f"{FILES}/{name}", headers=VERSION)) == (404, "E_NOT_FOUND")
    assert ada.head(path, headers=VERSION).headers["Upload-Offset"] == "4"


@pytest.mark.parametrize("kind", ["stream", "ws"])
def test_wrong_requests_for_streams(guarded: Guarded, kind: str) -> None:
    """Not found, not one's own, not that method, not that protocol."""
    path = f"{guarded.job(guarded.ada)}/{kind}"
    assert refused(guarded.nobody.get(path)) == (401, "E_UNAUTHENTICATED")
    assert refused(guarded.grace.get(path)) == (404, "E_NOT_FOUND")
    assert refused(guarded.ada.get(f"{BASE}/jobs/{uuid4()}/stream")) == (404, "E_NOT_FOUND")
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        answer = guarded.ada.request(method, path)
        assert refused(answer) == (405, "E_METHOD")
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert guarded.ada.options(path).headers["allow"] == "GET, HEAD, OPTIONS"
    assert refused(guarded.ada.get(path, params={"since": "1"})) == (
        (400, "E_OPTION") if kind == "stream" else (426, "E_REQUEST")
    )
    head = guarded.ada.head(path)
    assert (head.status_code, head.content) == ((200 if kind == "stream" else 426), b"")


def test_the_file_of_rejects_answers_head(guarded: Guarded) -> None:
    """As GET would, without the file."""
    path = f"{guarded.job(guarded.ada)}/rejects.csv"
    got, head = guarded.ada.get(path), guarded.ada.head(path)
    assert got.status_code == head.status_code == 200
    assert b"x,y" in got.content
    assert head.content == b""
    ignored = {"date", "x-request-id", "content-length", "transfer-encoding"}
    told = [{name: value for name, value in answer.headers.items() if name not in ignored} for answer in (got, head)]
    assert told[0] == told[1]
    assert guarded.grace.head(path).status_code == 404
    assert guarded.nobody.head(path).status_code == 401
    # The connection is good for the next request: nothing of the file was left in it.
    assert guarded.ada.get(path).content == got.content
