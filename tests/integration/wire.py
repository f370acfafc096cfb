"""A proxy on the wire between the service and PostgreSQL that cuts connections before or after a COMMIT."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import parse_qs, quote, urlsplit

import trio

COMMIT = b"COMMIT\x00"  # ends the query as it is sent, and the command tag as it is answered
BLOCK_BYTES = 64 * 1024


class Wire:
    """Passes bytes on in both directions; the next `cut_before` or `cut_after` COMMITs cost their connection.

    `passing` COMMITs are left alone before that.
    Cut before, the server never hears of the COMMIT; cut after, it has done it and the client never hears of that.
    """

    def __init__(self, dsn: str) -> None:
        self._server = dsn
        self.cut_before = 0
        self.cut_after = 0
        self.passing = 0
        self.cuts = 0

    def dsn(self, port: int) -> str:
        """A connection string that leads through this proxy."""
        parts = urlsplit(self._server)
        user = quote(parts.username or "", safe="") + (f":{quote(parts.password, safe='')}" if parts.password else "")
        return f"postgresql://{user}@127.0.0.1:{port}{parts.path}?sslmode=disable"

    async def serve(self, client: trio.SocketStream) -> None:
        """Pass on one connection until either side closes it or it is cut."""
        async with await self._connect() as server, client, trio.open_nursery() as nursery:
            nursery.start_soon(self._requests, client, server, nursery.cancel_scope)
            nursery.start_soon(self._answers, server, client, nursery.cancel_scope)

    def _cuts(self, side: str) -> bool:
        """Whether this COMMIT, seen on this side, costs its connection."""
        if not getattr(self, side):
            return False
        if self.passing:
            self.passing -= 1
            return False
        setattr(self, side, getattr(self, side) - 1)
        self.cuts += 1
        return True

    async def _connect(self) -> trio.SocketStream:
        parts = urlsplit(self._server)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        host, port = query.get("host", parts.hostname or "localhost"), int(query.get("port", parts.port or 5432))
        if host.startswith("/"):
            return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        return await trio.open_tcp_stream(host, port)

    async def _requests(self, client: trio.SocketStream, server: trio.SocketStream, scope: trio.CancelScope) -> None:
        while data := await _receive(client):
            if data.endswith(COMMIT) and self._cuts("cut_before"):
                break
            await server.send_all(data)
        scope.cancel()

    async def _answers(self, server: trio.SocketStream, client: trio.SocketStream, scope: trio.CancelScope) -> None:
        while data := await _receive(server):
            if COMMIT in data and self._cuts("cut_after"):
                break
            await client.send_all(data)
        scope.cancel()


async def _receive(stream: trio.SocketStream) -> bytes:
    try:
        return bytes(await stream.receive_some(BLOCK_BYTES))
    except trio.BrokenResourceError:
        return b""


@asynccontextmanager
async def wire(dsn: str) -> AsyncIterator[tuple[Wire, str]]:
    """Run a proxy in front of the server of `dsn`; yields it and the DSN that leads through it."""
    proxy = Wire(dsn)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, proxy.serve, listeners))
        yield proxy, proxy.dsn(listeners[0].socket.getsockname()[1])
        nursery.cancel_scope.cancel()
