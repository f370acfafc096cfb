"""The merge of a batch's staged records: one statement for all, or for halves of them, and what became of each."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.batch import Batch, BatchResult
from ingest.database import Record, Session
from ingest.errors import AccountingError, RowError
from ingest.ledger import resolve_rejects
from ingest.loading.findings import Findings, rejects_of
from ingest.loading.judging import Staging
from ingest.loading.locating import located
from ingest.loading.merge import MergeStatement, judge_statement, merge_statement
from ingest.loading.reasons import MANY_BAD, Reason
from ingest.loading.staging import constraint_reason
from ingest.loading.tablerules import TableRule, rules_of
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

    `highest` is the last one's ordinal; the ordinals leave no gap for the records that are `gone`. `rules` of the
    targets, and `where` the batch's records are, if that is known already.
    """

    def __init__(
        self, session: Session, batch: Batch, staging: Staging, *, staged: int, highest: int, room: int,
        rejects: Sequence[Reject] = (), rejected: int = 0, gone: Sequence[int] = (),
        rules: tuple[TableRule, ...] | None = None, where: Records | None = None,
    ) -> None:  # fmt: skip
        self._session = session
        self._batch = batch
        self._plan = plan_of(batch)
        self._staging = staging
        self._staged = staged
        self._highest = highest
        self._rejects = list(rejects)
        self._rejected = rejected
        self._gone = gone
        self._rules = rules
        self._where = where
        self._room = max(room - rejected, 0)

    async def whole(self) -> BatchResult:
        """Merge the staged records, as long as they are clean. Raises RowError when one fails the statement."""
        if len(self._plan.targets) > 1:
            return await self._merged(await self._statement())
        return await self._merged(merge_statement(self._plan, (), self._staging, quick=True))

    async def isolated(self) -> BatchResult:
        """Merge the staged records, those whose key is taken aside. Raises RowError when one fails the statement."""
        return await self._merged(await self._statement(isolating=True))

    async def judged(self) -> list[Reject]:
        """Return the rejects of the staged records and merge none. Raises RowError when one of them is good."""
        judging = judge_statement(self._plan, self._staging)
        rows = await self._session.fetch(judging.sql, 0, self._highest, self._room)
        if any(row["good"] for row in rows):
            raise RowError("a text is none of its type before it has been read as the plan says", sqlstate=MANY_BAD)
        return await self._explained(Findings(self._batch, self._plan, judging, rows))

    async def halved(self, refused: Sequence[Reason]) -> BatchResult:
        """Merge what can be merged and find each record that fails, besides those that were `refused` before."""
        merge = await self._statement(isolating=True)
        rows = await self._session.fetch(statement("merge_isolated"), merge.sql, 0, self._highest, self._looked_at)
        merged = [row for row in rows if row["ordinal"] is None]
        findings = Findings(self._batch, self._plan, merge, merged)
        findings.refused = [*refused, *(constraint_reason(row) for row in rows if row["ordinal"] is not None)]
        self._staged += len(refused)
        return await self._result(merged, findings)

    @property
    def _looked_at(self) -> int | None:
        """How many faulty records the statement has to name; all (None) where the others resolve rejects."""
        return None if self._resolves else self._room

    @property
    def _resolves(self) -> bool:
        return self._batch.chunk.parent_id is not None and self._plan.parent_line is not None

    async def _statement(self, *, isolating: bool = False) -> MergeStatement:
        rules = self._rules
        if rules is None:
            rules = await rules_of(self._session, self._plan.targets)
        return merge_statement(self._plan, rules, self._staging, isolating=isolating)

    async def _merged(self, merge: MergeStatement) -> BatchResult:
        rows = await self._session.fetch(merge.sql, 0, self._highest, self._looked_at)
        return await self._result(rows, Findings(self._batch, self._plan, merge, rows))

    async def _result(self, merged: Sequence[Record], findings: Findings) -> BatchResult:
        """Add up what became of the batch's records, with the rejects of those that are not in."""
        counts = {name: sum(row[name] for row in merged) for name in COUNTS}
        good = sum(row["good"] for row in merged)
        if sum(counts.values()) + len(findings.lost) != good:
            raise AccountingError(f"{good} records are good but {counts} and {len(findings.lost)} lost were counted")
        if self._resolves:
            await self._resolve(findings.ordinals)
        rejected = self._rejected + self._staged - good + len(findings.lost)
        self._rejects += await self._explained(findings)
        self._rejects.sort(key=lambda reject: reject.byte_offset)
        repeated = sum(row["repeated"] for row in merged)
        return BatchResult(**counts, rejected=rejected, repeated=repeated, rejects=tuple(self._rejects))

    async def _explained(self, findings: Findings) -> list[Reject]:
        """Return the rejects for what was found, as far as there is room for them."""
        findings.keep_first(self._room)
        if not findings.ordinals:
            return []
        found = await findings.explained(self._session, merge_statement(self._plan, (), self._staging))
        return rejects_of(self._batch, self._where or located(self._batch), found, self._numbers())

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
