"""Clients of the streams: server-sent events as `EventSource` reads them (WHATWG, 9.2.6), and WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import h11
import trio
from trio_websocket import WebSocketConnection, wrap_client_stream


@dataclass(frozen=True)
class Event:
    """An event as it is dispatched, or a comment (`name` is empty)."""

    name: str
    id: str
    data: str

    @property
    def job(self) -> dict[str, Any]:
        """The job it tells of."""
        found: dict[str, Any] = json.loads(self.data)
        return found


class Parser:
    """Takes lines, gives events; ids last until they are replaced, as in `EventSource`."""

    def __init__(self) -> None:
        self._id = ""
        self._fields: dict[str, str] = {}

    def take(self, line: str) -> Event | None:
        """Take a line without its end."""
        if not line:
            fields, self._fields = self._fields, {}
            return Event(fields.get("event", "message"), self._id, fields["data"]) if "data" in fields else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not name:
            return Event("", self._id, value)
        if name == "id":
            self._id = value
        else:
            self._fields[name] = value
        return None


def parsed(lines: Iterable[str]) -> Iterator[Event]:
    """Yield the events and comments of a stream."""
    parser = Parser()
    for line in lines:
        if event := parser.take(line):
            yield event


class Events:
    """The events of one answer, as they come."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._parser = Parser()
        self._text = ""

    async def begin(self, host: str, path: str, more: Mapping[str, str]) -> h11.Response:
        """Send the request; returns the head of the answer."""
        headers = [("Host", host), ("Accept", "text/event-stream"), *more.items()]
        for event in (h11.Request(method="GET", target=path, headers=headers), h11.EndOfMessage()):
            await self._stream.send_all(self._http.send(event) or b"")
        response = await self._next()
        assert isinstance(response, h11.Response)
        return response

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        while True:
            while "\n" in self._text:
                line, self._text = self._text.split("\n", 1)
                if event := self._parser.take(line):
                    return event
            found = await self._next()
            if isinstance(found, h11.EndOfMessage):
                raise StopAsyncIteration
            assert isinstance(found, h11.Data)
            self._text += bytes(found.data).decode()

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some())
        assert not isinstance(event, type)
        return event


@asynccontextmanager
async def reading(url: str, last_id: str = "", headers: Mapping[str, str] | None = None) -> AsyncIterator[Events]:
    """Open a stream of server-sent events, on a connection of its own."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream:
        events = Events(stream)
        seen = {"Last-Event-ID": last_id} if last_id else {}
        response = await events.begin(parts.netloc, parts.path, {**seen, **(headers or {})})
        assert response.status_code == 200
        assert dict(response.headers)[b"content-type"] == b"text/event-stream"
        yield events


@asynccontextmanager
async def messages(url: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> AsyncIterator[WebSocketConnection]:
    """Open a WebSocket; on a connection of ours, because trio-websocket does not close one that the server has closed."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    async with await trio.open_tcp_stream(parts.hostname, parts.port) as stream, trio.open_nursery() as nursery:
        socket = await wrap_client_stream(nursery, stream, parts.netloc, parts.path, extra_headers=list(headers))
        yield socket
        await socket.aclose()
