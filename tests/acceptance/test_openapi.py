"""The OpenAPI document against a running service: a tour of its routes, its own examples, and generated requests."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode, checks
from schemathesis.core.errors import SchemathesisError
from schemathesis.specs.openapi import checks as openapi_checks

from tests import canaries
from tests.acceptance.client import BASE, PATIENCE_S, Client
from tests.acceptance.conftest import Connect
from tests.acceptance.keyed import Keyring
from tests.conftest import Psql
from tests.document import Document
from tests.processes import Starter

# Requests for each operation; generated ones find more in minutes than in seconds, but the tests have seconds.
EXAMPLES = 15
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]


class Tour:
    """Requests to a service, each answer judged by the document; `seen` is every operation with every status."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S, event_hooks=canaries.HOOKS)
        self.document = Document(self.http.get("/openapi.json").raise_for_status().json())
        self.seen: set[tuple[str, int]] = set()

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        """Send a request; the answer must be as documented."""
        answer = self.http.request(method, path, **request)
        operation = self.document.judge(answer)
        self.seen.add((str(operation), answer.status_code))
        return answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of files that the service may load in place."""
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    return tmp_path


@pytest.fixture
def client(service: Starter, connect: Connect, psql: Psql, folder: Path) -> Client:
    """A service with a table, and one whose jobs take seconds for a record."""
    psql("create table t (a int, b text); create table slow (a int); create function nap() returns trigger language plpgsql "
         "as $$ begin perform pg_sleep(3); return new; end $$; create trigger nap before insert on slow for each row "
         "execute function nap()")  # fmt: skip
    return connect(service(INGEST_SOURCE_ROOTS=str(folder)))


@pytest.fixture
def tour(client: Client) -> Iterator[Tour]:
    """A tour of the service."""
    with closing(Tour(client.url)) as tour:
        yield tour


def example(tour: Tour, method: str, path: str, kind: str = "text/csv") -> Any:
    """The example of a request's body."""
    operation = next(one for one in tour.document.operations if (one.method, one.path) == (method, path))
    return operation.body["requestBody"]["content"][kind]["example"]


def test_answers_are_as_documented(client: Client, tour: Tour, folder: Path, service: Starter) -> None:
    """Of every route that there is, when it works and when it is used wrongly: status, headers, every member."""
    upload, preview = f"{BASE}/upload/{{filename}}", f"{BASE}/preview"
    file = example(tour, "PUT", upload)
    sent = tour("PUT", f"{BASE}/upload/customers.csv", params={"dataset": "customers"}, content=file).json()
    job = client.wait(sent["id"])
    path = f"{BASE}/jobs/{job['id']}"

    for name in ("", "/progress", "/chunks", "/rejects", "/rejects/summary", "/rejects.csv", "/audit", "/stream"):
        tour("GET", path + name)
        tour("HEAD", path + name)
        assert tour("GET", path + name, params={"nonsense": "1"}).json()["code"] == "E_OPTION"
        tour("GET", f"{BASE}/jobs/{uuid4()}{name}")
    tour("GET", f"{BASE}/jobs", params={"page": 1, "limit": 5, "status": "completed", "dataset": "customers"})
    tour("GET", f"{BASE}/jobs", params={"limit": "many"})
    tour("POST", f"{path}/retry")
    tour("POST", f"{BASE}/jobs/{uuid4()}/retry")
    files = [("file", ("a.csv", b"a,b\n1,x\n")), ("file", ("b.csv", b"wrong\n"))]
    jobs = tour("POST", f"{BASE}/upload", params={"dataset": "public.t"}, files=files).json()["jobs"]
    assert [one.get("dataset", one.get("status")) for one in jobs] == ["public.t", 422]
    tour("POST", f"{BASE}/upload", params={"dataset": "public.t"}, content=b"no form")
    for body in (b"", b"PK\3\4", b"wrong\n1\n", b'a,b\n"1,x\n', b"a,b\n\xff\xfe,x\n", b"a,\n1,x\n"):
        tour("PUT", f"{BASE}/upload/x.csv", params={"dataset": "public.t"}, content=body)
    for query in ({}, {"dataset": "none"}, {"dataset": "public.t", "priority": "11"}, {"dataset": "auto"}):
        tour("PUT", f"{BASE}/upload/x.csv", params=query, content=b"a,b\n1,x\n")
    found = tour("POST", preview, params={"dataset": "customers"}, content=example(tour, "POST", preview)).json()
    assert (found["dataset"], found["problems"]) == ("customers", [])
    tour("POST", preview, content=b"x" * 2_000_000)
    tour("POST", preview, params={"load": "x"}, content=b"a\n")
    for route in ("", "/customers", "/crowdfunding", "/public.t", "/public.none"):
        tour("GET", f"{BASE}/datasets{route}")
    for route in (
        "/",
        "/health",
        "/health/live",
        "/health/ready",
        "/metrics",
        f"{BASE}/stats",
        "/openapi.json",
        "/docs",
        "/docs/problems",
    ):
        tour("GET", route)
        tour("HEAD", route)

    travel_resumably(tour)
    travel_the_page(tour, Keyring(service).make("somebody", "read"))
    loaded_from = tour(
        "POST", f"{BASE}/jobs", json={"source": (folder / "a.csv").as_uri(), "dataset": "public.t"}
    ).json()
    tour("POST", f"{BASE}/jobs", json={"source": "file:///etc/passwd", "dataset": "public.t"})
    client.wait(loaded_from["id"])
    tour("DELETE", f"{BASE}/jobs/{loaded_from['id']}")

    visited = {operation for operation, status in tour.seen if status < 400}
    there = {str(one) for one in tour.document.operations if one.method != "OPTIONS"}
    # No job has failed here, and the client of this tour speaks no WebSocket.
    assert there - visited == {f"POST {path_of('retry')}", f"GET {path_of('ws')}"}


