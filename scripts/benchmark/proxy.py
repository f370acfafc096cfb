"""A proxy in front of PostgreSQL: it makes the way longer, and counts what a client asks for.

The embedded server has no network and no statistics of statements; what a client sends shows both as they are.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

READ_BYTES = 256 * 1024
# Pieces on their way: more than a fast network holds in its time of travel, so only the time is added.
ON_THE_WAY = 64

# Untyped first messages that are answered with one byte, after which another first message comes.
ENCRYPTION_REQUESTS = (80877103, 80877104)
HEAD_BYTES = 5


@dataclass(slots=True)
class Counts:
    """What clients have sent: `messages` by type of the protocol, and bytes of COPY data."""

    messages: Counter[str] = field(default_factory=Counter)
    copied_bytes: int = 0

    @property
    def statements(self) -> int:
        """Statements that were run: simple queries, and executions of prepared ones."""
        return self.messages["Q"] + self.messages["E"]

    @property
    def trips(self) -> int:
        """Times that a client waited for the server: a simple query, or the end of a group of messages."""
        return self.messages["Q"] + self.messages["S"]


class Messages:
    """Finds the messages in what one client sends."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._head = b""
        self._rest = 0  # bytes of the message that are still to come
        self._started = False

    def feed(self, data: bytes) -> None:
        """Count the messages that begin in `data`."""
        place = 0
        while place < len(data):
            if self._rest:
                skipped = min(self._rest, len(data) - place)
                self._rest -= skipped
                place += skipped
                continue
            wanted = (HEAD_BYTES if self._started else 8) - len(self._head)
            self._head += data[place : place + wanted]
            place += wanted
            if len(self._head) == (HEAD_BYTES if self._started else 8):
                self._begin(self._head)
                self._head = b""

    def _begin(self, head: bytes) -> None:
        if not self._started:
            self._rest = int.from_bytes(head[:4], "big") - 8
            self._started = int.from_bytes(head[4:], "big") not in ENCRYPTION_REQUESTS
            return
        kind, length = chr(head[0]), int.from_bytes(head[1:], "big") - 4
        self._rest = length
        self._counts.messages[kind] += 1
        if kind == "d":
            self._counts.copied_bytes += length


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy: where clients connect to, and what they have sent so far."""

    dsn: str
    counts: Counts


@contextmanager
def proxied(dsn: str, *, latency_s: float = 0.0) -> Iterator[Proxy]:
    """Run a proxy to the server of a DSN; each round trip takes `latency_s` longer."""
    counts, loop = Counts(), asyncio.SelectorEventLoop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    way = _Way(dsn, latency_s / 2, counts)
    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(way.serve, "127.0.0.1", 0), loop).result()
    try:
        url, port = urlsplit(dsn), server.sockets[0].getsockname()[1]
        user, at, _ = url.netloc.rpartition("@")
        yield Proxy(f"postgresql://{user}{at}127.0.0.1:{port}{url.path}", counts)
    finally:
        asyncio.run_coroutine_threadsafe(_close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _close(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class _Way:
    """The way of each connection: there and back, a task to read and one to write for each direction."""

    def __init__(self, dsn: str, delay_s: float, counts: Counts) -> None:
        self._dsn = dsn
        self._delay_s = delay_s
        self._counts = counts

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Carry one connection until either side closes it."""
        server, to_server = await self._connect()
        there = self._carry(client, to_server, Messages(self._counts))
        back = self._carry(server, to_client, None)
        tasks = [asyncio.create_task(direction) for direction in (there, back)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pass  # the proxy ends; asyncio would print a traceback for each connection
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            to_server.close()
            to_client.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = urlsplit(self._dsn)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        host, port = url.hostname or query["host"], url.port or query.get("port", "5432")
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, found: Messages | None) -> None:
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)
        writing = asyncio.create_task(self._write(pieces, writer))
        try:
            with suppress(OSError):
                while data := await reader.read(READ_BYTES):
                    if found:
                        found.feed(data)
                    await pieces.put((asyncio.get_running_loop().time() + self._delay_s, data))
                await pieces.put((0.0, b""))
                await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop()
        while True:
            due, data = await pieces.get()
            if not data:
                return
            if (wait_s := due - clock.time()) > 0:
                await asyncio.sleep(wait_s)
            writer.write(data)
            await writer.drain()
