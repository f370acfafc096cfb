"""The OpenAPI document against a running service: a tour of its routes, its own examples, and generated requests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode, checks
from schemathesis.core.errors import SchemathesisError
from schemathesis.specs.openapi import checks as openapi_checks

from ingest.web.openapi.planned import PLANNED_FIELDS
from tests.acceptance.client import BASE, PATIENCE_S, Client
from tests.acceptance.conftest import Connect
from tests.conftest import Psql
from tests.document import NOT_YET, Document
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
        self.http = httpx.Client(base_url=url, timeout=PATIENCE_S)
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
def client(service: Starter, connect: Connect, psql: Psql) -> Client:
    """A service with a table."""
    psql("create table t (a int, b text)")
    return connect(service())


@pytest.fixture
def tour(client: Client) -> Iterator[Tour]:
    """A tour of the service."""
    with closing(Tour(client.url)) as tour:
        yield tour


def example(tour: Tour, method: str, path: str, kind: str = "text/csv") -> Any:
    """The example of a request's body."""
    operation = next(one for one in tour.document.operations if (one.method, one.path) == (method, path))
    return operation.body["requestBody"]["content"][kind]["example"]


def test_answers_are_as_documented(client: Client, tour: Tour) -> None:
    """Of every route that there is, when it works and when it is used wrongly: status, headers, every member."""
    upload, preview = f"{BASE}/upload/{{filename}}", f"{BASE}/preview"
    file = example(tour, "PUT", upload)
    sent = tour("PUT", f"{BASE}/upload/customers.csv", params={"dataset": "customers"}, content=file).json()
    job = client.wait(sent["id"])
    path = f"{BASE}/jobs/{job['id']}"

    for name in ("", "/progress", "/chunks", "/rejects", "/rejects/summary", "/rejects.csv"):
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
        "/openapi.json",
        "/docs",
        "/docs/problems",
    ):
        tour("GET", route)
        tour("HEAD", route)

    visited = {operation for operation, status in tour.seen if status < 400}
    there = {str(one) for one in tour.document.operations if one.method != "OPTIONS"} - NOT_YET
    assert there - visited == {f"HEAD {BASE}/files/{{upload_id}}", f"POST {path_of('retry')}"}


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
    changing = {*PLANNED_FIELDS, "id", "rows_per_second", "links", "created_at", "started_at", "completed_at", "updated_at",
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
        if name not in NOT_YET and "/files" not in operation.path:  # tus is not spoken by generated requests
            tried.add(name)
            generate(tour, operation, GenerationMode.NEGATIVE, {})
            generate(tour, operation, GenerationMode.POSITIVE, known_things(operation, job["id"]))
    documented = {str(one) for one in tour.document.operations if "/files" not in one.path}
    assert tried == documented - NOT_YET


def known_things(operation: Any, job_id: str) -> dict[str, Any]:
    """What a generated request would never hit upon: a job, a dataset."""
    if "{job_id}" in operation.path:
        return {"path_parameters": {"job_id": job_id}}
    if "{name}" in operation.path:
        return {"path_parameters": {"name": "public.t"}}
    return {"query": {"dataset": "public.t"}} if "/upload" in operation.path or "/preview" in operation.path else {}


def generate(tour: Tour, operation: Any, mode: GenerationMode, given: dict[str, Any]) -> None:
    """Send requests of one kind for an operation, all with what is `given`."""

    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode, **given))
    def attempt(case: Any) -> None:
        answer = case.call(base_url=str(tour.http.base_url))
        case.validate_response(answer, checks=CHECKS)

    try:
        attempt()
    except (SchemathesisError, hypothesis.errors.Unsatisfiable):
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing about it can be wrong
