"""Loading as a writer does it, and PostgreSQL itself as the judge of every single record."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from ingest.batch import Batch, BatchResult
from ingest.chunk import Chunk
from ingest.database import Database, Session, column_list, quoted
from ingest.errors import RowError
from ingest.loading import isolated as ways
from ingest.loading import load_isolated, load_whole
from ingest.loading.staging import copy_options
from ingest.queue import Queue
from ingest.reading.records import records
from ingest.spec import Field, LoadSpec, Plan, Target
from tests.integration.build import HEADER_BYTES, cut, make_job


@dataclass(frozen=True)
class Loaded:
    """What became of a file: its batches' results, how many had to be isolated, and its rejects in file order."""

    chunk: Chunk
    results: list[BatchResult]
    isolated: int
    rejects: list[dict[str, Any]]

    @property
    def totals(self) -> tuple[int, int, int]:
        """Records inserted, skipped and rejected."""
        fields = ("inserted", "skipped", "rejected")
        inserted, skipped, rejected = (sum(getattr(result, name) for result in self.results) for name in fields)
        return inserted, skipped, rejected

    def reasons(self) -> dict[int, list[tuple[str, str | None, str | None, str | None]]]:
        """For each line: code, sqlstate, column and value of its rejects."""
        found: dict[int, list[tuple[str, str | None, str | None, str | None]]] = {}
        for reject in self.rejects:
            found.setdefault(reject["line"], []).append(
                (reject["code"], reject["sqlstate"], reject["column_name"], reject["value"])
            )
        return found


def outcomes_of(monkeypatch: pytest.MonkeyPatch, way: str) -> list[bool]:
    """Note whether each batch goes by one way of `isolated`: one that always fails would be made good by the others."""
    found: list[bool] = []
    copy = getattr(ways, way)

    async def noted(session: Session, batch: Batch, room: int) -> BatchResult:
        found.append(False)
        result: BatchResult = await copy(session, batch, room)
        found[-1] = True
        return result

    monkeypatch.setattr(ways, way, noted)
    return found


async def load(
    database: Database,
    spec: LoadSpec,
    data: bytes,
    *,
    batch_records: int = 1000,
    isolate: bool = False,
    after: str | None = None,
) -> Loaded:
    """Load a file's records (all after the header) up the ladder: direct, then isolated; or isolated at once.

    `after`: the SQLSTATE that is said to have kept a batch that is isolated at once from being loaded whole.
    """
    single_column = len(spec.columns) == 1
    stretch = cut(data, batch_records=batch_records, single_column=single_column, dialect=spec.dialect)
    job_id = await make_job(database, [stretch], of=spec)
    [chunk] = await Queue(database, uuid4()).claim(1)
    results, isolated = [], 0
    for extent in chunk.ranges():
        batch = Batch(chunk=chunk, range=extent, data=data[extent.start : extent.end])
        try:
            if isolate:
                raise RowError("asked for", sqlstate=after or "")
            results.append(await load_whole(database, batch))
        except RowError as error:
            isolated += 1
            results.append(await load_isolated(database, batch, after=error.sqlstate))
    await Queue(database, uuid4()).finish(chunk)
    rejects = await database.fetch("SELECT * FROM ingest.rejects WHERE job_id = $1 ORDER BY line, id", job_id)
    return Loaded(chunk, results, isolated, [dict(row) for row in rejects])


@dataclass(frozen=True)
class Record:
    """One record of a file: its first line, where it begins in the file, and its bytes without the line end."""

    line: int
    byte_offset: int
    raw: bytes


def planned(spec: LoadSpec) -> LoadSpec:
    """The same spec with a plan that says no more than it: every text goes to its column as it is."""
    fields = tuple(
        Field(name=column.name, type=column.type, position=i, trim=False) for i, column in enumerate(spec.columns)
    )
    target = Target(schema=spec.schema, table=spec.table, columns=tuple((field.name, field.name) for field in fields))
    return replace(spec, plan=Plan(fields=fields, targets=(target,)))


def records_of(spec: LoadSpec, data: bytes) -> list[Record]:
    """Every record after the header, which is line 1."""
    found = records(data, spec.dialect, 2, len(spec.columns) == 1)
    return [
        Record(line, HEADER_BYTES + start, data[start:end])
        for start, end, line in zip(found.start.tolist(), found.end.tolist(), found.line.tolist(), strict=True)
    ]


async def judge(
    database: Database, spec: LoadSpec, file: Sequence[Record], moving: frozenset[bytes] = frozenset()
) -> dict[int, str]:
    """COPY every record alone, in file order, into the table of `spec`; returns line -> SQLSTATE of the refused ones.

    Records in `moving`, and those of several lines by a stray quote, are never copied: PostgreSQL would take them, and we must not
    (their SQLSTATE is "").
    """
    quote, delimiter = (re.escape(char.encode()) for char in (spec.dialect.quote, spec.dialect.delimiter))
    field = rb"(?:[^%b%b]*|[ \t]*%b(?:[^%b]|%b%b)*%b[ \t]*)" % (quote, delimiter, *(quote,) * 5)
    quoted_well = re.compile(rb"%b(?:%b%b)*" % (field, delimiter, field))
    names = column_list([column.name for column in spec.columns])
    copy = f"COPY {quoted(spec.schema)}.{quoted(spec.table)} ({names}) FROM STDIN ({copy_options(spec.dialect)})"
    # Alone on a line, the two bytes would end the COPY before PostgreSQL 18; quoted, they mean the same and do not.
    spelled = {b"\\.": f"{spec.dialect.quote}\\.{spec.dialect.quote}".encode()}

    async def unit(session: Session) -> dict[int, str]:
        refused: dict[int, str] = {}
        await session.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for record in file:
            if record.raw in moving or (b"\n" in record.raw and not quoted_well.fullmatch(record.raw)):
                refused[record.line] = ""
                continue
            try:
                await session.copy(f"SAVEPOINT one; {copy}", spelled.get(record.raw, record.raw) + b"\n")
            except asyncpg.PostgresError as error:
                await session.execute("ROLLBACK TO SAVEPOINT one")
                refused[record.line] = error.sqlstate or "?"
        return refused

    return await database.transact(unit)


async def rows(database: Database, spec: LoadSpec) -> list[str]:
    """All rows of the table as text, sorted; only the loaded and the generated columns."""
    generated = await database.value(
        "SELECT coalesce(string_agg(', ' || quote_ident(attname), '' ORDER BY attnum), '') FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attgenerated <> ''",
        f"{quoted(spec.schema)}.{quoted(spec.table)}",
    )
    names = column_list([column.name for column in spec.columns]) + generated
    found = await database.fetch(f"SELECT ROW({names})::text AS row FROM {quoted(spec.schema)}.{quoted(spec.table)}")
    return sorted(row["row"] for row in found)
