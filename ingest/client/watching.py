"""Watching a job: its stream of events (SSE), joined anew when it breaks, polled where there is no stream."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from types import TracebackType

import anyio
import httpx

from ingest.client.connection import Connection, end_reading
from ingest.client.errors import Conflict, NotFound, Refused, ServerFault, TooMany, Unreachable
from ingest.client.values import Job

# The server says something every 15 s, a comment at least; a silence of three times that is a dead connection.
SILENCE_S = 45.0

# After a break: how long until the next try, and for how long in a row tries may fail.
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 5.0
PATIENCE_S = 120.0

# Without a stream: how often to look.
POLL_S = 1.0

CLOSE_S = 5.0


class Watch:
    """The changes of a job; the last one is its end. A server that is away is waited for, PATIENCE_S at most.

    Raises ClientError: NotFound when the job is deleted, Unreachable when patience is at its end.
    """

    def __init__(self, connection: Connection, path: str) -> None:
        self._connection = connection
        self._path = path
        self._response: httpx.Response | None = None
        self._lines: AsyncIterator[str] | None = None
        self._last_id: str | None = None
        self._polling = False
        self._ended = False
        self._delay_s = FIRST_DELAY_S
        self._failing_since: float | None = None

    async def __aenter__(self) -> Watch:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Job:
        while not self._ended:
            try:
                job = await self._next()
            except (Unreachable, ServerFault, TooMany) as error:
                await self._wait_after(error)
                continue
            if job is not None:
                self._failing_since, self._delay_s = None, FIRST_DELAY_S
                self._ended = job.ended
                return job
            await self._wait_after(Unreachable("the stream of the job ended before the job did"))
        await self._close()
        raise StopAsyncIteration

    async def _next(self) -> Job | None:
        """Return the job of the next event; None when the stream has ended without a final one."""
        if self._polling:
            await anyio.sleep(POLL_S)
            return await self._connection.job("GET", self._path)
        if self._lines is None and not await self._open():
            return await self._connection.job("GET", self._path)
        try:
            return await self._read_event()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise Unreachable(f"the stream of the job broke off: {error}") from error

    async def _open(self) -> bool:
        """Join the stream behind the last event that was seen; False where there is none."""
        headers = {"Accept": "text/event-stream"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        try:
            self._response = await self._connection.open(f"{self._path}/stream", headers, SILENCE_S)
        except (NotFound, Conflict, Refused):
            # No such job, which the poll will say, or a server without streams.
            self._polling = True
            return False
        self._lines = self._response.aiter_lines()
        return True

    async def _read_event(self) -> Job | None:
        assert self._lines is not None
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line:
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
                continue
            self._last_id = fields.get("id", self._last_id)
            if (job := self._job_of(fields)) is not None:
                return job
            fields = {}
        return None

    def _job_of(self, fields: dict[str, str]) -> Job | None:
        """Return the job that an event carries; None for comments, and for events that tell something else."""
        try:
            found = json.loads(fields.get("data", ""))
        except ValueError:
            return None
        if not isinstance(found, dict) or "status" not in found or "id" not in found:
            return None
        return self._connection.job_from(found)

    async def _wait_after(self, error: Unreachable | ServerFault | TooMany) -> None:
        await self._close()
        now = anyio.current_time()
        self._failing_since = now if self._failing_since is None else self._failing_since
        if now - self._failing_since > PATIENCE_S:
            raise error
        await anyio.sleep(getattr(error, "retry_after_s", None) or self._delay_s * random.uniform(0.5, 1.5))
        self._delay_s = min(self._delay_s * 2, LONGEST_DELAY_S)

    async def _close(self) -> None:
        lines, response = self._lines, self._response
        self._lines = self._response = None
        with anyio.move_on_after(CLOSE_S, shield=True):
            if lines is not None:
                await end_reading(lines)
            if response is not None:
                await response.aclose()
