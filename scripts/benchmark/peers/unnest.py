"""Loads a CSV file with `INSERT ... SELECT FROM unnest()`: 1000 rows a transaction, five transactions at once.

The way of many hand-made loaders: records are parsed, gathered, and put in as arrays, one for each column. Texts are
sent as they are and PostgreSQL makes values of them, which is faster than to make them in Python first. The reader
waits when all connections are busy, so memory stays flat.
"""

from __future__ import annotations

import asyncio
import csv
import itertools
import sys
from pathlib import Path

import asyncpg

ROWS = 1000
CONNECTIONS = 5

Rows = list[list[str]]

TYPES = """
select attname, format_type(atttypid, atttypmod) from pg_attribute
 where attrelid = $1::regclass and attnum > 0 and not attisdropped
"""


async def main(dsn: str, table: str, path: str) -> None:
    """Load the file whose header has the names of the table's columns."""
    batches: asyncio.Queue[Rows | None] = asyncio.Queue(CONNECTIONS)
    async with asyncpg.create_pool(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
        with Path(path).open(newline="", encoding="utf-8") as file:  # noqa: ASYNC230  # its reads are short
            records = csv.reader(file)
            statement = await insert(pool, table, next(records))
            async with asyncio.TaskGroup() as group:
                for _ in range(CONNECTIONS):
                    group.create_task(write(pool, statement, batches))
                while batch := list(itertools.islice(records, ROWS)):
                    await batches.put(batch)
                for _ in range(CONNECTIONS):
                    await batches.put(None)


async def insert(pool: asyncpg.Pool, table: str, header: list[str]) -> str:
    """Return the statement for the columns of a header."""
    types = dict(await pool.fetch(TYPES, table))
    arrays = ", ".join(f"${number}::text[]" for number in range(1, len(header) + 1))
    values = ", ".join(f"nullif({name}, '')::{types[name]}" for name in header)
    names = ", ".join(header)
    return f"insert into {table} ({names}) select {values} from unnest({arrays}) as given({names})"


async def write(pool: asyncpg.Pool, statement: str, batches: asyncio.Queue[Rows | None]) -> None:
    """Put batches in until there are no more."""
    async with pool.acquire() as connection:
        prepared = await connection.prepare(statement)
        while (batch := await batches.get()) is not None:
            async with connection.transaction():
                await prepared.fetch(*map(list, zip(*batch, strict=True)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
