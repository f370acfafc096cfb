"""A session: one connection during one unit of work.

A unit of work is an `async def` that awaits nothing but the methods of its Session; it runs on the asyncio side, so a
whole transaction costs one crossing. It never sees asyncpg.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import asyncpg
import trio_asyncio
from asyncpg import Record as Record

from ingest.database.bulk import copy_source
from ingest.database.errors import from_postgres, without_frames
from ingest.database.slots import Slots
from ingest.errors import PermanentError, RowError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


T = TypeVar("T")

# What functions of ours raise to forbid the COMMIT that follows.
REFUSED = "IN001"


@dataclass(frozen=True, slots=True)
class Notice:
    """A NOTICE that the server sent during a COPY; only its text."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyResult:
    """What a COPY did: `rows` that reached the table, and the notices on the way."""

    rows: int
    notices: tuple[Notice, ...]


class Session:
    """One connection, for the length of a unit of work. Errors are asyncpg's here; they are mapped at the crossing."""

    def __init__(self, connection: PoolConnectionProxy, slots: Slots) -> None:
        self._connection = connection
        self._slots = slots
        self._has_slot = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Do what keeps the server busy while no more than the database's `slots` sessions do the same."""
        await self._slots.acquire()
        self._has_slot = True
        try:
            yield
        finally:
            self.leave_slot()

    def leave_slot(self) -> None:
        """Leave the slot early: what follows keeps us busy rather than the server. Without a slot, do nothing."""
        if self._has_slot:
            self._has_slot = False
            self._slots.release()

    async def aside(self, work: Callable[[], T]) -> T:
        """Compute something in a thread: what takes milliseconds would keep the loop from all others meanwhile.

        `work` must be harmless to let run on: cancelled, nobody waits for it.
        """
        return await asyncio.get_running_loop().run_in_executor(None, work)

    async def outside(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await something of Trio's in the middle of the unit of work, whose transaction stays open meanwhile."""
        return cast("T", await trio_asyncio.trio_as_aio(wait)())

    @property
    def server_major(self) -> int:
        """The server's major version: 15 to 18."""
        return int(self._connection.get_server_version().major)

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement (several, when there are no arguments) and return its command tag."""
        return str(await self._connection.execute(sql, *args))

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """Run a statement and return its rows."""
        return list(await self._connection.fetch(sql, *args))

    async def value(self, sql: str, *args: object) -> Any:
        """Run a statement and return the first column of its first row, or None."""
        return await self._connection.fetchval(sql, *args)

    async def attempt(self, unit: Callable[[Session], Awaitable[T]]) -> T | RowError:
        """Run a part of the unit of work under a savepoint; when a record was in its way, undo it and return why."""
        await self.execute("SAVEPOINT attempt")
        try:
            result = await unit(self)
        except RowError as error:
            found = error
        except asyncpg.PostgresError as error:
            mapped = from_postgres(error)
            if not isinstance(mapped, RowError):
                raise
            found = mapped
        else:
            await self.execute("RELEASE SAVEPOINT attempt")
            return result
        await self.execute("ROLLBACK TO SAVEPOINT attempt")
        return found

    async def commit(self) -> None:
        """Commit the open transaction. Raises PermanentError when it was aborted and so rolled back instead."""
        if await self.execute("COMMIT") != "COMMIT":
            raise PermanentError("the unit of work went on after an error, so nothing was committed", sqlstate="25P02")

    async def commit_by(self, sql: str) -> str | None:
        """Run `sql`, which takes no parameters, and commit the open transaction, in one trip.

        Returns None, or the message of what `sql` has raised under the SQLSTATE REFUSED: then nothing was committed.
        """
        try:
            tag = await self.execute(f"{sql}; COMMIT")
        except asyncpg.PostgresError as error:
            if error.sqlstate != REFUSED:
                raise
            return str(error.message)
        if tag != "COMMIT":
            raise PermanentError("the unit of work went on after an error, so nothing was committed", sqlstate="25P02")
        return None

    async def copy(self, sql: str, data: bytes) -> CopyResult:
        """Send `data` to a `COPY ... FROM STDIN` statement and return what became of it.

        `sql` may begin with other statements, so that opening a transaction costs no round trip of its own.

        asyncpg's `copy_to_table` knows no ON_ERROR, so its private `_copy_in` is given the statement (the version is
        pinned). Notices are collected by the connection itself (NoticingConnection).
        """
        connection, notices = self._connection._con, list[str]()
        connection.copy_notices = notices
        try:
            tag = await self._connection._copy_in(sql, copy_source(self._connection, data), None)
        except asyncpg.PostgresError as error:
            raise without_frames(error)  # noqa: B904 - it is the same error
        finally:
            connection.copy_notices = None
        return CopyResult(rows=int(tag.rsplit(" ", 1)[-1]), notices=tuple(map(Notice, notices)))


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def column_list(names: Sequence[str]) -> str:
    """Return names as a comma-separated list of SQL identifiers."""
    return ", ".join(quoted(name) for name in names)
