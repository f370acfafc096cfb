"""The database as the rest of the service sees it: units of work that cross from Trio into asyncio once each.

One asyncio loop serves the whole application and is opened outside everything else, because a task that was spawned
outside of it could not cross. Cancelling a unit of work from Trio closes its connection at once: the server rolls
back, and no half-finished protocol state ever returns to the pool.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
import structlog
import trio
import trio_asyncio

from ingest.database.errors import mapped
from ingest.database.notices import NoticingConnection
from ingest.database.session import Record, Session

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")
log = structlog.get_logger(__name__)

# How long a unit of work waits for a free connection, and how long giving one back may take.
ACQUIRE_S = 10.0
RELEASE_S = 4.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStatistics:
    """Connections of the pool: open, idle among them, and the most there may be."""

    open: int
    idle: int
    limit: int


class Database:
    """A pool of connections. `dsn` is kept for connections that live outside the pool (LISTEN).

    `reserved` is a database with one connection that is never waited for behind other work: the heartbeat's.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        loop: trio_asyncio.TrioEventLoop,
        dsn: str,
        name: str,
        *,
        slots: int = 1,
        reserved: Database | None = None,
    ) -> None:
        self.dsn = dsn
        self.name = name
        self.reserved = reserved or self
        self._pool = pool
        self._loop = loop
        self._slots = asyncio.Semaphore(slots)

    async def run(self, unit: Callable[[Session], Awaitable[T]]) -> T:
        """Run a unit of work on a connection of the pool. Raises DatabaseError; cancellation closes the connection."""
        with mapped():
            return await self.cross(self._with_connection, unit)

    async def transact(self, unit: Callable[[Session], Awaitable[T]], *, begin: str = "BEGIN") -> T:
        """Run a unit of work inside a transaction: committed when it returns, rolled back when it raises.

        A COMMIT whose answer is lost raises UnavailableError and leaves open whether it happened; the ledger tells.
        """

        async def bracketed(session: Session) -> T:
            await session.execute(begin)
            result = await unit(session)
            await session.commit()
            return result

        return await self.run(bracketed)

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """Run one statement and return its rows. Raises DatabaseError."""
        return await self.run(lambda session: session.fetch(sql, *args))

    async def value(self, sql: str, *args: object) -> Any:
        """Run one statement and return its first value. Raises DatabaseError."""
        return await self.run(lambda session: session.value(sql, *args))

    async def execute(self, sql: str, *args: object) -> str:
        """Run one statement for its effect. Raises DatabaseError."""
        return await self.run(lambda session: session.execute(sql, *args))

    async def cross(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        """Call an asyncio-flavoured function from Trio."""
        return await trio_asyncio.aio_as_trio(function, loop=self._loop)(*args)  # type: ignore[no-any-return]

    def statistics(self) -> PoolStatistics:
        """Return how many connections there are."""
        return PoolStatistics(
            open=self._pool.get_size(), idle=self._pool.get_idle_size(), limit=self._pool.get_max_size()
        )

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[Held]:
        """Keep one connection for several units of work: for a transaction that lasts longer than one.

        What is not committed on the way out is rolled back, within RELEASE_S. Raises DatabaseError.
        """
        with mapped():
            connection = await self.cross(partial(self._pool.acquire, timeout=ACQUIRE_S))
        try:
            yield Held(self.cross, Session(connection, self._slots), connection)
        finally:
            with trio.move_on_after(RELEASE_S + 1, shield=True), mapped():
                await self.cross(self._give_back, connection)

    async def _give_back(self, connection: PoolConnectionProxy) -> None:
        await _roll_back(connection)
        await self._pool.release(connection, timeout=RELEASE_S)

    async def _with_connection(self, unit: Callable[[Session], Awaitable[T]]) -> T:
        connection = await self._pool.acquire(timeout=ACQUIRE_S)
        try:
            return await unit(Session(connection, self._slots))
        except Exception:
            await _roll_back(connection)
            raise
        except BaseException:
            _terminate(connection)
            raise
        finally:
            await self._pool.release(connection, timeout=RELEASE_S)


class Held:
    """A connection that is kept. A unit of work that fails leaves its transaction open: a savepoint may mend it."""

    def __init__(self, cross: Callable[..., Awaitable[Any]], session: Session, connection: PoolConnectionProxy) -> None:
        self._cross = cross
        self._session = session
        self._connection = connection

    async def run(self, unit: Callable[[Session], Awaitable[T]]) -> T:
        """Run a unit of work. Raises DatabaseError; cancellation closes the connection."""
        with mapped():
            return cast("T", await self._cross(self._unit, unit))

    async def _unit(self, unit: Callable[[Session], Awaitable[T]]) -> T:
        try:
            return await unit(self._session)
        except Exception:
            raise
        except BaseException:
            _terminate(self._connection)
            raise


async def _roll_back(connection: PoolConnectionProxy) -> None:
    """End the open transaction, or the connection when that cannot be done in time."""
    try:
        if connection.is_in_transaction():
            await connection.execute("ROLLBACK", timeout=RELEASE_S)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
        _terminate(connection)


def _terminate(connection: PoolConnectionProxy) -> None:
    """Close a connection at once; one that was lost has left the pool by itself."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


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
            yield Database(pool, loop, dsn, name, slots=slots, reserved=reserved)


@asynccontextmanager
async def open_loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    """Open an asyncio loop. An error that ends the body leaves as it is, not in the groups of the loop's nurseries."""
    failure: Exception | None = None
    async with trio_asyncio.open_loop() as loop:
        loop.set_exception_handler(_log_loop_error)
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
