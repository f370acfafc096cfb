"""The merge of a batch's staged records: one statement for all, or for halves of them, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.batch import Batch, BatchResult
from ingest.database import Record, Session
from ingest.errors import AccountingError
from ingest.loading.findings import Findings, rejects_of
from ingest.loading.judging import Staging
from ingest.loading.locating import located
from ingest.loading.merge import MergeStatement, merge_statement
from ingest.loading.reasons import Reason
from ingest.loading.staging import constraint_reason
from ingest.loading.tablerules import TableRule, rules_of
from ingest.queue import resolve_rejects
from ingest.reading.records import Records
from ingest.reject import Reject
from ingest.spec import Plan, plain_plan
from ingest.statements import statement

COUNTS = ("inserted", "updated", "unchanged", "skipped")


def plan_of(batch: Batch) -> Plan:
    """Return the plan of a batch's dataset, or one that takes the columns as they are."""
    return batch.chunk.spec.plan or plain_plan(batch.chunk.spec)


class Merging:
    """So many `staged` records of a batch; `rejects` of `rejected` others; of `room` records the rejects are stored.

    The ordinals leave no gap for the records that are `gone`. `rules` of the targets, and `where` the batch's
    records are, if that is known already.
    """

    def __init__(
        self, session: Session, batch: Batch, staging: Staging, *, staged: int, room: int,
        rejects: Sequence[Reject] = (), rejected: int = 0, gone: Sequence[int] = (),
        rules: tuple[TableRule, ...] | None = None, where: Records | None = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._batch = batch
        self._plan = plan_of(batch)
        self._staging = staging
        self._staged = staged
        self._rejects = list(rejects)
        self._rejected = rejected
        self._gone = gone
        self._rules = rules
        self._where = where
        self._room = max(room - rejected, 0)

    async def whole(self, highest: int, *, isolating: bool) -> BatchResult:
        """Merge the staged records up to the ordinal `highest`. Raises RowError when one fails the statement."""
        merge = await self._statement(isolating=isolating)
        rows = await self._session.fetch(merge.sql, 0, highest, self._looked_at)
        return await self._result(merge, rows, Findings(self._batch, self._plan, merge, rows))

    async def halved(self, highest: int, refused: Sequence[Reason]) -> BatchResult:
        """Merge what can be merged and find each record that fails, besides those that were `refused` before."""
        merge = await self._statement(isolating=True)
        rows = await self._session.fetch(statement("merge_isolated"), merge.sql, 0, highest, self._looked_at)
        merged = [row for row in rows if row["ordinal"] is None]
        findings = Findings(self._batch, self._plan, merge, merged)
        findings.refused = [*refused, *(constraint_reason(row) for row in rows if row["ordinal"] is not None)]
        self._staged += len(refused)
        return await self._result(merge, merged, findings)

    @property
    def _looked_at(self) -> int | None:
        """How many faulty records the statement has to name; all (None) where the others resolve rejects."""
        return None if self._resolves else self._room

    @property
    def _resolves(self) -> bool:
        return self._batch.chunk.parent_id is not None and self._plan.parent_line is not None

    async def _statement(self, *, isolating: bool) -> MergeStatement:
        rules = self._rules
        if rules is None:
            rules = await rules_of(self._session, self._plan.targets)
        return merge_statement(self._plan, rules, self._staging, isolating=isolating)

    async def _result(self, merge: MergeStatement, merged: Sequence[Record], findings: Findings) -> BatchResult:
        """Add up what became of the batch's records, with the rejects of those that are not in."""
        counts = {name: sum(row[name] for row in merged) for name in COUNTS}
        good = sum(row["good"] for row in merged)
        if sum(counts.values()) + len(findings.lost) != good:
            raise AccountingError(f"{good} records are good but {counts} and {len(findings.lost)} lost were counted")
        if self._resolves:
            await self._resolve(findings.ordinals)
        rejected = self._rejected + self._staged - good + len(findings.lost)
        findings.keep_first(self._room)
        if findings.ordinals:
            plain = merge_statement(self._plan, (), self._staging)
            found = await findings.explained(self._session, plain)
            self._rejects += rejects_of(self._batch, self._where or located(self._batch), found, self._numbers())
        self._rejects.sort(key=lambda reject: reject.byte_offset)
        return BatchResult(**counts, rejected=rejected, rejects=tuple(self._rejects))

    def _numbers(self) -> Sequence[int]:
        """Return the number in the batch of each staged record, by its ordinal."""
        gone = set(self._gone)
        numbers = range(self._batch.range.records)
        return [i for i in numbers if i not in gone] if gone else numbers

    async def _resolve(self, lost: Sequence[int]) -> None:
        """Mark the rejects of the parent job that this batch corrects: each record says which, but for `lost` ones."""
        column = f"c{(self._plan.parent_line or 0) + 1}"
        lines = await self._session.value(
            f"SELECT array_agg({column}::bigint) FROM {self._staging.table} "
            f"WHERE {column} ~ '^[0-9]{{1,18}}$' AND ordinal <> ALL ($1::integer[])",
            list(lost),
        )
        await resolve_rejects(self._session, self._batch, lines or [])
