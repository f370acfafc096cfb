"""A tus client for tests: each request by itself, and as a socket that is cut or left hanging in the middle."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

from tests import canaries
from tests.acceptance.client import BASE, PATIENCE_S

FILES = f"{BASE}/files"
VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


def metadata(**values: str) -> dict[str, str]:
    """Return the header Upload-Metadata."""
    return {"Upload-Metadata": ",".join(f"{key} {b64encode(text.encode()).decode()}" for key, text in values.items())}


class Tus:
    """One service's resumable uploads; answers are returned as they are."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=PATIENCE_S, event_hooks=canaries.HOOKS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def request(
        self, method: str, path: str = FILES, *, content: bytes | None = None, headers: Mapping[str, str] = VERSION
    ) -> httpx.Response:
        """Send any request."""
        return self._http.request(method, path, content=content, headers=dict(headers))

    def create(self, length: int | None, dataset: str = "public.t", **options: str) -> str:
        """Begin an upload that must be accepted; returns its path."""
        size = {"Upload-Defer-Length": "1"} if length is None else {"Upload-Length": str(length)}
        answer = self.request("POST", headers=VERSION | size | metadata(filename="f.csv", dataset=dataset, **options))
        assert answer.status_code == 201, answer.text
        return answer.headers["Location"]

    def patch(self, path: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
        """Send bytes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request(
            "PATCH", path, content=data, headers=VERSION | BYTES | {"Upload-Offset": str(offset)} | named
        )

    def head(self, path: str) -> httpx.Response:
        """Ask how far an upload is."""
        return self.request("HEAD", path)

    def offset(self, path: str) -> int:
        """Return how far an upload is."""
        answer = self.head(path)
        assert answer.status_code == 200, answer.status_code
        return int(answer.headers["Upload-Offset"])

    def delete(self, path: str) -> httpx.Response:
        """Give an upload up."""
        return self.request("DELETE", path)

    def patching(self, path: str, offset: int, announced: int) -> socket.socket:
        """Begin a PATCH on a connection of its own, whose body is the caller's to send, or not."""
        host, port = self.url.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), PATIENCE_S)
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: t\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
            f"Content-Type: application/offset+octet-stream\r\nContent-Length: {announced}\r\n\r\n"
        )
        connection.sendall(head.encode())
        return connection


def job_of(answer: httpx.Response) -> str:
    """Return the id of the job that an answer names."""
    return str(answer.headers["Ingest-Job"]).removeprefix(f"{BASE}/jobs/")
