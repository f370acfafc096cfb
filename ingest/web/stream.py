"""Live progress: who may read along with a job, and what is told when; `tellers` says it as events or by WebSocket.

`progress` with the whole job while it changes, a heartbeat while it does not, and last `completed`, `failed`,
`cancelled` or `deleted`. A service that stops says `goodbye`, so that the client connects elsewhere. Since each event
is the whole job, a client that comes back has missed nothing once it is told how the job stands now.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog
import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

from ingest.errors import IngestError, RequestError, UnavailableError
from ingest.job import FINAL
from ingest.watching import Reader, Tidings, Watching
from ingest.web.answers import BASE, Answer, problem_answer
from ingest.web.atonce import at_once_of
from ingest.web.body import Body
from ingest.web.options import job_id_from, query
from ingest.web.problems import http_problem, internal_problem, problem
from ingest.web.standing import Standing
from ingest.web.tellers import STREAM_HEADERS, EventStream, Socket, Teller

STREAM_PATH = re.compile(rf"{BASE}/jobs/([^/]*)/(stream|ws)".encode())
METHODS = "GET, HEAD, OPTIONS"

HEARTBEAT_S = 15.0
# How long a client may take to read the goodbye, and by how much it can so hold up the stop of the service.
GOODBYE_S = 0.5
# A request for a stream has no body; what comes nevertheless is dropped, and not waited for.
BODY_BYTES = 64 * 1024
BODY_S = 2.0
# Readers at the same time in this process; each costs a socket and some tens of KB.
MAX_STREAMS = 1000
# A first answer is there after one look at the database; two that do not come back are one too many.
FIRST_S = 11.0

log = structlog.get_logger("ingest.web")


def is_stream(raw_path: bytes) -> bool:
    """Say whether a request path is one of the stream paths."""
    return STREAM_PATH.fullmatch(raw_path) is not None


@dataclass(frozen=True, slots=True)
class Admitted:
    """A client that is let in: its place among the readers of a job, what it is told first, and how it leaves."""

    reader: Reader
    first: Tidings
    standing: Standing
    leaving: ExitStack


class Streams:
    """The ASGI application of the stream paths, for HTTP and for WebSocket.

    Whether there is such a job is found by the look that serves all readers, so that hundreds who come at once, as
    after a restart, cost the database one query.
    """

    def __init__(self, watching: Watching, *, draining: trio.Event) -> None:
        self._watching = watching
        self._draining = draining

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Serve one client until its stream ends or it leaves. Cancellation breaks the stream off."""
        if scope["type"] == "http":
            body = Body(receive, limit_bytes=BODY_BYTES, idle_s=BODY_S)
            await body.discard(limit_bytes=BODY_BYTES, limit_s=BODY_S)
            await self._serve(scope, EventStream(body, send, at_once_of(scope)), _last_event_id(scope["headers"]))
        elif scope["type"] == "websocket":
            await self._serve(scope, Socket(receive, send), 0)

    async def _serve(self, scope: Any, teller: Teller, seen: int) -> None:
        found = await self._admit(scope)
        if isinstance(found, Answer):
            await teller.refuse(found)
            return
        with found.leaving:
            await self._stream(found, teller, seen)

    async def _admit(self, scope: Any) -> Admitted | Answer:
        """Return a place among the readers, or the answer for a request that gets no stream."""
        try:
            return _other_answer(scope) or await self._find(scope)
        except IngestError as error:
            return problem_answer(problem(error))
        except Exception:  # a bug must cost its own request only, and leave its traceback in the log
            log.exception("stream_crashed")
            return problem_answer(internal_problem())

    async def _find(self, scope: Any) -> Admitted | Answer:
        job_id = _job_of(scope)
        query(scope["query_string"], ())
        if self._watching.readers >= MAX_STREAMS:
            raise RequestError("too many clients read along; try again in a moment", code="E_TOO_MANY_STREAMS")
        with ExitStack() as following:
            reader = following.enter_context(self._watching.follow(job_id))
            first = await reader.next(FIRST_S)
            if first is None:
                raise UnavailableError("the database does not answer")
            if first.view is None:
                raise _no_job(str(job_id))
            if scope.get("method") == "HEAD":
                return Answer(200, STREAM_HEADERS, b"")
            return Admitted(reader, first, Standing(scope), following.pop_all())

    async def _stream(self, admitted: Admitted, teller: Teller, seen: int) -> None:
        await teller.begin()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as telling:
                nursery.start_soon(_end_with_client, teller, telling)
                nursery.start_soon(_end_with_service, self._draining, admitted.reader, telling)
                await self._tell(admitted, teller, seen)
            await teller.end()
            nursery.cancel_scope.cancel(reason="stream ended")

    async def _tell(self, admitted: Admitted, teller: Teller, seen: int) -> None:
        """Tell what there is until the job, the service or the right to read ends: one state at least, then goodbye."""
        tidings: Tidings | None = admitted.first
        numbers = Numbers(seen)
        admitted.reader.at_once = partial(self._tell_at_once, admitted.standing, teller, numbers)
        while await admitted.standing.lasts():
            if tidings is not None:
                await teller.tell(tidings, numbers.next())
                if is_last(tidings):
                    return
            elif not self._draining.is_set():
                await teller.heartbeat()
            if self._draining.is_set():
                await teller.goodbye()
                return
            tidings = await admitted.reader.next(HEARTBEAT_S)
        await teller.dismiss()

    def _tell_at_once(self, standing: Standing, teller: Teller, numbers: Numbers, tidings: Tidings) -> bool:
        """Tell what is neither the end nor in need of a look at the key, for a client whose task only waits."""
        if is_last(tidings) or self._draining.is_set() or not standing.is_fresh:
            return False
        return teller.tell_at_once(tidings, numbers.next())


