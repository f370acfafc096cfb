"""The answer to bytes that are no request: no application is there to give it, and it looks like any other problem."""

from __future__ import annotations

import structlog

from ingest.web.answers import problem_answer
from ingest.web.problems import http_problem
from ingest.web.requests import completed, new_request_id

DETAILS = {
    400: "the request is malformed: this is not HTTP/1.1",
    431: "the request line and the headers are larger than 16 KiB",
    501: "the transfer coding is not supported: send a length, or chunked",
    505: "HTTP/1.0 and HTTP/1.1 are spoken here",
}


def malformed_answer(status: int) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return headers and body for what HTTP itself refuses with `status`; the connection ends with it."""
    request_id = new_request_id()
    with structlog.contextvars.bound_contextvars(request_id=request_id):
        answer = problem_answer(http_problem(status, DETAILS.get(status, "this is not HTTP")))
    pairs = [(name.encode(), value.encode()) for name, value in answer.headers]
    return [*completed(pairs, request_id), (b"connection", b"close")], answer.body
