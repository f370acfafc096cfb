"""staged: the batch's bytes go unparsed into a staging table, and one statement judges them and makes rows of them.

For datasets with rules, formats, keys or several targets; and for any batch that a plain COPY could not take whole. All
faults of a record are found at once. Three steps, each for what the one before could not do:

    raw      the bytes as they are; a typed staging table where the texts need no reading of ours, else one of texts
    screened malformed records are left out first, which takes a look at every record
    halved   what only inserting finds out fails the statement: it is run for halves until such a record stands alone
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ingest.batch import Batch, BatchResult
from ingest.database import Record, Session
from ingest.errors import AccountingError, RowError
from ingest.loading.findings import Findings, rejects_of
from ingest.loading.judging import Staging
from ingest.loading.merge import MergeStatement, merge_statement
from ingest.loading.reasons import Reason
from ingest.loading.screening import has_moving_dates, may_stage, records_of, reject_of, screened
from ingest.loading.skipped import SKIPS_BAD_VALUES_SINCE, skipped_records
from ingest.loading.staging import (
    constraint_reason,
    copy_options,
    prepare_staging,
    prepare_typed_staging,
    stage_those_that_fit,
    staging_table,
    typed_staging_table,
)
from ingest.loading.tablerules import rules_of
from ingest.queue import resolve_rejects
from ingest.reject import Reject
from ingest.spec import Plan, plain_plan
from ingest.splitter import Records
from ingest.statements import statement

# Sorting and grouping a batch stays in memory; compiling a statement costs more than it saves on one batch.
SETTINGS = "SET LOCAL work_mem = '32MB'; SET LOCAL jit = off"

COUNTS = ("inserted", "updated", "unchanged", "skipped")


async def copy_staged(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load a batch by its dataset's plan. Raises RowError when the batch has to be isolated."""
    return await _raw(session, batch, opening, isolating=False)


