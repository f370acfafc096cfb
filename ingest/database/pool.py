"""The database as the rest of the service sees it: units of work that cross from Trio into asyncio once each.

One asyncio loop serves the whole application and is opened outside everything else, because a task that was spawned
outside of it could not cross. Cancelling a unit of work from Trio closes its connection at once: the server rolls
back, and no half-finished protocol state ever returns to the pool.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
import trio
import trio_asyncio

from ingest.database.errors import mapped
from ingest.database.session import Record, Session
from ingest.database.slots import Slots

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")

# How long a unit of work waits for a free connection, and how long giving one back may take.
ACQUIRE_S = 10.0
# Connections that are kept at hand, past the pool, which takes two tasks of asyncio's and a timer to give one back; and
# after so many queries one is given to the pool, which replaces it when it is worn.
MOST_SPARE, WORN = 2, 10_000
RELEASE_S = 4.0
# What says that the server has ended the connection, be it before we see it closed.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
)


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
        self._slots = Slots(slots)
        self._spare: list[PoolConnectionProxy] = []

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

    def allow(self, slots: int) -> None:
        """Let so many sessions keep the server busy with batches at once from now on."""
        self._slots.limit = slots

    def statistics(self) -> PoolStatistics:
        """Return how many connections there are."""
        return PoolStatistics(
            open=self._pool.get_size(),
            idle=self._pool.get_idle_size() + len(self._spare),
            limit=self._pool.get_max_size(),
        )

    async def close(self) -> None:
        """Give all connections to the pool, so that it can close them; no unit of work may be under way any more."""
        spare, self._spare = self._spare, []
        for connection in spare:
            await self.cross(self._pool.release, connection)

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
        connection = await self._take()
        try:
            result = await unit(Session(connection, self._slots))
        except Exception as error:
            await _roll_back(connection)
            if _has_ended(error) or not _is_there(connection):
                await self._drop_idle()  # what took this one has most likely taken them, too
            await self._pool.release(connection, timeout=RELEASE_S)
            raise
        except BaseException:
            _terminate(connection)
            await self._pool.release(connection, timeout=RELEASE_S)
            raise
        await self._put_back(connection)
        return result

    async def _take(self) -> PoolConnectionProxy:
        while self._spare:
            connection = self._spare.pop()
            if _is_usable(connection):
                return connection
            await self._pool.release(connection)
        # A limit costs a task and a timer of asyncio's: only those who may have to wait pay for it.
        return await self._pool.acquire(timeout=None if self._pool.get_idle_size() else ACQUIRE_S)

    async def _drop_idle(self) -> None:
        await self._pool.expire_connections()  # each is replaced when it is taken next
        spare, self._spare = self._spare, []
        for connection in spare:
            _terminate(connection)
            await self._pool.release(connection)

    async def _put_back(self, connection: PoolConnectionProxy) -> None:
        # Nobody may be waiting for one: as long as the pool can give another, nobody is.
        is_free = self._pool.get_idle_size() or self._pool.get_size() < self._pool.get_max_size()
        if is_free and len(self._spare) < MOST_SPARE and _is_usable(connection):
            self._spare.append(connection)
        else:
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


def _is_there(connection: PoolConnectionProxy) -> bool:
    """Tell whether a connection is open as far as we know; one that was lost has left the pool by itself."""
    return connection._con is not None and not connection._con.is_closed()


def _has_ended(error: Exception) -> bool:
    """Tell whether an error says that the connection has; of what is said as an ERROR only, it has not."""
    return isinstance(error, LOST) and getattr(error, "severity_en", None) != "ERROR"


def _is_usable(connection: PoolConnectionProxy) -> bool:
    return _is_there(connection) and connection._con._protocol.queries_count < WORN


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
