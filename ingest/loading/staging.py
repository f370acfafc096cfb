"""Staging tables: temporary tables that hold well-formed records as text, one for each number of columns.

A staging table lives as long as its connection and is emptied by every COMMIT; it is made once, not per batch, so the
catalogue does not grow. Records are copied raw, with their number in front, so quotes and NULLs mean what they mean
in a direct COPY.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.batch import Batch
from ingest.database import Record, Session, column_list, quoted
from ingest.dialect import Dialect
from ingest.loading.fields import fields
from ingest.loading.reasons import Reason
from ingest.loading.screening import has_copy_end
from ingest.reject import Reject
from ingest.spec import LoadSpec
from ingest.statements import statement


@dataclass(frozen=True, slots=True)
class Staged:
    """The staging table of a batch's records, and what its columns stand for."""

    table: str
    spec: LoadSpec

    @property
    def names(self) -> list[str]:
        """The target columns, in file order."""
        return [column.name for column in self.spec.columns]

    @property
    def types(self) -> list[str]:
        """Their types, in file order."""
        return [column.type for column in self.spec.columns]


def begin(batch: Batch) -> str:
    """Return what opens the transaction of a batch.

    Rows and ledger line are lost together if the server crashes, so the batch need not wait for the disk: the chunk's
    finish is a synchronous commit. Deferred constraints are checked at once, while the record can still be found. The
    name lets whoever takes the chunk over end a backend whose worker is frozen in the middle of a COPY: nothing else
    would, and it may hold the very keys that the next worker needs (ingest.rescue_chunks).
    """
    chunk = batch.chunk
    return (
        f"BEGIN; SET LOCAL application_name = 'ingest chunk {chunk.id} epoch {chunk.epoch}'; "
        "SET LOCAL synchronous_commit = off; SET CONSTRAINTS ALL IMMEDIATE"
    )


def target(spec: LoadSpec) -> str:
    """Return the target table as SQL."""
    return f"{quoted(spec.schema)}.{quoted(spec.table)}"


def copy_options(dialect: Dialect) -> str:
    """Return COPY's options for a dialect."""
    return (
        f"FORMAT csv, DELIMITER {literal(dialect.delimiter)}, QUOTE {literal(dialect.quote)}, "
        f"NULL {literal(dialect.null)}, ENCODING 'UTF8'"
    )


