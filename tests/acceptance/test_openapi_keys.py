"""Generated requests with a key of each scope: what the document says, no server error, and no more than the scope allows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.errors import SchemathesisError

from ingest.caller import Scope
from tests.acceptance.client import BASE, PATIENCE_S, until
from tests.acceptance.keyed import bearer, guarding, opened
from tests.acceptance.test_openapi import checks_for, generated, known_things

# Requests of each kind for each operation and scope; the number bounds the time.
EXAMPLES = 3
REFUSALS = {"E_SCOPE", "E_KEY", "E_UNAUTHENTICATED"}

pytestmark = pytest.mark.slow


@schemathesis.serializer("application/offset+octet-stream")
def _piece(context: Any, value: Any) -> bytes:
    """Any bytes may be a piece of a file."""
    return value if isinstance(value, bytes) else str(value).encode()


@dataclass
class Keyed:
    """A service that asks for keys, with a key of each scope and a finished job of their owner."""

    url: str
    keys: dict[str, str]
    job_id: str


@pytest.fixture(scope="module")
def keyed(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyed]:
    """One owner, with a key of each scope."""
    with guarding(shared_dsn, tmp_path_factory.mktemp("keyed")) as (process, ring):
        url = process.url
        keys = {scope.value: ring.make("ada", scope.value) for scope in Scope}
        with opened(url, keys["upload"]) as http:
            sent = http.put(f"{BASE}/upload/f.csv?dataset=public.t", content=b"a,b\n1,x\nx,y\n")
            assert sent.status_code == 202, sent.text
        with opened(url, keys["read"]) as http:
            job = f"{BASE}/jobs/{sent.json()['id']}"
            until(lambda: http.get(job).json()["status"] == "completed", "the job ends")
        yield Keyed(url, keys, sent.json()["id"])


# The scope that may delete the job comes last, so that the others find it.
@pytest.mark.parametrize("scope", ["upload", "read", "metrics", "control", "admin"])
def test_generated_requests_with_a_key_do_what_the_document_says(keyed: Keyed, scope: str) -> None:
    schema = schemathesis.openapi.from_url(f"{keyed.url}/openapi.json")
    tried = 0
    for operation in (result.ok() for result in schema.get_all_operations()):
        tried += attempts(keyed, scope, operation, GenerationMode.POSITIVE, known_things(operation, keyed.job_id))
        tried += attempts(keyed, scope, operation, GenerationMode.NEGATIVE, {})
    assert tried > 100


def attempts(keyed: Keyed, scope: str, operation: Any, mode: GenerationMode, given: dict[str, Any]) -> int:
    """Send requests of one kind for an operation; returns how many."""
    needed = {name for option in operation.definition.raw["security"] for name in option.get("key", ())}
    allowed = not needed or scope == "admin" or scope in needed
    sent = 0

    @generated(EXAMPLES)
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode, **given))
    def attempt(case: Any) -> None:
        nonlocal sent
        answer = case.call(base_url=keyed.url, headers=bearer(keyed.keys[scope]), timeout=PATIENCE_S)
        sent += 1
        case.validate_response(answer, checks=checks_for(operation))
        if "json" in answer.headers.get("content-type", ""):
            assert (code_of(answer) in REFUSALS) != allowed, f"{operation.label}: {answer.content!r}"

    try:
        attempt()
    except (SchemathesisError, hypothesis.errors.Unsatisfiable):
        assert mode is GenerationMode.NEGATIVE, operation.label  # nothing about it can be wrong
    return sent


def code_of(answer: Any) -> str | None:
    """The code of a problem, None for any other answer."""
    return answer.json().get("code") if "problem+json" in answer.headers.get("content-type", "") else None
