"""Sending a file: as one request, or by the tus protocol, which after a break goes on where the server is."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import IO
from urllib.parse import quote, urlsplit
from uuid import UUID

import anyio
import httpx

from ingest.client.connection import BASE, CONNECT_S, Connection
from ingest.client.errors import ClientError, NotFound, ProblemError, Refused, ServerFault, TooMany, Unreachable
from ingest.client.values import Job

Progress = Callable[[int], object]

BLOCK_BYTES = 1024 * 1024

# While a file is sent the server may take its time: a slow disk, or a database that restarts, slows the sender down.
SILENCE_S = 300.0
UPLOAD_TIMEOUT = httpx.Timeout(SILENCE_S, connect=CONNECT_S)

# A broken upload is taken up again this often without a byte of progress.
TRIES = 8
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 10.0

# The server has another idea of the offset, or of who sends: an earlier request of ours, whose end we have not seen.
MISUNDERSTANDINGS = frozenset({"E_UPLOAD_OFFSET", "E_UPLOAD_TAKEN", "E_UPLOAD_BUSY"})

FILES = f"{BASE}/files"
TUS = {"Tus-Resumable": "1.0.0"}


class _Rest(httpx.AsyncByteStream):
    """The bytes of a file from where it stands to its end; no generator, so that nothing is left to close."""

    def __init__(self, file: IO[bytes], sent: int, on_progress: Progress) -> None:
        self._file = file
        self._sent = sent
        self._on_progress = on_progress

    def __aiter__(self) -> _Rest:
        return self

    async def __anext__(self) -> bytes:
        data = await anyio.to_thread.run_sync(self._file.read, BLOCK_BYTES)
        if not data:
            raise StopAsyncIteration
        self._sent += len(data)
        self._on_progress(self._sent)
        return data


async def put_file(
    connection: Connection, file: IO[bytes], filename: str, values: Mapping[str, str], on_progress: Progress
) -> Job:
    """Send a file as the body of one PUT. A break leaves nothing behind."""
    length = await _size(file) if file.seekable() else None
    path = f"{BASE}/upload/{quote(filename, safe='')}"
    rest = _Rest(file, 0, on_progress)
    options = {"params": dict(values), "headers": {"Content-Type": "text/csv"}, "timeout": UPLOAD_TIMEOUT}
    return connection.job_from(
        connection.object_from(await connection.send("PUT", path, rest, length=length, **options))
    )


async def speaks_tus(connection: Connection) -> bool:
    """Say whether the server takes resumable uploads."""
    try:
        response = await connection.ask("OPTIONS", FILES)
    except (NotFound, Refused):
        return False
    return "1.0.0" in response.headers.get("tus-version", "")


async def tus_file(
    connection: Connection, file: IO[bytes], filename: str, values: Mapping[str, str], on_progress: Progress
) -> Job:
    """Send a seekable file by tus 1.0. A break costs what was on its way; the upload goes on, TRIES times in a row."""
    size = await _size(file)
    metadata = {"filename": filename, **values}
    pairs = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in metadata.items())
    headers = {**TUS, "Upload-Length": str(size), "Upload-Metadata": pairs}
    created = await connection.ask("POST", FILES, headers=headers)
    path = urlsplit(created.headers.get("location", "")).path
    if not path:
        raise ClientError("the server made an upload, but did not say where", code="E_ANSWER")
    upload = _TusUpload(connection, file, size, path, on_progress)
    await upload.send(created)
    return await connection.job("GET", f"{BASE}/jobs/{await upload.job_id()}")


class _TusUpload:
    """An upload that the server has made."""

    def __init__(self, connection: Connection, file: IO[bytes], size: int, path: str, on_progress: Progress) -> None:
        self._connection = connection
        self._file = file
        self._size = size
        self._path = path
        self._on_progress = on_progress
        self._answer: httpx.Response

    async def send(self, created: httpx.Response) -> None:
        """Send what the server does not have, until it has everything."""
        self._answer, offset, tries, delay_s = created, 0, TRIES, FIRST_DELAY_S
        while offset < self._size:
            try:
                await self._patch(offset)
                reached = _offset(self._answer)
            except ClientError as error:
                if not tries or not _may_pass(error):
                    raise
                await anyio.sleep(delay_s * random.uniform(0.5, 1.5))
                tries, delay_s = tries - 1, min(delay_s * 2, LONGEST_DELAY_S)
                reached = await self._reached(offset)
            if reached > offset:
                tries, delay_s = TRIES, FIRST_DELAY_S
            offset = reached
            self._on_progress(offset)

    async def job_id(self) -> UUID:
        """Return the job that the upload has become, as the server's last answer names it."""
        url = self._answer.headers.get("ingest-job")
        if url is None:
            self._answer = await self._head()
            url = self._answer.headers.get("ingest-job", "")
        try:
            return UUID(PurePosixPath(urlsplit(url).path).name)
        except ValueError as error:
            raise ClientError("the server took the file, but did not name its job", code="E_ANSWER") from error

    async def _patch(self, offset: int) -> None:
        await anyio.to_thread.run_sync(self._file.seek, offset)
        headers = {**TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        rest = _Rest(self._file, offset, self._on_progress)
        self._answer = await self._connection.send(
            "PATCH", self._path, rest, length=self._size - offset, headers=headers, timeout=UPLOAD_TIMEOUT
        )

    async def _reached(self, offset: int) -> int:
        """Ask how far the server is; a server that is still away counts as a try without progress."""
        try:
            self._answer = await self._head()
        except ClientError as error:
            if not _may_pass(error):
                raise
            return offset
        return _offset(self._answer)

    async def _head(self) -> httpx.Response:
        return await self._connection.ask("HEAD", self._path, headers=TUS)


def _may_pass(error: ClientError) -> bool:
    """Whether it is worth asking the server how far it is."""
    # A HEAD is refused without a body, and so without a code.
    locked = isinstance(error, ProblemError) and error.status == HTTPStatus.LOCKED
    return locked or isinstance(error, Unreachable | ServerFault | TooMany) or error.code in MISUNDERSTANDINGS


def _offset(answer: httpx.Response) -> int:
    text = answer.headers.get("upload-offset", "")
    if not (text.isascii() and text.isdigit()):
        raise ClientError("the server did not say how much of the file it has", code="E_ANSWER")
    return int(text)


async def _size(file: IO[bytes]) -> int:
    """Return the length of a seekable file, in bytes, and stand at its beginning."""

    def measure() -> int:
        size = file.seek(0, 2)
        file.seek(0)
        return size

    return await anyio.to_thread.run_sync(measure)