def literal(text: str) -> str:
    """Return `text` as an SQL string literal, whatever standard_conforming_strings says."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''").replace("\t", "\\t") + "'"


async def stage(session: Session, spec: LoadSpec, records: Sequence[tuple[int, bytes]]) -> Staged:
    """Put well-formed records, each with its number, into the staging table of their width."""
    width = len(spec.columns)
    staged = Staged(f"pg_temp.ingest_staging_{width}", spec)
    columns = ", ".join(f"c{i} text" for i in range(1, width + 1))
    await session.execute(
        f"CREATE TEMPORARY TABLE IF NOT EXISTS ingest_staging_{width} "
        f"(ordinal integer PRIMARY KEY, {columns}) ON COMMIT DELETE ROWS"
    )
    plain = [(n, record) for n, record in records if not has_copy_end(record)]
    delimiter = spec.dialect.delimiter.encode()
    data = b"".join(b"%d%b%b\n" % (n, delimiter, record) for n, record in plain)
    # The number is no NULL, even where the file writes NULL as a number.
    options = f"{copy_options(spec.dialect)}, FORCE_NOT_NULL (ordinal)"
    await session.copy(f"COPY {staged.table} FROM STDIN ({options})", data)
    for n, record in records:
        if has_copy_end(record):
            await _stage_by_insert(session, staged, n, record)
    return staged


async def _stage_by_insert(session: Session, staged: Staged, ordinal: int, record: bytes) -> None:
    values = [None if value is None else value.decode() for value in fields(record, staged.spec.dialect)]
    places = ", ".join(f"${i}" for i in range(1, len(values) + 2))
    await session.execute(f"INSERT INTO {staged.table} VALUES ({places})", ordinal, *values)


async def moving_dates(session: Session, staged: Staged) -> list[Reason]:
    """Return the staged records whose dates mean another day on every try."""
    rows = await session.fetch(statement("moving_dates"), staged.table, staged.names, staged.types)
    return [
        Reason(ordinal=row["ordinal"], sqlstate=None, message=row["message"], columns=row["column_name"])
        for row in rows
    ]


async def refused_values(session: Session, staged: Staged) -> list[Reason]:
    """Return the staged values that their types refuse, as far as the server can tell without trying to insert."""
    rows = await session.fetch(statement("refused_values"), staged.table, staged.names, staged.types)
    return [_value_reason(row) for row in rows]


async def explain_values(session: Session, staged: Staged, ordinals: Sequence[int]) -> list[Reason]:
    """Return the values that their types refuse among a few staged records, tried one by one."""
    rows = await session.fetch(statement("explain_values"), staged.table, list(ordinals), staged.names, staged.types)
    return [_value_reason(row) for row in rows]


def _value_reason(row: Record) -> Reason:
    return Reason(ordinal=row["ordinal"], sqlstate=row["sql_state"], message=row["message"], columns=row["column_name"])


async def insert_each(session: Session, staged: Staged, highest: int) -> tuple[int, list[Reason]]:
    """Insert the staged records in file order, each refused one left out; returns rows inserted and the reasons."""
    bases = [row[0] for row in await session.fetch(statement("base_types"), staged.types)]
    casts = ", ".join(f"c{i}::{base}" for i, base in enumerate(bases, 1))
    insert = (
        f"INSERT INTO {target(staged.spec)} ({column_list(staged.names)}) OVERRIDING SYSTEM VALUE "
        f"SELECT {casts} FROM {staged.table} WHERE ordinal BETWEEN $1 AND $2 ORDER BY ordinal"
    )
    *refused, total = await session.fetch(statement("insert_isolated"), insert, 0, highest)
    return total["inserted"], [_constraint_reason(row) for row in refused]


def _constraint_reason(row: Record) -> Reason:
    return Reason(
        ordinal=row["ordinal"],
        sqlstate=row["sql_state"],
        message=row["message"],
        columns=row["column_name"] or row["constraint_columns"],
        constraint=row["constraint_name"],
        rule=row["constraint_rule"],
    )


async def write_rejects(session: Session, batch: Batch, rejects: Sequence[Reject]) -> None:
    """Write a batch's rejects, in the batch's transaction, as far as the job may store more of them."""
    if rejects:
        rejects = _first_records(rejects, await session.value(statement("room_for_rejects"), batch.chunk.job_id))
    if not rejects:
        return
    texts = [_as_text(reject.raw) for reject in rejects]
    await session.execute(
        statement("insert_rejects"),
        batch.chunk.job_id,
        batch.chunk.id,
        [reject.line for reject in rejects],
        [reject.byte_offset for reject in rejects],
        [reject.column for reject in rejects],
        [_storable(reject.value) for reject in rejects],
        [reject.code for reject in rejects],
        [reject.sqlstate for reject in rejects],
        [_storable(reject.message) for reject in rejects],
        texts,
        [reject.raw if text is None else None for reject, text in zip(rejects, texts, strict=True)],
        [reject.truncated for reject in rejects],
    )


def _first_records(rejects: Sequence[Reject], count: int) -> Sequence[Reject]:
    """Return all the reasons of the first `count` records."""
    if len(rejects) <= count:
        return rejects
    kept = set(sorted({reject.byte_offset for reject in rejects})[:count])
    return [reject for reject in rejects if reject.byte_offset in kept]


def _as_text(raw: bytes) -> str | None:
    """Return the raw record as text that PostgreSQL can store, or None when only its bytes are true to it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text


def _storable(text: str | None) -> str | None:
    return text.replace("\x00", "\\x00") if text else text
