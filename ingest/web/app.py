"""The ASGI application: upload paths in front, the framework behind; what holds for every response is added here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    HTTPScope,
    Scope,
    WebsocketScope,
)

from ingest.errors import IngestError, leaves
from ingest.idempotency import RequestKeys
from ingest.resumable import Resumable
from ingest.settings import Settings
from ingest.watching import Watching
from ingest.web.access import caller_of
from ingest.web.api import Datasets, Jobs, create_api
from ingest.web.atonce import counted
from ingest.web.auth import Authenticator
from ingest.web.control import Control, Retrying
from ingest.web.guard import Guard, KeySource
from ingest.web.health import HealthSource
from ingest.web.metrics import MetricsPage
from ingest.web.previews import Previews, is_preview
from ingest.web.rejects import Rejects
from ingest.web.requests import completed, request_id_for
from ingest.web.sources import Loading, SourceJobs, is_source
from ingest.web.stream import Streams, is_stream
from ingest.web.tus import Tus, is_tus
from ingest.web.uploads import Receiving, Uploads, is_upload

Handler = Callable[[Any, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]

log = structlog.get_logger("ingest.access")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What the HTTP side is made of; from `draining` on it refuses uploads and is not ready."""

    settings: Settings
    keys: KeySource
    receiving: Receiving
    resumable: Resumable
    sources: Loading
    jobs: Jobs
    rejects: Rejects
    retrying: Retrying
    control: Control
    datasets: Datasets
    health: HealthSource
    request_keys: RequestKeys
    watching: Watching
    metrics: MetricsPage
    draining: trio.Event


def create_app(parts: Parts, *, health_only: bool = False) -> ASGIFramework:
    """Return the whole HTTP side as one ASGI application.

    `health_only`: nothing but the health endpoints and the metrics, for a process that has no other clients.
    """
    authenticator = Authenticator(parts.keys)
    api = _framework(parts, authenticator, health_only=health_only)
    streams = Streams(parts.watching, draining=parts.draining)
    in_front = _files(parts)
    guard = Guard(parts.settings, parts.keys, authenticator, probes_only=health_only)

    def handler_of(scope: HTTPScope) -> Handler:
        if health_only:
            return api
        if is_stream(scope["raw_path"]):
            return streams
        return next((handler for fits, handler in in_front if fits(scope)), api)

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            await _serve(guard.http(handler_of(scope)), parts.metrics, scope, receive, send)
        elif scope["type"] == "websocket":
            handler = guard.websocket(_no_websocket if health_only else streams)
            await _serve(handler, parts.metrics, scope, receive, send)

    return app


def _framework(parts: Parts, sessions: Authenticator, *, health_only: bool) -> ASGIFramework:
    """Return the application of the routes whose requests are a line of JSON at most."""
    return create_api(
        sessions=sessions,
        jobs=parts.jobs,
        rejects=parts.rejects,
        retrying=parts.retrying,
        control=parts.control,
        datasets=parts.datasets,
        health=parts.health,
        metrics=parts.metrics,
        draining=parts.draining,
        health_only=health_only,
    )


def _files(parts: Parts) -> tuple[tuple[Callable[[HTTPScope], bool], Handler], ...]:
    """Return the applications that take the bytes of files, or of requests for them, each with what it is for."""
    draining, idle_s, most = parts.draining, parts.settings.upload_idle_s, parts.settings.max_upload_bytes
    receiving, keys, record_bytes = parts.receiving, parts.request_keys, parts.settings.max_record_bytes
    tus = Tus(parts.resumable, draining=draining, max_upload_bytes=most, upload_idle_s=idle_s)
    uploads = Uploads(receiving, keys, draining=draining, max_upload_bytes=most, upload_idle_s=idle_s)
    return (
        (lambda scope: is_tus(scope["raw_path"]), tus),
        (is_source, SourceJobs(parts.sources, draining=draining, upload_idle_s=idle_s)),
        (lambda scope: is_upload(scope["raw_path"]), uploads),
        (is_preview, Previews(parts.datasets, upload_idle_s=idle_s, max_record_bytes=record_bytes)),
    )


async def _no_websocket(scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    await send({"type": "websocket.close", "code": 1000, "reason": None})  # nothing here speaks WebSocket


class Exchange:
    """Stands between a handler and the server: adds the headers of every response and counts for the access log."""

    def __init__(self, send: ASGISendCallable, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.status: int | None = None  # None: the client left before an answer
        self.sent_bytes = 0

    def count(self, sent_bytes: int) -> None:
        """Count what goes out another way."""
        self.sent_bytes += sent_bytes

    async def send(self, message: Any) -> None:
        """Pass a message on to the server."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self.status = message["status"]
            message = {**message, "headers": completed(message["headers"], self._request_id)}
        elif kind == "websocket.accept":
            self.status = 101
        elif kind == "websocket.send":
            self.sent_bytes += len(message["text"])
        elif kind in ("http.response.body", "websocket.http.response.body"):
            self.sent_bytes += len(message["body"])
        await self._send(message)


async def _serve(
    handler: Handler, metrics: MetricsPage, scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    request_id = request_id_for(scope)
    exchange, begun = Exchange(send, request_id), trio.current_time()
    counted(scope, exchange.count)
    structlog.contextvars.bind_contextvars(request_id=request_id)  # for this task, which serves this request alone
    try:
        await handler(scope, receive, exchange.send)
    except* IngestError as group:
        # A streamed answer that has begun cannot become a problem any more. It breaks off, which the client notices.
        codes = sorted({error.code for error in leaves(group)})
        log.warning("answer_broke_off", path=scope["path"], codes=codes, bytes=exchange.sent_bytes)
    finally:
        seconds = trio.current_time() - begun
        metrics.observe(scope, exchange.status, seconds)
        # Probes ask every few seconds for ever; query values may be personal and are left out.
        line = log.debug if scope["path"].startswith(("/health", "/metrics")) else log.info
        line(
            "http_request",
            method=scope.get("method", "GET"),
            path=scope["path"],
            status=exchange.status,
            seconds=round(seconds, 4),
            bytes=exchange.sent_bytes,
            owner=caller_of(scope).owner,
        )