def travel_the_page(tour: Tour, key: str) -> None:
    """What the page is made of, and its way in and out."""
    tour("GET", "/page/main.js")
    tour("GET", "/page/nothing.js")
    tour("GET", "/session")
    tour("POST", "/session", headers={"Authorization": f"Bearer {key}"})
    tour("POST", "/session", headers={"Authorization": "Bearer ing_wrong"})
    tour("DELETE", "/session")


def travel_resumably(tour: Tour) -> None:
    """Begin an upload whose job is open until it is cancelled, and change it meanwhile; then one that is given up."""
    tus = {"Tus-Resumable": "1.0.0"}
    bytes_of = {**tus, "Content-Type": "application/offset+octet-stream"}
    named = ",".join(
        f"{name} {b64encode(value).decode()}" for name, value in (("filename", b"t.csv"), ("dataset", b"public.t"))
    )
    new = {"Upload-Length": "10000", "Upload-Metadata": named}
    begun = tour("POST", f"{BASE}/files", headers={**bytes_of, **new}, content=b"a,b\n" + b"1,x\n" * 1999)
    upload, job = begun.headers["location"], begun.headers["ingest-job"]
    tour("HEAD", upload, headers=tus)
    tour("PATCH", upload, headers={**bytes_of, "Upload-Offset": "8000"}, content=b"2,y\n")
    tour("PATCH", upload, headers={**bytes_of, "Upload-Offset": "8000"}, content=b"2,y\n")
    tour(
        "POST",
        upload,
        headers={**bytes_of, "Upload-Offset": "8004", "X-HTTP-Method-Override": "PATCH"},
        content=b"3,z\n",
    )
    tour("PATCH", job, json={"priority": 7})
    tour("PATCH", job, json={"priority": "high"})
    tour("DELETE", job)
    for action in ("pause", "resume", "cancel", "cancel"):
        tour("POST", f"{job}/{action}")
    slow = tour("PUT", f"{BASE}/upload/s.csv", params={"dataset": "public.slow"}, content=b"a\n1\n2\n3\n").json()[
        "links"
    ]["self"]
    for action in ("pause", "resume", "cancel"):
        tour("POST", f"{slow}/{action}")
    tour("PATCH", upload, headers={**bytes_of, "Upload-Offset": "8008"}, content=b"4,z\n")
    other = tour("POST", f"{BASE}/files", headers={**tus, **new}).headers["location"]
    tour("DELETE", other, headers=tus)
    tour("HEAD", other, headers=tus)


