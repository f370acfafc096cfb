"""The OpenAPI document: every route, parameter, field, header and error code. Written by hand, held true by tests.

building      the words it is written with
parameters    of requests, and the headers of answers
schemas       the shapes of bodies; `jobschemas` those of jobs
uploadpaths   operations that take files; `jobpaths` those over jobs; `servicepaths` all others
examples      what it shows
"""

from __future__ import annotations

from functools import cache

from ingest import __version__
from ingest.web.openapi.building import Json, problem_example
from ingest.web.openapi.jobpaths import job_paths
from ingest.web.openapi.parameters import headers, parameters
from ingest.web.openapi.schemas import SCHEMAS
from ingest.web.openapi.servicepaths import service_paths
from ingest.web.openapi.uploadpaths import upload_paths
from ingest.web.problems import KINDS

DESCRIPTION = """\
Send a CSV file of any size; every good row is loaded into PostgreSQL exactly once, every bad row is kept with its line,
column, value and reason.

Errors are RFC 9457 problems (`application/problem+json`) with a stable `code`. Times are ISO 8601 in UTC, ids UUIDs.
Unknown query parameters are refused with 400 (`E_OPTION`), unknown methods with 405 (`E_METHOD`) and `Allow`, unknown
paths with 404 (`E_NOT_FOUND`), headers that are too large with 431 (`E_HEADERS_TOO_LARGE`), other versions of HTTP than
1.0 and 1.1 with 505 (`E_HTTP_VERSION`). Wherever GET works, HEAD does, and every path answers OPTIONS. Every answer has
an `X-Request-Id`, the client's own if it sent one. Objects may get further members in later versions.

With keys in use, `Authorization: Bearer KEY` must be sent, and a job of another owner is answered like one that does
not exist."""

# Codes that the words above speak of, or that stand for what has none of its own: no operation lists them.
SAID_ONCE = ("E_REQUEST", "E_HEADERS_TOO_LARGE", "E_HTTP_VERSION")

TAGS = {
    "uploads": "Files on their way in.",
    "resumable": "The same, able to go on after an interruption: tus 1.0.",
    "jobs": "What becomes of each file.",
    "rejects": "Records that could not be loaded, and why.",
    "datasets": "What can be loaded into.",
    "service": "The service itself.",
}


@cache
def document() -> Json:
    """Return the document, made once; nobody may change it."""
    kinds = KINDS
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ingest",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": upload_paths(kinds) | job_paths(kinds) | service_paths(kinds),
        "components": {
            "schemas": SCHEMAS,
            "parameters": parameters(),
            "headers": headers(),
            "examples": {
                code: {"value": problem_example(code, kind)} for code, kind in kinds.items() if code not in SAID_ONCE
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key (`ingest keys create`); only where keys are in use.",
                }
            },
        },
    }
