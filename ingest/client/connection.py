"""The connection: requests go out with the key, and whatever is no success comes back as a ClientError."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx

from ingest.client.errors import ClientError, Unreachable, problem_error
from ingest.client.values import Job

BASE = "/api/v1/csv"

CONNECT_S = 10.0

# A problem object is small; what is longer is not the service's.
MAX_PROBLEM_BYTES = 1024 * 1024


class Connection:
    """HTTP to one server."""

    def __init__(self, server: str, api_key: str | None, timeout_s: float) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ClientError("the server must be given as http://host:port or https://host:port", code="E_OPTION")
        self.server = server.rstrip("/")
        headers = {} if api_key is None else {"Authorization": f"Bearer {_header_value(api_key)}"}
        self._http = httpx.AsyncClient(
            base_url=self.server, headers=headers, timeout=httpx.Timeout(timeout_s, connect=CONNECT_S)
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request and return its answer when it is a success. Raises ClientError."""
        return await self._send(self._http.build_request(method, path, **options))

    async def send(
        self, method: str, path: str, body: httpx.AsyncByteStream, *, length: int | None, **options: Any
    ) -> httpx.Response:
        """The same with a body that is read while it is sent; `length` in bytes, None when nobody knows it."""
        request = self._http.build_request(method, path, **options)
        # Set by hand: httpx would wrap the body into a generator, and leave that open when the connection breaks.
        request.stream = body
        del request.headers["Content-Length"]
        if length is None:
            request.headers["Transfer-Encoding"] = "chunked"
        else:
            request.headers["Content-Length"] = str(length)
        return await self._send(request)

    async def json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The same for an answer that is a JSON object."""
        return self.object_from(await self.ask(method, path, **options))

    async def job(self, method: str, path: str, **options: Any) -> Job:
        """The same for an answer that is a job."""
        return self.job_from(await self.json(method, path, **options))

    @asynccontextmanager
    async def stream(self, method: str, path: str, **options: Any) -> AsyncIterator[httpx.Response]:
        """Send a request whose answer is read piece by piece. Raises ClientError, while it is read too."""
        try:
            async with self._http.stream(method, path, **options) as response:
                await self._check(response)
                yield response
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def open(self, path: str, headers: Mapping[str, str], timeout_s: float) -> httpx.Response:
        """The same for an answer that the caller closes; what is raised while it is read is httpx's."""
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_S)
        request = self._http.build_request("GET", path, headers=headers, timeout=timeout)
        try:
            response = await self._http.send(request, stream=True)
            try:
                await self._check(response)
            except BaseException:
                await response.aclose()
                raise
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        return response

    def object_from(self, response: httpx.Response) -> dict[str, Any]:
        """Read a JSON object. Raises ClientError when it is none."""
        try:
            found = response.json()
        except ValueError as error:
            raise self._strange() from error
        if not isinstance(found, dict):
            raise self._strange()
        return found

    def job_from(self, raw: Mapping[str, Any]) -> Job:
        """Read a job. Raises ClientError when it is none."""
        try:
            return Job.from_json(raw)
        except (KeyError, TypeError, ValueError) as error:
            raise self._strange() from error

    async def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        body = b""
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > MAX_PROBLEM_BYTES:
                break
        raise problem_error(response.status_code, response.headers, body)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            response = await self._http.send(request)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        if not response.is_success:
            raise problem_error(response.status_code, response.headers, response.content)
        return response

    def _strange(self) -> ClientError:
        return ClientError(f"what answers at {self.server} is not ingest, or another version of it", code="E_ANSWER")

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        # httpx's own words: they name no key, and no more of the address than was given.
        reason = str(error) or type(error).__name__
        return Unreachable(f"the server at {self.server} cannot be reached: {reason}")


async def end_reading(pieces: AsyncIterator[Any]) -> None:
    """End the reading of an answer in the middle.

    httpx nests generators, and closing the outermost leaves the inner ones to the garbage collector, of which Trio
    warns. A read that is cancelled ends them all.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        async for _ in pieces:
            pass


def _header_value(key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ClientError("the API key holds characters that no key has", code="E_OPTION")
    return key
