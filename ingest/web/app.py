"""The ASGI application: upload paths in front, the framework behind; what holds for every response is added here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import structlog
import trio
from hypercorn.typing import (
    ASGIFramework,
    ASGIReceiveCallable,
    ASGISendCallable,
    ASGISendEvent,
    HTTPScope,
    Scope,
)

from ingest.errors import IngestError, leaves
from ingest.settings import Settings
from ingest.web.api import Datasets, Jobs, create_api
from ingest.web.health import HealthSource
from ingest.web.metrics import MetricsPage
from ingest.web.previews import Previews, is_preview
from ingest.web.rejects import Rejects, Retrying
from ingest.web.uploads import Receiving, Uploads, is_upload

SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)

Handler = Callable[[HTTPScope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]

log = structlog.get_logger("ingest.access")


def create_app(
    *,
    settings: Settings,
    receiving: Receiving,
    jobs: Jobs,
    rejects: Rejects,
    retrying: Retrying,
    datasets: Datasets,
    health: HealthSource,
    metrics: MetricsPage,
    draining: trio.Event,
    health_only: bool = False,
) -> ASGIFramework:
    """Return the whole HTTP side as one ASGI application; from `draining` on it refuses uploads and is not ready.

    `health_only`: nothing but the health endpoints and the metrics, for a process that has no other clients.
    """
    uploads = Uploads(
        receiving,
        draining=draining,
        max_upload_bytes=settings.max_upload_bytes,
        upload_idle_s=settings.upload_idle_s,
    )
    previews = Previews(datasets, upload_idle_s=settings.upload_idle_s, max_record_bytes=settings.max_record_bytes)
    api = create_api(
        jobs=jobs,
        rejects=rejects,
        retrying=retrying,
        datasets=datasets,
        health=health,
        metrics=metrics,
        draining=draining,
        health_only=health_only,
    )

    async def app(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            in_front: Handler | None = None
            if not health_only:
                in_front = uploads if is_upload(scope["raw_path"]) else previews if is_preview(scope) else None
            await _serve(in_front or api, metrics, scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": None})  # nothing here speaks WebSocket

    return app


class Exchange:
    """Stands between a handler and the server: adds the headers of every response and counts for the access log."""

    def __init__(self, send: ASGISendCallable) -> None:
        self._send = send
        self.status: int | None = None  # None: the client left before an answer
        self.sent_bytes = 0

    async def send(self, message: ASGISendEvent) -> None:
        """Pass a message on to the server."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message["headers"], *SECURITY_HEADERS]}
        elif message["type"] == "http.response.body":
            self.sent_bytes += len(message["body"])
        await self._send(message)


async def _serve(
    handler: Handler, metrics: MetricsPage, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    exchange, begun = Exchange(send), trio.current_time()
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
            method=scope["method"],
            path=scope["path"],
            status=exchange.status,
            seconds=round(seconds, 4),
            bytes=exchange.sent_bytes,
        )
