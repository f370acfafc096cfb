"""What a client can meet: no server, or one that says no, by a problem object (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ingest.errors import IngestError

# What of a problem object is said by fields of the exception.
MEMBERS = frozenset({"type", "title", "status", "detail", "code"})


class ClientError(IngestError):
    """Base of what the client raises."""

    code = "E_CLIENT"


class Unreachable(ClientError):
    """The server is not there, or went away in the middle; the same call may succeed later."""

    code = "E_SERVER_UNREACHABLE"


class ProblemError(ClientError):
    """The server's answer is a problem: `status` of HTTP, stable `code`, `detail` for people, `facts` about it."""

    def __init__(self, detail: str, *, status: int, code: str, retry_after_s: float | None = None, **facts: object):
        super().__init__(detail, code=code, **facts)
        self.status = status
        self.retry_after_s = retry_after_s


class Refused(ProblemError):
    """The request or the file is at fault (400, 408, 413, 415, 422): the same once more will not help."""


class Unauthorised(ProblemError):
    """A valid API key is needed (401)."""


class Forbidden(ProblemError):
    """The key may not do this (403)."""


class NotFound(ProblemError):
    """There is no such job, dataset or path, or it is somebody else's (404)."""


class Conflict(ProblemError):
    """The job is not in a state for this; `facts["state"]` says in which it is (409)."""


class TooMany(ProblemError):
    """A quota is used up; `retry_after_s` says when to come back (429)."""


class ServerFault(ProblemError):
    """The service cannot serve at the moment, or made a mistake (5xx); it may be worth another try."""


KINDS: Mapping[int, type[ProblemError]] = {
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    429: TooMany,
}


def problem_error(status: int, headers: Mapping[str, str], body: bytes) -> ProblemError:
    """Return the error for an answer that is no success; also for one that did not come from the service."""
    problem = _object(body) if "problem+json" in headers.get("content-type", "") else {}
    detail = problem.get("detail") or f"the server answered {status}, but not as ingest does; is the address right?"
    kind = KINDS.get(status, Refused if 400 <= status < 500 else ServerFault)
    return kind(
        str(detail),
        status=status,
        code=str(problem.get("code", "E_ANSWER")),
        retry_after_s=_seconds(headers.get("retry-after")),
        **{name: value for name, value in problem.items() if name not in MEMBERS | {"self"}},
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
