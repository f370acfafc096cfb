"""How connections are opened: the asyncio loop, the pool, and what every session is told at its beginning."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import structlog
import trio
import trio_asyncio

from ingest.database.errors import mapped
from ingest.database.notices import NoticingConnection
from ingest.database.pool import Database
from ingest.database.turns import hasten

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

log = structlog.get_logger(__name__)

CONNECT_S = 10.0
CLOSE_S = 5.0

# Locks are never waited for without bound, and a worker frozen inside a transaction is cut off by the server.
SESSION_SETTINGS = {
    "timezone": "UTC",
    # The same file is the same rows on every server: 01/02/2024 is refused, not read as January or as February.
    "datestyle": "ISO, YMD",
    # Of two chunks that finish at once, the second must see the first one's state when it has got the job's lock.
    "default_transaction_isolation": "read committed",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "client_min_messages": "notice",
    # Its estimates for a page of jobs are far off, and compiling takes a hundred times what running does.
    "jit": "off",
}

# A backend in the middle of a statement would otherwise go on, and keep its locks, after its client has died.
NOTICE_OUR_END = "SET client_connection_check_interval = '500ms'"


async def prepare(connection: asyncpg.Connection) -> None:
    """Make a new connection speak JSON as Python values, and its backend end soon when we have gone."""
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    try:
        await connection.execute(NOTICE_OUR_END)
    except asyncpg.InvalidParameterValueError:
        log.info("server cannot notice lost clients")  # one on Windows


async def _keep(_connection: PoolConnectionProxy) -> None:
    """Give a connection back as it is, one round trip less: units of work change nothing but what ends with them."""


async def connect(dsn: str, name: str, settings: dict[str, str] | None = None) -> asyncpg.Connection:
    """Open a connection outside any pool (asyncio side); raises asyncpg's errors."""
    session_settings = SESSION_SETTINGS | {"application_name": name} | (settings or {})
    connection = await asyncpg.connect(dsn, timeout=CONNECT_S, server_settings=session_settings)
    await prepare(connection)
    return connection


@asynccontextmanager
async def open_database(dsn: str, *, pool_size: int, slots: int = 2, name: str = "ingest") -> AsyncIterator[Database]:
    """Open the asyncio loop and a pool of at most `pool_size` connections, one of them made and tried at once.

    `slots` is how many sessions may keep the server busy with batches at once (Session.slot).
    Raises DatabaseError when the server cannot be reached. Everything is closed on the way out, by force after CLOSE_S.
    """
    async with open_loop() as loop:
        async with _pool(loop, dsn, pool_size, name) as pool, _pool(loop, dsn, 1, f"{name} heartbeat") as single:
            reserved = Database(single, loop, dsn, name)
            database = Database(pool, loop, dsn, name, slots=slots, reserved=reserved)
            try:
                yield database
            finally:
                with trio.move_on_after(CLOSE_S, shield=True), mapped():
                    await database.close()


@asynccontextmanager
async def open_loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    """Open an asyncio loop. An error that ends the body leaves as it is, not in the groups of the loop's nurseries."""
    failure: Exception | None = None
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_log_loop_error)
        hasten(loop)
        try:
            yield loop
        except Exception as error:  # raised again below; cancellation is no Exception and passes
            failure = error
    if failure is not None:
        raise failure


@asynccontextmanager
async def _pool(loop: trio_asyncio.TrioEventLoop, dsn: str, size: int, name: str) -> AsyncIterator[asyncpg.Pool]:
    with mapped():
        pool: asyncpg.Pool = await trio_asyncio.aio_as_trio(_open_pool, loop=loop)(dsn, size, name)
    try:
        yield pool
    finally:
        with trio.move_on_after(CLOSE_S + 1, shield=True):
            await trio_asyncio.aio_as_trio(_close_pool, loop=loop)(pool)


async def _open_pool(dsn: str, pool_size: int, name: str) -> asyncpg.Pool:
    pool = asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=pool_size,
        timeout=CONNECT_S,
        init=prepare,
        reset=_keep,
        connection_class=NoticingConnection,
        max_inactive_connection_lifetime=300.0,
        server_settings=SESSION_SETTINGS | {"application_name": name},
    )
    try:
        return await pool
    except BaseException:
        pool.terminate()
        raise


async def _close_pool(pool: asyncpg.Pool) -> None:
    try:
        await asyncio.wait_for(pool.close(), CLOSE_S)
    except TimeoutError:
        pool.terminate()


def _log_loop_error(_loop: object, context: dict[str, Any]) -> None:
    """Log what asyncio found nobody to tell; trio-asyncio's default would end the process for it.

    A task without an exception is what asyncpg leaves of a statement that was cancelled: it would have told the server,
    whose end of the connection we have closed instead.
    """
    error = context.get("exception")
    line = log.debug if error is None and "task" in context else log.warning
    line("asyncio_error", message=str(context.get("message", "")), error=type(error).__name__ if error else None)
