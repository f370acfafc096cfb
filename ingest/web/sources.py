"""`POST /jobs`: load a file that lies where the service can read it, in place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ingest.errors import IngestError, RequestError
from ingest.job import JobView
from ingest.uploadoptions import UploadOptions
from ingest.web.access import caller_of
from ingest.web.answering import contained, respond
from ingest.web.answers import BASE, Answer, job_body, job_path, json_answer
from ingest.web.body import Body
from ingest.web.options import UPLOAD_OPTIONS, check_option, label, query, upload_options
from ingest.web.uploads import UNNAMED, name_allowed

JOBS_PATH = f"{BASE}/jobs".encode()
MOST_BYTES = 64 * 1024
MOST_URL_CHARS = 8192

log = structlog.get_logger("ingest.web")


class Loading(Protocol):
    """What starts the load of a file, as `ingest.sources` offers it."""

    async def find(self, url: str) -> Path: ...

    async def start(self, path: Path, options: UploadOptions) -> JobView: ...


def is_source(scope: HTTPScope) -> bool:
    """Say whether a request asks for a file to be loaded in place."""
    return scope["raw_path"] == JOBS_PATH and scope["method"] == "POST"


class SourceJobs:
    """The ASGI application of `POST /jobs`."""

    def __init__(self, sources: Loading, *, draining: trio.Event, upload_idle_s: float) -> None:
        self._sources = sources
        self._draining = draining
        self._upload_idle_s = upload_idle_s

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Take one request and answer it."""
        body = Body(receive, limit_bytes=MOST_BYTES, idle_s=self._upload_idle_s)
        await respond(await contained(self._answer(scope, body), "source_crashed"), body, send)

    async def _answer(self, scope: HTTPScope, body: Body) -> Answer:
        try:
            return await self._start(scope, body)
        except RequestError as error:
            name_allowed(error)
            raise
        except IngestError as error:
            log.info("source_refused", code=error.code)
            raise

    async def _start(self, scope: HTTPScope, body: Body) -> Answer:
        if self._draining.is_set():
            raise RequestError("the service is stopping; ask again in a moment", code="E_DRAINING")
        query(scope["query_string"], ())
        headers = {key.lower(): value for key, value in scope["headers"]}
        if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
            raise RequestError("the Content-Type must be application/json", code="E_MEDIA_TYPE")
        values = await _values(body)
        source, filename = values.pop("source", ""), values.pop("filename", "")
        for name, value in values.items():
            check_option(name, value, UPLOAD_OPTIONS, others=True)
        if not source or len(source) > MOST_URL_CHARS:
            raise RequestError("source is missing: say which file to load", code="E_OPTION", option="source")
        path = await self._sources.find(source)
        options = upload_options(values, filename=label(filename or path.name) or UNNAMED, bytes_total=None)
        view = await self._sources.start(path, replace(options, caller=caller_of(scope)))
        return json_answer(202, job_body(view), (("Location", job_path(view.id)),))


async def _values(body: Body) -> dict[str, str]:
    """Return the members of the body; numbers as text, as if they had come in a query."""
    data = bytearray()
    while piece := await body.next():
        data += piece
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON", code="E_OPTION") from error
    if not isinstance(found, dict):
        raise RequestError("the body must be a JSON object", code="E_OPTION")
    return {name: _text(name, value) for name, value in found.items() if value is not None}


def _text(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise RequestError(f"{name[:100]} must be a text or a whole number", code="E_OPTION", option=name[:100])
    return str(value)