class Numbers:
    """The numbers of a stream's events: microseconds since 1970, or more; they grow, and go on from what was `seen`."""

    def __init__(self, seen: int) -> None:
        self._last = seen

    def next(self) -> int:
        """Return the next one."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last


def is_last(tidings: Tidings) -> bool:
    """Tell whether nothing follows: the job has ended or is gone."""
    return tidings.view is None or tidings.view.status in FINAL


async def _end_with_client(teller: Teller, telling: trio.CancelScope) -> None:
    await teller.wait_gone()
    telling.cancel(reason="client disconnected")


async def _end_with_service(draining: trio.Event, reader: Reader, telling: trio.CancelScope) -> None:
    """Bound what is still told when the service stops: a client that does not read must not hold it up."""
    await draining.wait()
    telling.deadline = trio.current_time() + GOODBYE_S
    reader.wake()


def _other_answer(scope: Any) -> Answer | None:
    """Return the answer for a request that is not for a stream at all."""
    if scope["type"] != "http":
        return None
    if scope["method"] == "OPTIONS":
        return Answer(200, (("Allow", METHODS), ("Content-Length", "0")), b"")
    if scope["method"] not in ("GET", "HEAD"):
        return problem_answer(http_problem(405, f"use one of {METHODS} here", (("Allow", METHODS),)))
    if scope["raw_path"].endswith(b"/ws"):
        upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
        return problem_answer(http_problem(426, "this path speaks WebSocket; /stream tells the same by HTTP", upgrade))
    return None


def _job_of(scope: Any) -> UUID:
    found = STREAM_PATH.fullmatch(scope["raw_path"])
    if found is None or (scope["type"] == "websocket") != (found[2] == b"ws"):
        raise RequestError("there is no WebSocket at this path", code="E_NOT_FOUND")
    text = found[1].decode("latin-1")
    job_id = job_id_from(text)
    if job_id is None:
        raise _no_job(text)
    return job_id


def _no_job(job_id: str) -> RequestError:
    return RequestError(f"there is no job {job_id!r}", code="E_NOT_FOUND")


def _last_event_id(headers: Any) -> int:
    """Return the number of the last event that a client has seen; 0 for a text that is none of our numbers."""
    value = dict(headers).get(b"last-event-id", b"")
    return int(value) if value.isdigit() and len(value) <= 18 else 0
