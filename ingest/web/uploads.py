"""The upload paths: raw and multipart bodies, read straight from ASGI into `receiving`, with real back-pressure.

They sit in front of the framework, whose request body takes in whatever the client sends, as fast as it comes.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, Protocol, cast

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ingest.caller import Caller
from ingest.errors import IngestError, RequestError
from ingest.job import JobView
from ingest.receiving import UploadOptions
from ingest.web.access import caller_of
from ingest.web.answers import BASE, Answer, job_body, job_path, json_answer, problem_answer
from ingest.web.body import Body, BodyError, too_large
from ingest.web.form import Form
from ingest.web.multipart import boundary_of
from ingest.web.options import UPLOAD_OPTIONS, check_option, label, path_label, query, upload_options
from ingest.web.problems import http_problem, internal_problem, problem

UPLOAD_PATH = f"{BASE}/upload".encode()

# After an early answer the client is still sending. Closing at once would reset the connection and could destroy the
# answer before the client has read it, so a bounded amount is read and dropped: far more than socket buffers hold.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0

# A browser sends a part without a file name for a file field that was left empty.
UNNAMED = "unnamed"

# Headers that promise the client something this version does not do; ignoring them would be a lie.
LATER_HEADERS = (b"idempotency-key", b"content-digest", b"repr-digest")

log = structlog.get_logger("ingest.web")


class Upload(Protocol):
    """A file on its way in, as `receiving` offers it."""

    async def feed(self, data: bytes) -> None: ...

    async def finish(self) -> JobView: ...


class Receiving(Protocol):
    """The only place an upload's bytes go to."""

    def upload(self, options: UploadOptions) -> AbstractAsyncContextManager[Upload]: ...


def is_upload(raw_path: bytes) -> bool:
    """Say whether a request path is one of the upload paths."""
    return raw_path == UPLOAD_PATH or raw_path.startswith(UPLOAD_PATH + b"/")


class Uploads:
    """The ASGI application of the upload paths."""

    def __init__(
        self, receiving: Receiving, *, draining: trio.Event, max_upload_bytes: int, upload_idle_s: float
    ) -> None:
        self._receiving = receiving
        self._draining = draining
        self._max_upload_bytes = max_upload_bytes
        self._upload_idle_s = upload_idle_s

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Take one upload request and answer it. Cancellation aborts the upload; nothing of it stays behind."""
        body = Body(receive, limit_bytes=self._max_upload_bytes, idle_s=self._upload_idle_s)
        answer = await self._answer(scope, body)
        if not body.gone:
            await respond(answer, body, send)

    async def _answer(self, scope: HTTPScope, body: Body) -> Answer:
        try:
            return await self._take(scope, body)
        except IngestError as error:
            # Without the detail: the first record of a file without header is data, and the client has it anyway.
            log.info("upload_refused", code=error.code, bytes=body.received_bytes)
            return problem_answer(problem(error))
        except Exception:  # a bug must cost its own request only, and leave its traceback in the log
            log.exception("upload_crashed")
            return problem_answer(internal_problem())

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
        caller = caller_of(scope)
        if raw:
            return await self._take_raw(name, headers, values, body, caller)
        return await self._take_form(headers, values, body, caller)

    def _admit(self, headers: dict[bytes, bytes]) -> None:
        if self._draining.is_set():
            raise RequestError("the service is stopping; send the file again in a moment", code="E_DRAINING")
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            text = "compressed bodies are not supported in this version: send the file as it is"
            raise RequestError(text, code="E_MEDIA_TYPE")
        for name in LATER_HEADERS:
            if name in headers:
                text = f"the header {name.decode()} is not supported in this version"
                raise RequestError(text, code="E_OPTION_UNSUPPORTED", option=name.decode())
        if int(headers.get(b"content-length", b"0")) > self._max_upload_bytes:
            raise too_large(self._max_upload_bytes)

    async def _take_raw(
        self, name: bytes, headers: dict[bytes, bytes], values: dict[str, str], body: Body, caller: Caller
    ) -> Answer:
        if headers.get(b"content-type", b"").lower().startswith(b"multipart/"):
            raise RequestError("a form is sent with POST; the body here is the file itself", code="E_MEDIA_TYPE")
        length = headers.get(b"content-length")
        options = upload_options(values, filename=path_label(name), bytes_total=None if length is None else int(length))
        view = await self._store(replace(options, caller=caller), body)
        return json_answer(202, job_body(view), (("Location", job_path(view.id)),))

    async def _take_form(
        self, headers: dict[bytes, bytes], values: dict[str, str], body: Body, caller: Caller
    ) -> Answer:
        form = Form(body, boundary_of(headers.get(b"content-type", b"").decode("latin-1")))
        jobs: list[dict[str, Any]] = []
        try:
            await self._take_parts(form, values, jobs, caller)
        except RequestError as error:
            # Files before the fault are in: the client must learn their jobs from the problem.
            error.facts["jobs"] = jobs
            raise
        return json_answer(202, {"jobs": jobs})

    async def _take_parts(self, form: Form, values: dict[str, str], jobs: list[dict[str, Any]], caller: Caller) -> None:
        while (part := await form.next_part()) is not None:
            if part.filename is not None:
                # Options are the request's fault and stop it; what is found inside a file is that file's alone.
                filename = label(part.filename) or UNNAMED
                options = upload_options(values, filename=filename, bytes_total=None)
                jobs.append(await self._take_part(replace(options, caller=caller), form))
            else:
                value = await form.text()
                check_option(part.name, value, UPLOAD_OPTIONS, others=True)
                values[part.name] = value  # holds for the files after it, and wins over the query
        if not jobs:
            raise RequestError("the form has no file part", code="E_MULTIPART")

    async def _take_part(self, options: UploadOptions, form: Form) -> dict[str, Any]:
        try:
            return job_body(await self._store(options, form))
        except BodyError:
            raise
        except IngestError as refused:
            if refused.code == "E_OPTION":  # a parameter that the dataset does not take
                raise
            await form.skip()
            return problem(refused).body

    async def _store(self, options: UploadOptions, source: Body | Form) -> JobView:
        try:
            async with self._receiving.upload(options) as upload:
                while data := await source.next():
                    await upload.feed(data)
                return await upload.finish()
        except RequestError as error:
            if "parameters" in error.facts:
                error.facts["allowed"] = sorted({*UPLOAD_OPTIONS, *cast(list[str], error.facts["parameters"])})
            raise


async def respond(answer: Answer, body: Body, send: ASGISendCallable) -> None:
    """Send an answer; a client that is still sending its body gets the time to read it before the connection closes."""
    early = not body.ended
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    if early:
        headers.append((b"Connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    if early:
        await body.discard(limit_bytes=DRAIN_BYTES, limit_s=DRAIN_S)
    async with trio.open_nursery() as nursery:
        # Ending the response makes hypercorn queue a disconnect for us. With the queue full of body pieces that
        # nobody takes, the last send would wait for ever: so the queue is emptied meanwhile.
        nursery.start_soon(body.discard_all)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        nursery.cancel_scope.cancel(reason="answered")
