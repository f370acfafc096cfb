"""Apply sql/NNN_*.sql in order, once, under an advisory lock, and remember each file's checksum.

Safe when ten processes start at once: one applies, the others wait and find nothing to do. A file that was applied and
has changed since stops the start: what the database holds is no longer what the code was written for.
"""

from __future__ import annotations

import asyncpg
import trio_asyncio

from ingest.database.errors import mapped
from ingest.database.opening import connect, open_loop
from ingest.database.pool import Database
from ingest.errors import PermanentError
from ingest.statements import Migration, migrations

# Any number that nobody else uses: "ingest" as letters of the alphabet, 9-14-7-5-19-20.
LOCK_KEY = 91475_1920
WAIT_SETTINGS = {"lock_timeout": "120000", "idle_in_transaction_session_timeout": "0", "client_min_messages": "warning"}

HISTORY = """
CREATE SCHEMA IF NOT EXISTS ingest;
CREATE TABLE IF NOT EXISTS ingest.migrations (
    number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""


async def migrate(dsn: str, *, dry_run: bool = False) -> list[str]:
    """Bring the schema `ingest` up to date and return the names of the files that were (or would be) applied.

    Opens an asyncio loop and a connection of its own. Raises DatabaseError; cancelled or failed in the middle, the file
    at hand is rolled back and the earlier ones stay.
    """
    async with open_loop() as loop:
        with mapped():
            return await trio_asyncio.aio_as_trio(_migrate, loop=loop)(dsn, dry_run)  # type: ignore[no-any-return]


async def migrate_database(database: Database) -> list[str]:
    """The same for a database that is already open."""
    with mapped():
        return await database.cross(_migrate, database.dsn, False)


async def _migrate(dsn: str, dry_run: bool) -> list[str]:
    connection = await connect(dsn, "ingest migrate", WAIT_SETTINGS)
    try:
        return await _apply_pending(connection, dry_run)
    finally:
        await connection.close(timeout=4)


async def _apply_pending(connection: asyncpg.Connection, dry_run: bool) -> list[str]:
    await _check_server(connection)
    if dry_run:
        return [migration.name for migration in await _pending(connection)]
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    if not await _has_history(connection):
        await connection.execute(HISTORY)  # not at every start: it asks for the right to create schemas
    pending = await _pending(connection)
    for migration in pending:
        await _apply(connection, migration)
    return [migration.name for migration in pending]


async def _check_server(connection: asyncpg.Connection) -> None:
    if connection.get_server_version().major < 15:
        raise PermanentError("PostgreSQL 15 or newer is needed", sqlstate="0A000")
    encoding = connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise PermanentError(
            f"the database is encoded in {encoding}, which cannot hold every text; "
            "use a database made with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
            code="E_DATABASE_ENCODING",
        )


async def _has_history(connection: asyncpg.Connection) -> bool:
    return await connection.fetchval("SELECT to_regclass('ingest.migrations')") is not None


async def _pending(connection: asyncpg.Connection) -> list[Migration]:
    if not await _has_history(connection):
        return migrations()
    rows = await connection.fetch("SELECT number, checksum FROM ingest.migrations")
    applied = {row["number"]: row["checksum"] for row in rows}
    for migration in migrations():
        if applied.get(migration.number, migration.checksum) != migration.checksum:
            raise PermanentError(
                f"{migration.name}.sql was changed after it had been applied to this database; "
                "restore the file, or add the change as a new migration",
                code="E_MIGRATION_CHANGED",
            )
    return [migration for migration in migrations() if migration.number not in applied]


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO ingest.migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
