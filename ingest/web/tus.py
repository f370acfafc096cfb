"""`/files`: resumable uploads by the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload).

In front of the framework, like the other uploads. What a request brings is acknowledged when it is on the disk; when a
request ends early, what came before counts, except under a checksum, which holds for all of the request or for nothing.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from uuid import UUID

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope

from ingest.admission import too_large
from ingest.errors import IngestError, RequestError
from ingest.held import Held
from ingest.resumable import Resumable
from ingest.uploadrows import UploadRow, no_upload
from ingest.web import tusheaders
from ingest.web.access import caller_of
from ingest.web.answering import respond
from ingest.web.answers import BASE, Answer, job_path, problem_answer
from ingest.web.body import Body
from ingest.web.options import UPLOAD_OPTIONS, check_option, job_id_from, label, query, upload_options
from ingest.web.problems import http_problem, internal_problem, problem
from ingest.web.tusrequest import Request
from ingest.web.uploads import UNNAMED, name_allowed

FILES_PATH = f"{BASE}/files"
PREFIX = FILES_PATH.encode()
METHODS = {False: ("OPTIONS", "POST"), True: ("DELETE", "HEAD", "OPTIONS", "PATCH")}

# Headers that promise the client something this version does not do; ignoring them would be a lie.
UNSUPPORTED = (b"idempotency-key", b"content-digest", b"repr-digest")

# What a request without a body may still send before it is answered.
STRAY_BYTES = 64 * 1024
STRAY_S = 5.0

Header = tuple[str, str]

log = structlog.get_logger("ingest.web")


def is_tus(raw_path: bytes) -> bool:
    """Say whether a request path is one of the resumable uploads."""
    return raw_path == PREFIX or raw_path.startswith(PREFIX + b"/")


class Tus:
    """The ASGI application of the resumable uploads."""

    def __init__(
        self, uploads: Resumable, *, draining: trio.Event, max_upload_bytes: int, upload_idle_s: float
    ) -> None:
        self._uploads = uploads
        self._draining = draining
        self._max_upload_bytes = max_upload_bytes
        self._upload_idle_s = upload_idle_s

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Answer one request. Cancelled, what it has not acknowledged is lost; the upload can be gone on with."""
        body = Body(receive, limit_bytes=self._max_upload_bytes, idle_s=self._upload_idle_s)
        fields = {key.lower(): value for key, value in scope["headers"]}
        method = scope["method"]
        if method == "POST":
            method = fields.get(b"x-http-method-override", b"POST").decode("latin-1").upper()
        name = scope["raw_path"][len(PREFIX) + 1 :].decode("latin-1")
        answer = await self._answer(Request(method, name, scope["query_string"], fields, body, caller_of(scope)))
        await respond(replace(answer, headers=answer.headers + tusheaders.OWN), body, send)

    async def _answer(self, request: Request) -> Answer:
        try:
            return await self._dispatch(request)
        except IngestError as error:
            log.info("upload_refused", code=error.code, bytes=request.body.received_bytes)
            return _refusal(request, error)
        except Exception:  # a bug must cost its own request only, and leave its traceback in the log
            log.exception("upload_crashed")
            return problem_answer(internal_problem())

    async def _dispatch(self, request: Request) -> Answer:
        allowed = METHODS[bool(request.name)]
        if request.method not in allowed:
            text = "POST /files begins an upload; HEAD, PATCH and DELETE /files/{id} go on with it"
            return problem_answer(http_problem(405, text, (("Allow", ", ".join(allowed)),)))
        if request.method == "OPTIONS":
            return await self._tell(request)
        tusheaders.check_version(request.fields)
        if self._draining.is_set() and request.method != "HEAD":
            raise RequestError("the service is stopping; go on in a moment", code="E_DRAINING")
        if request.method == "POST":
            return await self._create(request)
        query(request.query, ())
        upload_id = job_id_from(request.name)
        if upload_id is None:
            raise no_upload(request.name)
        answers = {"HEAD": self._look, "PATCH": self._patch, "DELETE": self._remove}
        return await answers[request.method](request, upload_id)

    async def _tell(self, request: Request) -> Answer:
        await request.body.discard(limit_bytes=STRAY_BYTES, limit_s=STRAY_S)
        told = (
            ("Tus-Version", tusheaders.VERSION),
            ("Tus-Extension", tusheaders.EXTENSIONS),
            ("Tus-Max-Size", str(self._max_upload_bytes)),
            ("Tus-Checksum-Algorithm", ",".join(tusheaders.ALGORITHMS)),
            ("Allow", ", ".join(METHODS[bool(request.name)])),
        )
        return Answer(204, told, b"")

    async def _create(self, request: Request) -> Answer:
        for field in UNSUPPORTED:
            if field in request.fields:
                text = f"the header {field.decode()} is not supported here; Upload-Checksum is"
                raise RequestError(text, code="E_OPTION_UNSUPPORTED", option=field.decode())
        length = tusheaders.new_length(request.fields)
        values = query(request.query, UPLOAD_OPTIONS, others=True)
        filename, given = tusheaders.split_metadata(tusheaders.metadata(request.fields))
        for name, value in given.items():
            check_option(name, value, UPLOAD_OPTIONS, others=True)
        check = self._check_body(request) if request.brings_bytes else None
        options = upload_options({**values, **given}, filename=label(filename) or UNNAMED, bytes_total=length)
        options = replace(options, caller=request.caller)
        metadata = request.fields.get(b"upload-metadata", b"").decode("latin-1")
        try:
            row = await self._uploads.create(options, length, metadata)
        except RequestError as error:
            name_allowed(error)
            raise
        headers: tuple[Header, ...] = (("Location", f"{FILES_PATH}/{row.id}"),)
        if not request.brings_bytes and length != 0:
            await request.body.discard(limit_bytes=STRAY_BYTES, limit_s=STRAY_S)
            return Answer(201, (*headers, *_progress(row)), b"")
        try:
            async with self._uploads.hold(row.id, request.caller) as held:
                await self._take(held, request, check)
            return Answer(201, (*headers, *await self._told(held)), b"")
        except IngestError:
            # The client will never know where it is, and sends the file again: it must not be loaded beside that one.
            with suppress(IngestError):
                await self._uploads.remove(row.id, request.caller)
            raise

    async def _look(self, request: Request, upload_id: UUID) -> Answer:
        """Say how far the upload is. It is taken over by this too, so that the answer is the last word."""
        await request.body.discard(limit_bytes=STRAY_BYTES, limit_s=STRAY_S)
        async with self._uploads.hold(upload_id, request.caller) as held:
            await held.follow(patient=False)  # cuts what a request that died has left
        told, row = await self._told(held), held.row
        length = ("Upload-Defer-Length", "1") if row.length is None else ("Upload-Length", str(row.length))
        metadata = (("Upload-Metadata", row.metadata),) if row.metadata else ()
        return Answer(200, (*told, length, *metadata), b"")

    async def _patch(self, request: Request, upload_id: UUID) -> Answer:
        start, length = tusheaders.offset(request.fields), tusheaders.length(request.fields)
        check = self._check_body(request)
        if length is not None and length > self._max_upload_bytes:
            raise too_large(self._max_upload_bytes)
        async with self._uploads.hold(upload_id, request.caller) as held:
            if start != held.row.received:
                text = f"Upload-Offset is {start}, but {held.row.received} bytes are there"
                raise RequestError(text, code="E_UPLOAD_OFFSET", offset=held.row.received)
            if length is not None:
                await held.set_length(length)
            await self._take(held, request, check)
        return Answer(204, await self._told(held), b"")

    async def _remove(self, request: Request, upload_id: UUID) -> Answer:
        await request.body.discard(limit_bytes=STRAY_BYTES, limit_s=STRAY_S)
        await self._uploads.remove(upload_id, request.caller)
        return Answer(204, (), b"")

    async def _told(self, held: Held) -> tuple[Header, ...]:
        """Say how far an upload is; of one that is whole, what has become of it, if that does not take too long."""
        if held.row.whole:
            held.row = await self._uploads.settle(held.row)
        return (*_progress(held.row), *_job(held))

    def _check_body(self, request: Request) -> tusheaders.Checksum | None:
        found = request.fields.get(b"content-type", b"").split(b";")[0].strip().lower()
        if found != tusheaders.MEDIA_TYPE:
            text = f"the Content-Type must be {tusheaders.MEDIA_TYPE.decode()}"
            raise RequestError(text, code="E_MEDIA_TYPE")
        if request.fields.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            raise RequestError("the bytes must be sent as they are, without Content-Encoding", code="E_MEDIA_TYPE")
        return tusheaders.checksum(request.fields)

    async def _take(self, held: Held, request: Request, check: tusheaders.Checksum | None) -> None:
        """Take the bytes of a request into an upload, and cut what is safe."""
        self._check_room(held, request.content_length or 0)
        if check is None:
            request.body.waiting = held.keep_safe
        while data := await self._next(held, request.body, check):
            self._check_room(held, len(data))
            if check is not None:
                check.update(data)
            await held.write(data)
            if check is None and held.due:
                await held.acknowledge()
                await held.follow()
        if check is not None:
            check.verify()
        await held.acknowledge()
        await held.follow()

    async def _next(self, held: Held, body: Body, check: tusheaders.Checksum | None) -> bytes:
        try:
            return await held.next(body.next)
        except RequestError:
            if check is None:  # the request ends early, but what has come is good
                await held.acknowledge()
            raise

    def _check_room(self, held: Held, size: int) -> None:
        limit = self._max_upload_bytes if held.row.length is None else held.row.length
        if held.offset + size > limit:
            text = f"the bytes go beyond the {limit} of the whole upload"
            raise RequestError(text, code="E_TOO_LARGE", limit_bytes=limit)


def _refusal(request: Request, error: IngestError) -> Answer:
    answer = problem_answer(problem(error))
    if error.code == "E_TUS_VERSION":
        return replace(answer, headers=(*answer.headers, ("Tus-Version", tusheaders.VERSION)))
    if request.method == "HEAD" and (answer.status in (409, 429) or answer.status >= 500):
        # Clients take any other refusal of HEAD for the end of the upload, and send the file again from its first byte.
        return replace(answer, status=423)
    return answer


def _progress(row: UploadRow) -> tuple[Header, ...]:
    offset = ("Upload-Offset", str(row.received))
    return (offset,) if row.completed else (offset, ("Upload-Expires", tusheaders.http_date(row.expires_at)))


def _job(held: Held) -> tuple[Header, ...]:
    return () if held.job_id is None else (("Ingest-Job", job_path(held.job_id)),)
