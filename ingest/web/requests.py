"""What every response carries: the id of its request, and headers that keep browsers from doing more than is meant."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hypercorn.typing import HTTPScope, WebsocketScope
from uuid_utils.compat import uuid7

# An id that a client or a proxy gives is taken when it can do no harm in a log, and is long enough to be one.
SANE_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._~-]{7,127}")

# The cookie in which a browser keeps the token of its session.
SESSION_COOKIE = "ingest_session"

# Answers are data: nothing in them may run, be framed, be guessed to be of another type, or be kept.
DEFAULT_HEADERS = (
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)

Pairs = Iterable[tuple[bytes, bytes]]


def request_id_for(scope: HTTPScope | WebsocketScope) -> str:
    """Return the id of a request: the client's own `X-Request-Id` if it is sane, else a new one."""
    for name, value in scope["headers"]:
        if name.lower() == b"x-request-id" and SANE_ID.fullmatch(value):
            return value.decode("ascii")
    return new_request_id()


def new_request_id() -> str:
    """Return an id that no other request has."""
    return str(uuid7())


def completed(headers: Pairs, request_id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response with those that every one has; what a handler says itself holds."""
    given = list(headers)
    names = {name.lower() for name, _ in given}
    ours = (*DEFAULT_HEADERS, (b"x-request-id", request_id.encode()))
    return [*given, *((name, value) for name, value in ours if name not in names)]