def path_of(action: str) -> str:
    """The template of an action on a job."""
    return f"{BASE}/jobs/{{job_id}}/{action}"


def test_the_examples_are_what_the_service_answers(client: Client, tour: Tour) -> None:
    """The file of the document gives the job, the rejects and the summary of the document."""
    sent = tour("PUT", f"{BASE}/upload/customers.csv", params={"dataset": "customers"},
                content=example(tour, "PUT", f"{BASE}/upload/{{filename}}"))  # fmt: skip
    job_id = client.wait(sent.json()["id"])["id"]
    for name in ("", "/rejects", "/rejects/summary"):
        answer = tour("GET", f"{BASE}/jobs/{job_id}{name}")
        operation = tour.document.judge(answer)
        shown = operation.body["responses"]["200"]["content"]["application/json"]["example"]
        assert stable(answer.json()) == stable(shown)


def stable(value: Any) -> Any:
    """What of an answer is the same for the same file: neither ids nor moments, nor what depends on earlier files."""
    if isinstance(value, list):
        return [stable(one) for one in value]
    if not isinstance(value, dict):
        return value
    changing = {"id", "rows_per_second", "links", "created_at", "started_at", "completed_at", "updated_at",
                "inserted_rows", "updated_rows", "unchanged_rows"}  # fmt: skip
    return {name: stable(one) for name, one in value.items() if name not in changing}


@pytest.mark.slow
def test_generated_requests_find_nothing_undocumented(client: Client, tour: Tour) -> None:
    """Valid and invalid ones, the same in each run: no server error, and no status, type, header or shape unheard of."""
    job = client.load(b"a,b\n1,x\nx,y\n", "public.t")
    schema = schemathesis.openapi.from_url(f"{client.url}/openapi.json")
    tried = {"GET /openapi.json"}  # left out by schemathesis itself
    for operation in (result.ok() for result in schema.get_all_operations()):
        name = f"{operation.method.upper()} {operation.path}"
        if "/files" not in operation.path:  # tus is not spoken by generated requests
            tried.add(name)
            generate(tour, operation, GenerationMode.NEGATIVE, {})
            generate(tour, operation, GenerationMode.POSITIVE, known_things(operation, job["id"]))
    documented = {str(one) for one in tour.document.operations if "/files" not in one.path}
    assert tried == documented


def checks_for(operation: Any) -> list[Any]:
    """What to check of an operation's answers: each event of a stream is no text, as the stream as a whole is."""
    streams = operation.path.endswith("/stream")
    return [check for check in CHECKS if not (streams and check is openapi_checks.response_schema_conformance)]


def known_things(operation: Any, job_id: str) -> dict[str, Any]:
    """What a generated request would never hit upon: a job, a dataset."""
    if "{job_id}" in operation.path:
        return {"path_parameters": {"job_id": job_id}}
    if "{name}" in operation.path:
        return {"path_parameters": {"name": "public.t"}}
    return {"query": {"dataset": "public.t"}} if "/upload" in operation.path or "/preview" in operation.path else {}


def generated(examples: int) -> hypothesis.settings:
    """So many requests, the same in every run, however long they take."""
    return hypothesis.settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )


def generate(tour: Tour, operation: Any, mode: GenerationMode, given: dict[str, Any]) -> None:
    """Send requests of one kind for an operation, all with what is `given`."""

    @generated(EXAMPLES)
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode, **given))
    def attempt(case: Any) -> None:
        answer = case.call(base_url=str(tour.http.base_url))
        case.validate_response(answer, checks=checks_for(operation))

    try:
        attempt()
    except (SchemathesisError, hypothesis.errors.Unsatisfiable):
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing about it can be wrong
