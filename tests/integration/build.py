"""What the tests of the queue, of loading and of the actors are made of: specs, cuts, jobs, and a second session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
from uuid_utils.compat import uuid7

from ingest.chunk import ChunkCut
from ingest.database import Database
from ingest.database.opening import connect
from ingest.dialect import Dialect
from ingest.job import NewJob
from ingest.jobs import Jobs
from ingest.spec import Column, LoadSpec
from ingest.splitter import Splitter

COMMA = Dialect()
HEADER_BYTES = 100  # where the records begin in the files these tests speak of


def spec(
    *columns: tuple[str, str], table: str = "t", schema: str = "public", dialect: Dialect = COMMA, keyed: bool = False
) -> LoadSpec:
    """A spec for some columns (name, type); one integer column `a` when none are named."""
    named = tuple(Column(name=name, type=kind) for name, kind in columns or (("a", "integer"),))
    return LoadSpec(
        dataset=f"{schema}.{table}", schema=schema, table=table, columns=named, dialect=dialect, keyed=keyed
    )


def cut(
    data: bytes,
    *,
    ordinal: int = 1,
    object_key: str = "chunks/none/000001",
    file_offset: int = HEADER_BYTES,
    first_line: int = 2,
    batch_records: int = 10,
    single_column: bool = True,
    dialect: Dialect = COMMA,
) -> ChunkCut:
    """A chunk that holds `data`, cut into batches by the splitter itself."""
    splitter = Splitter(
        dialect, first_line=first_line, single_column=single_column, batch_records=batch_records, batch_bytes=1 << 20,
        max_record_bytes=1 << 20,
    )  # fmt: skip
    batches = splitter.feed(data) + splitter.finish()
    return ChunkCut(
        ordinal=ordinal, object_key=object_key, object_offset=0, length_bytes=len(data), file_offset=file_offset,
        first_line=first_line, ends=[b.end for b in batches], records=[b.records for b in batches],
        lines=[b.lines for b in batches], blank_lines=[b.blank_lines for b in batches],
    )  # fmt: skip


def numbers(count: int, start: int = 0) -> bytes:
    """A file of one column: the numbers from `start` on."""
    return b"".join(b"%d\n" % n for n in range(start, start + count))


async def receive(
    database: Database,
    cuts: Sequence[ChunkCut],
    *,
    of: LoadSpec | None = None,
    priority: int = 5,
    queue: str = "default",
    **options: Any,
) -> UUID:
    """Write a job and its chunks, as an upload does, not complete yet; `options` are more fields of NewJob."""
    jobs, job_id = Jobs(database), uuid7()
    await jobs.create(
        NewJob(
            id=job_id, filename="f.csv", spec=of or spec(), priority=priority, bytes_total=None, queue=queue, **options
        )
    )
    for ordinal, chunk in enumerate(cuts, 1):
        await jobs.add_chunk(job_id, replace(chunk, ordinal=ordinal))
    return job_id


async def complete(database: Database, job_id: UUID, cuts: Sequence[ChunkCut]) -> None:
    """Make the job claimable."""
    size, records = sum(c.length_bytes for c in cuts), sum(sum(c.records) for c in cuts)
    await Jobs(database).complete_upload(job_id, bytes_total=size, sha256=bytes(32), records=records)


async def make_job(
    database: Database,
    cuts: Sequence[ChunkCut],
    *,
    of: LoadSpec | None = None,
    priority: int = 5,
    queue: str = "default",
    **options: Any,
) -> UUID:
    """Write a job whose chunks can be claimed."""
    job_id = await receive(database, cuts, of=of, priority=priority, queue=queue, **options)
    await complete(database, job_id, cuts)
    return job_id


class Interactive:
    """A session beside the pool whose transactions stay open between calls, as those of somebody else do."""

    def __init__(self, database: Database, connection: asyncpg.Connection) -> None:
        self._database = database
        self.connection = connection

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement."""
        return str(await self._database.cross(self.connection.execute, sql, *args))

    async def value(self, sql: str, *args: object) -> Any:
        """Run a statement and return its first value."""
        return await self._database.cross(self.connection.fetchval, sql, *args)


@asynccontextmanager
async def interactive(database: Database) -> AsyncIterator[Interactive]:
    """Open another session; whatever it left open is rolled back."""
    connection = await database.cross(connect, database.dsn, "interactive")
    try:
        yield Interactive(database, connection)
    finally:
        connection.terminate()
