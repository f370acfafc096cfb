"""sifted: of an append to a table with keys, the records whose key may be taken are loaded after the others.

INSERT ... ON CONFLICT costs twice what COPY does. So the keys alone are staged and looked up; the records whose keys
are free go unparsed into COPY, and the few others through the statement that judges. The look-up decides nothing but
who goes which way: a record whose key turns out to be free is loaded, and a COPY that fails leaves the batch to others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ingest.batch import Batch, BatchResult
from ingest.bits import Offsets
from ingest.database import Session, quoted
from ingest.errors import AccountingError, RowError
from ingest.loading.direct import copy_statement
from ingest.loading.judging import Staging
from ingest.loading.keys import key_lines
from ingest.loading.locating import is_one_line_each, lines_of, located
from ingest.loading.merging import Merging, plan_of
from ingest.loading.screening import has_moving_dates, may_copy
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, skipped_records
from ingest.loading.staged import SETTINGS
from ingest.loading.staging import (
    copy_options,
    numbered_copy,
    prepare_staging,
    prepare_table,
    staging_table,
    target,
)
from ingest.loading.tablerules import RuleOf, TableRule, rules_of
from ingest.reading.records import Records

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

# Records in a row whose keys are looked for together first.
STRETCH = 64
# Types whose least and greatest value an aggregate tells.
ORDERED = re.compile(r"(bigint|integer|smallint|numeric|date|timestamp|text|character)\b[^\[]*$")


async def copy_sifted(session: Session, batch: Batch, room: int) -> BatchResult:
    """Load a batch, first the records whose keys are free. Raises RowError when that is not the way for it."""
    if session.server_major < SKIPS_BAD_VALUES_SINCE or not is_one_line_each(batch) or not may_copy(batch):
        raise RowError("the batch is not sifted", sqlstate="22P04")
    where = await session.aside(lambda: located(batch))
    rules = await rules_of(session, plan_of(batch).targets)
    free = await _with_free_keys(session, batch, where, rules)
    result = await _copy_only(session, batch, where, np.flatnonzero(free), room)
    rest = np.flatnonzero(~free).tolist()
    if not rest:
        return result
    records = [(i, batch.data[where.start[i] : where.end[i]]) for i in rest]
    table = await _stage(session, batch, records)
    staging = Staging(
        table=table, server_major=session.server_major, moving_dates=has_moving_dates(batch), thorough=True
    )
    merging = Merging(
        session, batch, staging, staged=len(records), highest=rest[-1], room=room,
        rejects=result.rejects, rejected=result.rejected, rules=rules, where=where,
    )  # fmt: skip
    merged = await merging.isolated()
    return replace(merged, inserted=merged.inserted + result.inserted)


async def _stage(session: Session, batch: Batch, records: Sequence[tuple[int, bytes]]) -> str:
    """Put records into the staging table and return its name."""
    width = len(batch.chunk.spec.columns)
    copy, lines = numbered_copy(batch.chunk.spec, records)
    await session.copy(f"{prepare_staging(width)}; {copy}", lines)
    return staging_table(width)[0]


async def _copy_only(session: Session, batch: Batch, where: Records, kept: Offsets, room: int) -> BatchResult:
    """Copy some records of a batch."""
    data = batch.data if kept.size == where.start.size else lines_of(batch.data, where, kept)
    copied = await session.copy(copy_statement(batch.chunk.spec, kept.size, session.server_major), data)
    skipped, rejects = await skipped_records(session, batch, copied, room, kept)
    if copied.rows + len(skipped) != kept.size:
        raise AccountingError(f"COPY took {copied.rows} of {kept.size} records and named {len(skipped)}")
    return BatchResult(inserted=copied.rows, rejected=len(skipped), rejects=tuple(rejects))


async def _with_free_keys(session: Session, batch: Batch, where: Records, rules: Sequence[TableRule]) -> Flags:
    """Return for each record whether none of its keys is in the table, or in a record before it."""
    spec = batch.chunk.spec
    names = [column.name for column in spec.columns]
    uniques = [rule for rule in rules if rule.kind is RuleOf.UNIQUE and set(rule.columns) <= set(names)]
    if not uniques or any(rule.kind is RuleOf.UNFORESEEABLE for rule in rules):
        raise RowError("the table's keys cannot be looked up", sqlstate="22P04")
    columns = [i for i, name in enumerate(names) if any(name in rule.columns for rule in uniques)]
    table, prepare = _key_table([(names[i], spec.columns[i].type) for i in columns])
    lines = await session.aside(lambda: key_lines(batch.data, where, columns, len(names), spec.dialect))
    options = f"{copy_options(spec.dialect)}, FORCE_NOT_NULL (ordinal), ON_ERROR ignore"
    await session.copy(f"{SETTINGS}; {prepare}; COPY {table} FROM STDIN ({options})", lines)
    types = {column.name: column.type for column in spec.columns}
    free = np.ones(where.start.size, np.bool_)
    free[await session.value(_taken(table, target(spec), uniques, types)) or []] = False
    return free


def _key_table(columns: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """Return the staging table for keys of these columns and types, and the statements that make it."""
    digest = hashlib.sha256("\n".join(f"{name} {kind}" for name, kind in columns).encode()).hexdigest()[:16]
    name = f"ingest_keys_{digest}"
    made = ", ".join(["ordinal integer", *(f"{quoted(f'k:{column}')} {kind}" for column, kind in columns)])
    return f"pg_temp.{name}", prepare_table(name, made)


def _taken(table: str, into: str, uniques: Sequence[TableRule], types: Mapping[str, str]) -> str:
    """Return the query for the ordinals whose key is in the table `into`, or in a record before. NULL is no key."""
    found = []
    for rule in uniques:
        keys = [quoted(f"k:{column}") for column in rule.columns]
        given = " AND ".join(f"{key} IS NOT NULL" for key in keys)
        match = " AND ".join(f"t.{quoted(c)} = s.{key}" for c, key in zip(rule.columns, keys, strict=True))
        # Not EXISTS, which the planner may answer by reading the whole table.
        taken = f"(SELECT true FROM {into} AS t WHERE {match} LIMIT 1)"
        if ORDERED.match(types[rule.columns[0]]):
            taken = f"CASE WHEN ordinal / {STRETCH} IN ({_overlapping(table, into, rule.columns[0])}) THEN {taken} END"
        found.append(
            f"SELECT ordinal FROM (SELECT ordinal, row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY ordinal) "
            f"> 1 OR {taken} AS taken FROM {table} AS s WHERE {given}) AS f WHERE taken"
        )
    return f"SELECT array_agg(ordinal) FROM ({' UNION '.join(found)}) AS a"


def _overlapping(table: str, into: str, leading: str) -> str:
    """Return the query for the stretches of the batch among whose keys the table has one, by the index' first column.

    Where a file brings its keys in order hardly any has: then this look is the only one for all of a stretch.
    """
    key, column = quoted(f"k:{leading}"), f"t.{quoted(leading)}"
    stretches = (
        f"SELECT ordinal / {STRETCH} AS number, min({key}) AS least, max({key}) AS most FROM {table} "
        f"GROUP BY ordinal / {STRETCH}"
    )
    # Never beyond the stretch: behind it may lie all that other writers have not committed yet, row after row.
    among = f"(SELECT {column} FROM {into} AS t WHERE {column} BETWEEN least AND most ORDER BY {column} LIMIT 1)"
    return f"SELECT number FROM ({stretches}) AS stretches WHERE {among} IS NOT NULL"
