"""A server on a real socket that answers as a test says, so that it can break off where a real one rarely does."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

BASE = "/api/v1/csv"


def job_json(**changes: Any) -> dict[str, Any]:
    """JOB, as the API reference has it."""
    now = datetime(2026, 1, 2, tzinfo=UTC).isoformat()
    return {
        "id": str(uuid4()), "dataset": "public.t", "filename": "f.csv", "status": "processing", "mode": "batches",
        "priority": 5, "bytes_total": 10, "bytes_received": 10, "bytes_processed": 5, "total_rows": 2,
        "processed_rows": 1, "inserted_rows": 1, "updated_rows": 0, "unchanged_rows": 0, "skipped_rows": 0,
        "failed_rows": 0, "progress": 0.5, "rows_per_second": 10.0, "eta_seconds": None, "chunks": {"pending": 0},
        "error": None, "parent_id": None, "sha256": None, "created_at": now, "started_at": now, "completed_at": None,
        "updated_at": now, "something_new": 1, **changes,
    }  # fmt: skip


@dataclass
class Asked:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Scripted:
    """The server: `answer` is called for each request, with the handler to answer by; `asked` has them all."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answer: Callable[[Handler, Asked], None] = lambda handler, asked: handler.problem(404, "E_NOT_FOUND")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    scripted: Scripted

    def handle_any(self) -> None:
        """Keep the request and answer it; its body is read by the answer, or dropped with the connection."""
        asked = Asked(self.command, self.path, {name.lower(): value for name, value in self.headers.items()})
        self.scripted.asked.append(asked)
        self.scripted.answer(self, asked)

    do_GET = do_POST = do_PUT = do_PATCH = do_HEAD = do_OPTIONS = do_DELETE = handle_any

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def take(self, asked: Asked, most: int | None = None) -> None:
        """Read the body, or its first bytes."""
        if asked.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                asked.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        length = int(asked.headers.get("content-length", 0))
        asked.body = self.rfile.read(length if most is None else min(most, length))

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, payload: object, status: int = 200) -> None:
        """Send JSON."""
        self.send(status, json.dumps(payload).encode(), Content_Type="application/json")

    def problem(self, status: int, code: str, **facts: object) -> None:
        """Send a problem."""
        body = {"type": "urn:x", "title": "T", "status": status, "detail": f"detail of {code}", "code": code, **facts}
        headers = {"Retry_After": "0"} if status in (429, 503) else {}
        self.send(status, json.dumps(body).encode(), Content_Type="application/problem+json", **headers)

    def begin_stream(self) -> None:
        """Begin a stream of events, which ends with the connection."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, name: str, number: int, data: object) -> None:
        """Send an event."""
        self.wfile.write(f"event: {name}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode())
        self.wfile.flush()

    def drop(self) -> None:
        """Break the connection off."""
        self.close_connection = True
        self.connection.shutdown(2)


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    """Serve until the context ends."""
    scripted = Scripted()
    handler = type("Bound", (Handler,), {"scripted": scripted})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        scripted.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield scripted
        finally:
            server.shutdown()
            thread.join()


def id_of(job: dict[str, Any]) -> UUID:
    """The id of a job."""
    return UUID(job["id"])
