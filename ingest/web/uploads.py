"""The upload paths: raw and multipart bodies, read straight from ASGI into `receiving`, with real back-pressure.

They sit in front of the framework, whose request body takes in whatever the client sends, as fast as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, cast

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ingest.caller import Caller
from ingest.compression import Compression, compression_of_coding
from ingest.digests import Digest, digests_from
from ingest.errors import IngestError, RequestError
from ingest.idempotency import RequestKeys
from ingest.job import JobView
from ingest.receiving import UploadOptions
from ingest.web.access import caller_of
from ingest.web.answering import contained, respond
from ingest.web.answers import BASE, Answer, job_body, job_path, json_answer, problem_answer
from ingest.web.body import Body, BodyError, too_large
from ingest.web.form import Form
from ingest.web.keyed import FIELD, KeyedRequest, key_from, serve
from ingest.web.multipart import boundary_of
from ingest.web.options import UPLOAD_OPTIONS, check_option, label, path_label, query, upload_options
from ingest.web.problems import http_problem, problem

UPLOAD_PATH = f"{BASE}/upload".encode()

# A browser sends a part without a file name for a file field that was left empty.
UNNAMED = "unnamed"

# Over the bytes as sent, both: the representation of a compressed file is the compressed one (RFC 9530, 3.1).
DIGEST_FIELDS = ("Content-Digest", "Repr-Digest")

log = structlog.get_logger("ingest.web")


class Upload(Protocol):
    """A file on its way in, as `receiving` offers it."""

    async def feed(self, data: bytes) -> None: ...

    async def finish(self) -> JobView: ...

    async def stay(self) -> None: ...


class Receiving(Protocol):
    """The only place an upload's bytes go to."""

    def upload(self, options: UploadOptions) -> AbstractAsyncContextManager[Upload]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a request asks for; `values` grow with the fields of a form, `filename` is None for one."""

    filename: str | None
    headers: Mapping[bytes, bytes]
    values: dict[str, str]
    body: Body
    caller: Caller
    compression: Compression | None
    digests: tuple[Digest, ...]


def is_upload(raw_path: bytes) -> bool:
    """Say whether a request path is one of the upload paths."""
    return raw_path == UPLOAD_PATH or raw_path.startswith(UPLOAD_PATH + b"/")


class Uploads:
    """The ASGI application of the upload paths."""

    def __init__(
        self,
        receiving: Receiving,
        keys: RequestKeys,
        *,
        draining: trio.Event,
        max_upload_bytes: int,
        upload_idle_s: float,
    ) -> None:
        self._receiving = receiving
        self._keys = keys
        self._draining = draining
        self._max_upload_bytes = max_upload_bytes
        self._upload_idle_s = upload_idle_s

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Take one upload request and answer it. Cancellation aborts the upload; nothing of it stays behind."""
        body = Body(receive, limit_bytes=self._max_upload_bytes, idle_s=self._upload_idle_s)
        await respond(await contained(self._answer(scope, body), "upload_crashed"), body, send)

    async def _answer(self, scope: HTTPScope, body: Body) -> Answer:
        try:
            return await self._take(scope, body)
        except IngestError as error:
            # Without the detail: the first record of a file without header is data, and the client has it anyway.
            log.info("upload_refused", code=error.code, bytes=body.received_bytes)
            raise

    async def _take(self, scope: HTTPScope, body: Body) -> Answer:
        name = scope["raw_path"][len(UPLOAD_PATH) + 1 :]
        raw = scope["raw_path"] != UPLOAD_PATH
        method = "PUT" if raw else "POST"
        if scope["method"] != method:
            text = f"use {method} here: PUT /upload/{{filename}} takes a file, POST /upload a form"
            return problem_answer(http_problem(405, text, (("Allow", method),)))
        headers = {key.lower(): value for key, value in scope["headers"]}
        values = query(scope["query_string"], UPLOAD_OPTIONS, others=True)
        self._admit(headers)
        if raw and headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise RequestError("a form is sent with POST; the body here is the file itself", code="E_MEDIA_TYPE")
        asked = Asked(
            filename=path_label(name) if raw else None,
            headers=headers,
            values=values,
            body=body,
            caller=caller_of(scope),
            compression=compression_of_coding(b", ".join(fields(scope, "Content-Encoding")).decode("latin-1")),
            digests=_digests(scope),
        )
        take = partial(self._take_raw if raw else self._take_form, asked)
        request = (method, scope["path"])
        return await serve(self._keys, asked.caller.owner, key_from(fields(scope, FIELD)), request, take)

    def _admit(self, headers: dict[bytes, bytes]) -> None:
        if self._draining.is_set():
            raise RequestError("the service is stopping; send the file again in a moment", code="E_DRAINING")
        if b"-digest" in headers.get(b"trailer", b"").lower():
            # The server drops trailers. A check that was asked for and is not made would be a lie.
            text = "a digest cannot come as a trailer here: send it as a header"
            raise RequestError(text, code="E_OPTION_UNSUPPORTED", option="Trailer")
        if int(headers.get(b"content-length", b"0")) > self._max_upload_bytes:
            raise too_large(self._max_upload_bytes)

    async def _take_raw(self, asked: Asked, request: KeyedRequest) -> Answer:
        length = asked.headers.get(b"content-length")
        options = upload_options(
            asked.values, filename=asked.filename or UNNAMED, bytes_total=None if length is None else int(length)
        )
        options = replace(options, caller=asked.caller, compression=asked.compression, digests=asked.digests)
        view = await self._store(options, asked, asked.body, request)
        return json_answer(request.status, job_body(view), (("Location", job_path(view.id)),))

    async def _take_form(self, asked: Asked, request: KeyedRequest) -> Answer:
        if asked.compression or asked.digests:
            text = "a form takes neither a digest nor Content-Encoding: send such a file with PUT"
            raise RequestError(text, code="E_OPTION_UNSUPPORTED")
        form = Form(asked.body, boundary_of(asked.headers.get(b"content-type", b"").decode("latin-1")))
        jobs: list[dict[str, Any]] = []
        try:
            await self._take_parts(form, asked, jobs, request)
            request.check_end()
        except RequestError as error:
            # Files before the fault are in: the client must learn their jobs from the problem.
            error.facts["jobs"] = jobs
            raise
        return json_answer(request.status, {"jobs": jobs})

    async def _take_parts(self, form: Form, asked: Asked, jobs: list[dict[str, Any]], request: KeyedRequest) -> None:
        while (part := await form.next_part()) is not None:
            if part.filename is not None:
                # Options are the request's fault and stop it; what is found inside a file is that file's alone.
                filename = label(part.filename) or UNNAMED
                options = upload_options(asked.values, filename=filename, bytes_total=None)
                options = replace(options, caller=asked.caller)
                jobs.append(await self._take_part(options, asked, form, request))
            else:
                value = await form.text()
                check_option(part.name, value, UPLOAD_OPTIONS, others=True)
                asked.values[part.name] = value  # holds for the files after it, and wins over the query
        if not jobs:
            raise RequestError("the form has no file part", code="E_MULTIPART")

    async def _take_part(
        self, options: UploadOptions, asked: Asked, form: Form, request: KeyedRequest
    ) -> dict[str, Any]:
        try:
            return job_body(await self._store(options, asked, form, request))
        except BodyError:
            raise
        except IngestError as refused:
            if refused.code in ("E_OPTION", "E_KEY_REUSED"):  # the request's fault
                raise
            await form.skip()
            return problem(refused).body

    async def _store(self, options: UploadOptions, asked: Asked, source: Body | Form, request: KeyedRequest) -> JobView:
        options, repetition = await request.next_file(options, asked.values)
        if repetition is not None:
            while data := await source.next():
                await repetition.feed(data)
            return await repetition.finish()
        try:
            async with self._receiving.upload(options) as upload:
                asked.body.waiting = upload.stay
                while data := await source.next():
                    await upload.feed(data)
                return await upload.finish()
        except RequestError as error:
            name_allowed(error)
            raise
        finally:
            asked.body.waiting = None


def name_allowed(error: RequestError) -> None:
    """Let the refusal of a parameter say which options and parameters there are."""
    if "parameters" in error.facts:
        error.facts["allowed"] = sorted({*UPLOAD_OPTIONS, *cast(list[str], error.facts["parameters"])})


def fields(scope: HTTPScope, name: str) -> list[bytes]:
    """Return the values of all header fields of a name."""
    return [value for key, value in scope["headers"] if key.lower() == name.lower().encode()]


def _digests(scope: HTTPScope) -> tuple[Digest, ...]:
    found = ((name, b", ".join(fields(scope, name)).decode("latin-1")) for name in DIGEST_FIELDS if fields(scope, name))
    return tuple(digest for name, text in found for digest in digests_from(name, text))
