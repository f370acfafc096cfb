"""LISTEN on a connection of its own (a pool would UNLISTEN it), handed to Trio as a channel.

NOTIFY is lossy: it only makes things fast. Whoever listens must read the state again after each (re)connection, which
is why every connection made puts one empty `Notification` into the channel first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog
import trio

from ingest.database.errors import mapped
from ingest.database.opening import connect
from ingest.database.pool import Database
from ingest.errors import DatabaseError

log = structlog.get_logger(__name__)

# A silent dead connection is noticed by a query this often; after a loss the next try waits this long.
PING_S = 20.0
PING_TIMEOUT_S = 5.0
RECONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class Notification:
    """A NOTIFY: its channel and payload; both empty right after a (re)connection."""

    channel: str = ""
    payload: str = ""


async def listen(database: Database, channels: Sequence[str], send: trio.MemorySendChannel[Notification]) -> None:
    """Forward notifications until cancelled, reconnecting for ever; a full channel drops them, which is harmless."""
    with send:
        while True:
            try:
                with mapped():
                    await database.cross(_listen, database, tuple(channels), send)
            except DatabaseError as error:
                log.warning("listen_lost", code=error.code, sqlstate=error.sqlstate)
            await trio.sleep(RECONNECT_S)


async def _listen(database: Database, channels: Sequence[str], send: trio.MemorySendChannel[Notification]) -> None:
    connection = await connect(database.dsn, f"{database.name} listen")
    try:
        for channel in channels:
            await connection.add_listener(channel, lambda _c, _pid, name, text: _offer(send, Notification(name, text)))
        _offer(send, Notification())
        await _ping_until_lost(connection)
    finally:
        connection.terminate()


async def _ping_until_lost(connection: asyncpg.Connection) -> None:
    lost = asyncio.Event()
    connection.add_termination_listener(lambda _connection: lost.set())
    while not lost.is_set():
        try:
            await asyncio.wait_for(lost.wait(), PING_S)
        except TimeoutError:
            await connection.execute("SELECT 1", timeout=PING_TIMEOUT_S)


def _offer(send: trio.MemorySendChannel[Notification], notification: Notification) -> None:
    try:
        send.send_nowait(notification)
    except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
        return