async def isolate(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Load the good records of a batch, by its plan or as they are, and return all others as rejects."""
    await session.execute(opening)
    if may_stage(batch):
        # The savepoint keeps a failure from ending the transaction.
        result = await session.attempt(partial(_raw, batch=batch, opening=SETTINGS, isolating=True))
        if result is not None:
            return result
    return await _screened(session, batch)


async def _raw(session: Session, batch: Batch, opening: str, *, isolating: bool) -> BatchResult:
    """Stage the bytes as they are and merge them. Raises RowError when they are not well-formed."""
    if not may_stage(batch):
        raise RowError("the batch holds lines that COPY would misread", sqlstate="22P04")
    plan = _plan(batch)
    moving_dates = has_moving_dates(batch)
    typed = plan.is_plain and not moving_dates and session.server_major >= SKIPS_BAD_VALUES_SINCE
    types = batch.chunk.spec.types
    prepare = prepare_typed_staging(types) if typed else prepare_staging(len(types))
    table, names = typed_staging_table(types) if typed else staging_table(len(types))
    options = copy_options(batch.chunk.spec.dialect) + (", ON_ERROR ignore, LOG_VERBOSITY verbose" if typed else "")
    copied = await session.copy(
        f"{opening}; {SETTINGS}; {prepare}; COPY {table} ({names}) FROM STDIN ({options})", batch.data
    )
    skipped, rejects = await skipped_records(session, batch, copied) if typed else ([], [])
    if copied.rows + len(skipped) != batch.range.records:
        raise RowError(f"COPY read {copied.rows} of {batch.range.records} records", sqlstate="22P04")
    staging = Staging(
        table=table, server_major=session.server_major, typed=typed, moving_dates=moving_dates, thorough=isolating
    )
    highest = await session.value(f"SELECT max(ordinal) FROM {table}") if skipped else copied.rows - 1
    # Before PostgreSQL 18 a skipped record takes no number; if none of the others seems to have one, nobody is misled.
    gone = skipped if highest == copied.rows - 1 else ()
    merging = _Merging(session, batch, plan, staging, rejects, gone)
    return await merging.whole(highest or 0, isolating=isolating)


async def _screened(session: Session, batch: Batch) -> BatchResult:
    """Stage the well-formed records and merge them, halving where that fails."""
    await session.execute(SETTINGS)
    where = records_of(batch)
    broken, sound = screened(batch, where)
    if not sound:
        return BatchResult(rejected=len(broken), rejects=tuple(broken))
    staged, too_wide = await stage_those_that_fit(session, batch.chunk.spec, sound)
    broken += [_too_wide(batch, where, reason) for reason in too_wide]
    staging = Staging(
        table=staged.table,
        server_major=session.server_major,
        moving_dates=has_moving_dates(batch),
        thorough=True,
    )
    return await _Merging(session, batch, _plan(batch), staging, broken, ()).halved(sound[-1][0])


def _too_wide(batch: Batch, where: Records, reason: Reason) -> Reject:
    start, end = int(where.start[reason.ordinal]), int(where.end[reason.ordinal])
    return reject_of(
        batch,
        line=int(where.line[reason.ordinal]),
        start=start,
        record=batch.data[start:end],
        code=reason.code,
        message=reason.sentence(),
        sqlstate=reason.sqlstate,
    )


def _plan(batch: Batch) -> Plan:
    return batch.chunk.spec.plan or plain_plan(batch.chunk.spec)


class _Merging:
    """A batch in its staging table, and the rejects so far. Ordinals leave no gap for the records that are `gone`."""

    def __init__(
        self,
        session: Session,
        batch: Batch,
        plan: Plan,
        staging: Staging,
        rejects: Sequence[Reject],
        gone: Sequence[int],
    ) -> None:
        self._session = session
        self._batch = batch
        self._plan = plan
        self._staging = staging
        self._rejects = list(rejects)
        self._rejected = len({reject.byte_offset for reject in rejects})
        self._gone = gone

    async def whole(self, highest: int, *, isolating: bool) -> BatchResult:
        """Merge all staged records with one statement. Raises RowError when one of them fails it."""
        merge = await self._statement(isolating=isolating)
        rows = await self._session.fetch(merge.sql, 0, highest)
        return await self._result(merge, rows, Findings(self._batch, self._plan, merge, rows))

    async def halved(self, highest: int) -> BatchResult:
        """Merge what can be merged, and find each record that fails."""
        merge = await self._statement(isolating=True)
        rows = await self._session.fetch(statement("merge_isolated"), merge.sql, 0, highest)
        merged = [row for row in rows if row["ordinal"] is None]
        findings = Findings(self._batch, self._plan, merge, merged)
        findings.refused = [constraint_reason(row) for row in rows if row["ordinal"] is not None]
        return await self._result(merge, merged, findings)

    async def _statement(self, *, isolating: bool) -> MergeStatement:
        rules = await rules_of(self._session, self._plan.targets)
        return merge_statement(self._plan, rules, self._staging, isolating=isolating)

    async def _result(self, merge: MergeStatement, merged: Sequence[Record], findings: Findings) -> BatchResult:
        """Add up what became of the batch's records, with the rejects of those that are not in."""
        counts = {name: sum(row[name] for row in merged) for name in COUNTS}
        good = sum(row["good"] for row in merged)
        if sum(counts.values()) + len(findings.lost) != good:
            raise AccountingError(f"{good} records are good but {counts} and {len(findings.lost)} lost were counted")
        await self._resolve(findings.ordinals)
        if findings.ordinals:
            plain = merge_statement(self._plan, (), self._staging)
            where = records_of(self._batch)
            found = await findings.explained(self._session, plain)
            self._rejects += rejects_of(self._batch, where, found, self._numbers(where))
        self._rejects.sort(key=lambda reject: reject.byte_offset)
        rejected = self._rejected + len(findings.ordinals)
        return BatchResult(**counts, rejected=rejected, rejects=tuple(self._rejects))

    def _numbers(self, where: Records) -> Sequence[int]:
        """Return the number in the batch of each staged record, by its ordinal."""
        gone = set(self._gone)
        return [i for i in range(len(where.start)) if i not in gone]

    async def _resolve(self, lost: Sequence[int]) -> None:
        """Mark the rejects of the parent job that this batch corrects: each record says which, but for `lost` ones."""
        if self._batch.chunk.parent_id is None or self._plan.parent_line is None:
            return
        column = f"c{self._plan.parent_line + 1}"
        lines = await self._session.value(
            f"SELECT array_agg({column}::bigint) FROM {self._staging.table} "
            f"WHERE {column} ~ '^[0-9]{{1,18}}$' AND ordinal <> ALL ($1::integer[])",
            list(lost),
        )
        await resolve_rejects(self._session, self._batch, lines or [])
