"""`POST /preview`: the first bytes of a file are looked at, and nothing is kept.

In front of the framework, like uploads, because the body is larger than any other that is held in memory.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ingest import datasets
from ingest.caller import Caller
from ingest.definitions.preview import preview
from ingest.dialectoptions import DIALECT_OPTIONS, dialect_of
from ingest.errors import FileError, IngestError, RequestError
from ingest.unpacking import unpacked_start
from ingest.web.access import caller_of
from ingest.web.answering import contained, respond
from ingest.web.answers import BASE, Answer, json_answer, problem_answer
from ingest.web.body import Body
from ingest.web.options import query
from ingest.web.problems import http_problem

PREVIEW_PATH = f"{BASE}/preview".encode()
PREVIEW_OPTIONS = ("dataset", *DIALECT_OPTIONS)
MOST_BYTES = 1024 * 1024

log = structlog.get_logger("ingest.web")


class DatasetSource(Protocol):
    """What a preview asks about datasets."""

    async def find(self, name: str, caller: Caller) -> datasets.Dataset: ...


def is_preview(scope: HTTPScope) -> bool:
    """Say whether a request is for a preview."""
    return scope["raw_path"] == PREVIEW_PATH


class Previews:
    """The ASGI application of the preview path."""

    def __init__(self, source: DatasetSource, *, upload_idle_s: float, max_record_bytes: int) -> None:
        self._source = source
        self._upload_idle_s = upload_idle_s
        self._max_record_bytes = max_record_bytes

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Take one request and answer it."""
        body = Body(receive, limit_bytes=MOST_BYTES, idle_s=self._upload_idle_s)
        await respond(await contained(self._answer(scope, body), "preview_crashed"), body, send)

    async def _answer(self, scope: HTTPScope, body: Body) -> Answer:
        if scope["method"] != "POST":
            return problem_answer(http_problem(405, "use POST here", (("Allow", "POST"),)))
        try:
            return await self._look(query(scope["query_string"], PREVIEW_OPTIONS), body, caller_of(scope))
        except IngestError as error:
            raise _for_a_sample(error) from error

    async def _look(self, values: dict[str, str], body: Body, caller: Caller) -> Answer:
        dialect_of(values)  # refused before a byte is taken
        dataset = await self._source.find(values.get("dataset") or "auto", caller)
        data = bytearray()
        while piece := await body.next():
            data += piece
        start = await trio.to_thread.run_sync(unpacked_start, bytes(data))
        return json_answer(200, await self._preview(start, dataset, values))

    async def _preview(self, start: bytes, dataset: datasets.Dataset, values: dict[str, str]) -> dict[str, Any]:
        """Detection may take a while, and must not keep the others waiting."""
        told = {name: text for name, text in values.items() if name in DIALECT_OPTIONS}
        look = partial(preview, max_record_bytes=self._max_record_bytes, told=told)
        return await trio.to_thread.run_sync(look, start, dataset, dialect_of(values))


def _for_a_sample(error: IngestError) -> IngestError:
    """Return the error in words that fit a part of a file."""
    if error.code == "E_TOO_LARGE":
        text = f"a preview takes the first {MOST_BYTES} bytes of a file: send no more"
        return RequestError(text, code=error.code, max_bytes=MOST_BYTES)
    if error.code in ("E_QUOTE_OPEN", "E_RECORD_TOO_LARGE"):
        return FileError(f"the header is not complete: {error.detail}", code=error.code, **error.facts)
    return error
