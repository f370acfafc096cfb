"""The routes over a job's rejects: pages, summary, the file to correct."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Mapping
from pathlib import PurePath
from typing import Any, Protocol
from urllib.parse import quote, urlencode
from uuid import UUID

from quart import Response
from quart.wrappers.response import ResponseBody

from ingest.errors import RequestError
from ingest.job import JobView
from ingest.rejects import RejectFilter, RejectPage
from ingest.web import options
from ingest.web.answers import Answer, job_path, json_answer

FILTERS = ("code", "column", "line", "resolved")
RESOLVED = {"true": True, "false": False, "all": None}
CURSOR = re.compile(r"([0-9]{1,18}),([0-9]{1,18})", re.ASCII)
LONGEST_LINE = 10**18 - 1


class Rejects(Protocol):
    """What the routes ask about rejects. Everything raises DatabaseError and is harmless to cancel."""

    async def page(
        self, job_id: UUID, wanted: RejectFilter, *, limit: int, page: int, after: tuple[int, int]
    ) -> RejectPage: ...

    async def summary(self, job_id: UUID) -> dict[str, Any]: ...

    async def export(self, job_id: UUID, *, resolved: bool | None) -> AsyncIterator[bytes]: ...


async def page_answer(rejects: Rejects, view: JobView, values: Mapping[str, str]) -> Answer:
    """Return a page of reasons by line: behind the cursor `after`, or by number; `next` links to what follows."""
    number, limit = options.page(values)
    if "page" in values and "after" in values:
        raise RequestError("page and after exclude each other", code="E_OPTION", option="after")
    after = _cursor(values["after"]) if "after" in values else (0, 0)
    wanted = RejectFilter(
        code=values.get("code") or None,
        column=values.get("column") or None,
        line=options.whole(values, "line", 0, 1, LONGEST_LINE) or None,
        resolved=_resolved(values, None),
    )
    found = await rejects.page(view.id, wanted, limit=limit, page=number, after=after)
    body = {"rejects": found.items, "page": number, "limit": limit, "total": found.total, "stored": found.stored}
    return json_answer(200, {**body, "rejected": view.failed_rows, "next": _next(view.id, values, limit, found.after)})


async def summary_answer(rejects: Rejects, view: JobView) -> Answer:
    """Return the reasons by column and code with their first examples, and the records they are about."""
    summary = await rejects.summary(view.id)
    return json_answer(200, {"total": view.failed_rows, "resolved": view.resolved_rows, **summary})


async def csv_answer(rejects: Rejects, view: JobView, values: Mapping[str, str], *, head_only: bool) -> Response:
    """Return the rejected records as a file, streamed; by default those that no corrected file has resolved.

    The first piece is read before the answer begins, so that a missing database is a problem, not a broken file.
    """
    pieces = await rejects.export(view.id, resolved=_resolved(values, False))
    first = await anext(pieces)
    headers = {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": disposition(f"{PurePath(view.filename).stem}.rejects.csv"),
    }
    response = Response(b"" if head_only else Pieces(first, pieces), 200, headers)
    response.headers.pop("Content-Length", None)  # how long it is nobody knows before it is made
    return response


class Pieces(ResponseBody):
    """The body of a streamed answer; no generator, so that nothing is left to close when the client leaves."""

    def __init__(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        self._first: bytes | None = first
        self._rest = rest

    async def __aenter__(self) -> Pieces:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Do nothing: between two pieces nothing is held."""

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._first is None:
            return await anext(self._rest)
        first, self._first = self._first, None
        return first


def disposition(filename: str) -> str:
    """Return the Content-Disposition of a download: the name in ASCII, and as it is for clients that read RFC 5987."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _resolved(values: Mapping[str, str], default: bool | None) -> bool | None:
    word = options.one_of(values, "resolved", tuple(RESOLVED))
    return default if word is None else RESOLVED[word]


def _next(job_id: UUID, values: Mapping[str, str], limit: int, after: tuple[int, int] | None) -> str | None:
    if after is None:
        return None
    cursor = urlsafe_b64encode(f"{after[0]},{after[1]}".encode()).decode()
    filters = {name: values[name] for name in FILTERS if name in values}
    return f"{job_path(job_id)}/rejects?{urlencode({**filters, 'limit': limit, 'after': cursor})}"


def _cursor(text: str) -> tuple[int, int]:
    try:
        found = CURSOR.fullmatch(urlsafe_b64decode(text.encode("ascii")).decode("ascii"))
    except ValueError:
        found = None
    if found is None:
        raise RequestError("after must be the cursor of a `next` link", code="E_OPTION", option="after")
    return int(found[1]), int(found[2])
