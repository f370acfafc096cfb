"""staged: the batch's bytes go unparsed into a staging table of texts, and one statement makes rows of them.

For datasets with rules, formats, keys or several targets. Records with faults are rejected by that statement, all their
faults at once; what only inserting can find out (references, triggers, other constraints) fails it, and then the same
statement is run for halves of the batch until each such record stands alone.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest.batch import Batch, BatchResult
from ingest.database import Record, Session
from ingest.errors import AccountingError, RowError
from ingest.loading.judging import TableRule
from ingest.loading.merge import MergeStatement, merge_statement
from ingest.loading.reasons import Reason
from ingest.loading.screening import has_moving_dates, may_stage, records_of, reject_of, screened
from ingest.loading.staging import constraint_reason, copy_options, prepare_staging, stage_those_that_fit, staging_table
from ingest.loading.texts import Fault
from ingest.queue import resolve_rejects
from ingest.reject import Reject
from ingest.spec import Field
from ingest.splitter import Records
from ingest.statements import statement

# Sorting and joining a batch stays in memory; compiling a statement costs more than it saves on one batch.
SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"

COUNTS = ("inserted", "updated", "unchanged", "skipped")


async def copy_staged(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load a batch by its dataset's plan. Raises RowError when the batch has to be isolated."""
    if not may_stage(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    spec = batch.chunk.spec
    table, names = staging_table(len(spec.columns))
    copied = await session.copy(
        f"{opening}; {SETTINGS}; {prepare_staging(len(spec.columns))}; "
        f"COPY {table} ({names}) FROM STDIN ({copy_options(spec.dialect)})",
        batch.data,
    )
    if copied.rows != batch.range.records:
        raise RowError(f"COPY read {copied.rows} records instead of {batch.range.records}", sqlstate="22P04")
    merge = await _statement(session, batch)
    (row,) = await session.fetch(merge.sql, 0, copied.rows - 1)
    return await _result(session, batch, merge, records_of(batch) if row["faults"] else None, [row], [], [])


async def isolate_staged(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load the good records of a batch by its dataset's plan and return all others as rejects."""
    await session.execute(f"{opening}; {SETTINGS}")
    where = records_of(batch)
    broken, sound = screened(batch, where)
    if not sound:
        return BatchResult(rejected=len(broken), rejects=tuple(broken))
    _, too_wide = await stage_those_that_fit(session, batch.chunk.spec, sound)
    merge = await _statement(session, batch)
    rows = await session.fetch(statement("merge_isolated"), merge.sql, 0, sound[-1][0])
    merged = [row for row in rows if row["ordinal"] is None]
    refused = too_wide + [constraint_reason(row) for row in rows if row["ordinal"] is not None]
    return await _result(session, batch, merge, where, merged, refused, broken)


async def _statement(session: Session, batch: Batch) -> MergeStatement:
    """Return the statement for a batch; the targets' own rules are asked for each time, since they may change."""
    spec = batch.chunk.spec
    targets = spec.plan.targets if spec.plan else ()
    schemas, tables = [target.schema for target in targets], [target.table for target in targets]
    rows = await session.fetch(statement("target_rules"), schemas, tables)
    rules = [TableRule(**{**row, "columns": tuple(row["columns"])}) for row in rows]
    return merge_statement(spec, tuple(rules), session.server_major, moving_dates=has_moving_dates(batch))


@dataclass(frozen=True, slots=True)
class _Found:
    """What is wrong with one record, in one of its columns."""

    ordinal: int
    column: str | None
    code: str
    sqlstate: str | None
    message: str


async def _result(
    session: Session,
    batch: Batch,
    merge: MergeStatement,
    where: Records | None,
    merged: Sequence[Record],
    refused: Sequence[Reason],
    broken: list[Reject],
) -> BatchResult:
    """Add up what became of a batch's records, and explain the faults."""
    counts = {name: sum(row[name] for row in merged) for name in COUNTS}
    faults = {ordinal: numbers for row in merged for ordinal, numbers in json.loads(row["faults"] or "[]")}
    rejects = broken
    if where is not None:
        found = await _explained(session, batch, merge, faults, refused)
        rejects = sorted([*broken, *_rejects(batch, where, found)], key=lambda reject: reject.byte_offset)
    await _resolve(session, batch, [*faults, *(reason.ordinal for reason in refused)])
    good = sum(row["good"] for row in merged)
    if sum(counts.values()) != good:
        raise AccountingError(f"{good} records are good but {counts} are accounted for")
    return BatchResult(**counts, rejected=len(broken) + len(faults) + len(refused), rejects=tuple(rejects))


async def _resolve(session: Session, batch: Batch, lost: Sequence[int]) -> None:
    """Mark the rejects of the parent job that this batch corrects: each record says which, but for the `lost` ones."""
    spec = batch.chunk.spec
    if batch.chunk.parent_id is None or spec.plan is None or spec.plan.parent_line is None:
        return
    column = f"c{spec.plan.parent_line + 1}"
    lines = await session.value(
        f"SELECT array_agg({column}::bigint) FROM {staging_table(len(spec.columns))[0]} "
        f"WHERE {column} ~ '^[0-9]{{1,18}}$' AND ordinal <> ALL ($1::integer[])",
        list(lost),
    )
    await resolve_rejects(session, batch, lines or [])


async def _explained(
    session: Session, batch: Batch, merge: MergeStatement, faults: dict[int, list[int]], refused: Sequence[Reason]
) -> list[_Found]:
    """Return what is wrong with records, in words; PostgreSQL is asked where only it knows which text is at fault."""
    unknown = [
        ordinal for ordinal, numbers in faults.items() if any(merge.faults[n - 1].message is None for n in numbers)
    ]
    nameless = [reason.ordinal for reason in refused if reason.columns is None and reason.is_about_a_value]
    asked = unknown + nameless
    rows = await session.fetch(merge.explain, asked) if asked else []
    said: dict[int, dict[str, Record]] = defaultdict(dict)
    for row in rows:
        said[row["ordinal"]][row["field"]] = row
    found = []
    for ordinal, numbers in faults.items():
        found += [_fault(batch, merge.faults[number - 1], ordinal, said[ordinal]) for number in sorted(numbers)]
    for reason in refused:
        texts = said[reason.ordinal] if reason.ordinal in nameless else {}
        found += [_refused_text(batch, row) for row in texts.values()] or [_refusal(reason)]
    return found


def _fault(batch: Batch, fault: Fault, ordinal: int, said: dict[str, Record]) -> _Found:
    columns = ", ".join(_column(batch, field) for field in fault.fields) or None
    if fault.message is not None:
        message = f"{columns} {fault.message}" if fault.built_in and columns else fault.message
        return _Found(ordinal, columns, fault.code, fault.sqlstate, message)
    (field,) = fault.fields
    if field.name not in said:
        raise RowError("a value was refused for a reason that cannot be told apart", sqlstate="22P04")
    return _refused_text(batch, said[field.name])


def _refused_text(batch: Batch, row: Record) -> _Found:
    plan = batch.chunk.spec.plan
    fields = {field.name: field for field in plan.fields} if plan else {}
    column = _column(batch, fields[row["field"]])
    reason = Reason(ordinal=row["ordinal"], sqlstate=row["sql_state"], message=row["message"], columns=column)
    return _refusal(reason)


def _column(batch: Batch, field: Field) -> str:
    """Return a field's name as rejects show it: the file's own name for its column."""
    return field.name if field.position is None else batch.chunk.spec.columns[field.position].name


def _refusal(reason: Reason) -> _Found:
    return _Found(reason.ordinal, reason.columns, reason.code, reason.sqlstate, reason.sentence())


def _rejects(batch: Batch, where: Records, found: Iterable[_Found]) -> Iterable[Reject]:
    for one in found:
        start = int(where.start[one.ordinal])
        yield reject_of(
            batch,
            line=int(where.line[one.ordinal]),
            start=start,
            record=batch.data[start : int(where.end[one.ordinal])],
            code=one.code,
            message=one.message,
            column=one.column,
            sqlstate=one.sqlstate,
        )
