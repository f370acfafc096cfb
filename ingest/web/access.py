"""Every route of the service and who may use it, in one table. What is not in it is not served, whatever handles it.

The test of authorisation is made from this table: each route with no key, a wrong one, one of each scope, and another
owner's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from hypercorn.typing import HTTPScope, WebsocketScope

from ingest.caller import NOBODY, Caller, Scope
from ingest.errors import RequestError
from ingest.web.answers import BASE

PARAMETER = re.compile(r"\\\{(\w+)(\\\.\\\.\\\.)?\\\}")

# For everybody, with or without a key.
OPEN: frozenset[Scope] = frozenset()
UPLOAD, READ, CONTROL = frozenset({Scope.UPLOAD}), frozenset({Scope.READ}), frozenset({Scope.CONTROL})
ANY = frozenset(Scope)
METRICS, ADMIN = frozenset({Scope.METRICS}), frozenset({Scope.ADMIN})


@dataclass(frozen=True)
class Route:
    """One method on one path; `{name}` stands for a part of it, `{name...}` for all that follows.

    A caller needs one of the scopes in `needs`, `admin` always being enough; nothing is needed when it is empty.
    `metered`: the bytes of the body count as those of an upload. `greets`: open to all, but tells a caller that it
    knows more.
    """

    method: str
    path: str
    needs: frozenset[Scope]
    metered: bool = False
    greets: bool = False

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What a decoded path of this route looks like."""
        text = PARAMETER.sub(lambda found: f"(?P<{found[1]}>{'.*' if found[2] else '[^/]+'})", re.escape(self.path))
        return re.compile(text, re.DOTALL)

    def takes(self, method: str) -> bool:
        """Whether it answers a method; HEAD is a GET without body."""
        return method == self.method or (method == "HEAD" and self.method == "GET")


PROBES = (
    Route("GET", "/health", OPEN, greets=True),  # without a key: the status alone
    Route("GET", "/health/live", OPEN),
    Route("GET", "/health/ready", OPEN),
    Route("GET", "/metrics", METRICS),
)
JOB = f"{BASE}/jobs/{{job_id}}"
ROUTES = (
    *PROBES,
    # What the service is, the same for everybody: no key could be sent by a browser that is given the address.
    Route("GET", "/", OPEN),
    Route("GET", "/page/{name}", OPEN),
    Route("GET", "/session", OPEN, greets=True),
    Route("POST", "/session", ANY),
    Route("DELETE", "/session", OPEN),
    Route("GET", "/docs", OPEN),
    Route("GET", "/docs/problems", OPEN),
    Route("GET", "/openapi.json", OPEN),
    Route("POST", f"{BASE}/upload", UPLOAD, metered=True),
    Route("PUT", f"{BASE}/upload/{{filename...}}", UPLOAD, metered=True),
    Route("POST", f"{BASE}/preview", UPLOAD),
    Route("OPTIONS", f"{BASE}/files", OPEN),  # what of tus is spoken here, which clients ask before all else
    Route("OPTIONS", f"{BASE}/files/{{upload_id}}", OPEN),
    Route("POST", f"{BASE}/files", UPLOAD, metered=True),
    Route("POST", f"{BASE}/files/{{upload_id}}", UPLOAD, metered=True),  # with X-HTTP-Method-Override
    Route("HEAD", f"{BASE}/files/{{upload_id}}", UPLOAD),
    Route("PATCH", f"{BASE}/files/{{upload_id}}", UPLOAD, metered=True),
    Route("DELETE", f"{BASE}/files/{{upload_id}}", UPLOAD),
    Route("POST", f"{BASE}/jobs", ADMIN),  # files of the machine itself, which are no owner's
    Route("GET", f"{BASE}/jobs", READ),
    Route("GET", JOB, READ),
    Route("GET", f"{JOB}/progress", READ),
    Route("GET", f"{JOB}/stream", READ),
    Route("GET", f"{JOB}/ws", READ),
    Route("GET", f"{JOB}/chunks", READ),
    Route("GET", f"{JOB}/rejects", READ),
    Route("GET", f"{JOB}/rejects/summary", READ),
    Route("GET", f"{JOB}/rejects.csv", READ),
    Route("GET", f"{JOB}/audit", READ),
    Route("POST", f"{JOB}/cancel", CONTROL),
    Route("POST", f"{JOB}/pause", CONTROL),
    Route("POST", f"{JOB}/resume", CONTROL),
    Route("POST", f"{JOB}/retry", CONTROL),
    Route("PATCH", JOB, CONTROL),
    Route("DELETE", JOB, CONTROL),
    Route("GET", f"{BASE}/datasets", UPLOAD | READ),
    Route("GET", f"{BASE}/datasets/{{name}}", UPLOAD | READ),
    Route("GET", f"{BASE}/stats", METRICS),  # of all owners together
)


@dataclass(frozen=True, slots=True)
class Found:
    """The route of a request and the parts of its path."""

    route: Route
    parts: Mapping[str, str]


class OtherMethods(RequestError):
    """The path takes other methods; `allow` names them."""

    code = "E_METHOD"

    def __init__(self, detail: str, *, allow: list[str]) -> None:
        super().__init__(detail, allow=allow)
        self.allow = allow


def find_route(routes: tuple[Route, ...], method: str, path: str) -> Found:
    """Return the route of a method on a decoded path.

    Raises RequestError (E_NOT_FOUND), or OtherMethods.
    """
    matches = [(route, found) for route in routes if (found := route.pattern.fullmatch(path))]
    if not matches:
        raise RequestError("there is nothing at this path", code="E_NOT_FOUND")
    for route, found in matches:
        if route.takes(method):
            return Found(route, found.groupdict())
    methods = {route.method for route, _ in matches}
    text = "this path does not take this method; Allow names those it does"
    raise OtherMethods(text, allow=sorted(methods | {"OPTIONS"} | ({"HEAD"} if "GET" in methods else set())))


def caller_of(scope: HTTPScope | WebsocketScope) -> Caller:
    """Return who a request comes from, as the guard has found out; nobody when it was not asked."""
    caller: Caller = scope["state"].get("caller", NOBODY)
    return caller
