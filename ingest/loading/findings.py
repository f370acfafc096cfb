"""What a merge found wrong with staged records -> rejects, in words; PostgreSQL is asked where only it knows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.batch import Batch
from ingest.database import Record, Session
from ingest.errors import RowError
from ingest.loading.merge import MergeStatement
from ingest.loading.reasons import Reason, code_of
from ingest.loading.screening import reject_of
from ingest.loading.staging import constraint_reason
from ingest.loading.texts import Fault
from ingest.reading.records import Records
from ingest.reject import Reject
from ingest.spec import Field, Plan
from ingest.statements import statement


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the staged record `ordinal`, in one of its columns or as a whole."""

    ordinal: int
    column: str | None
    code: str
    sqlstate: str | None
    message: str


class Findings:
    """What rows of a merge statement found, put into words. Ordinals are those of the staging table."""

    def __init__(self, batch: Batch, plan: Plan, merge: MergeStatement, merged: Sequence[Record]) -> None:
        self._batch = batch
        self._fields = {field.name: field for field in plan.fields}
        self._merge = merge
        # By ordinal, the numbers of merge.faults.
        self.faults = {
            ordinal: _numbers(text)
            for row in merged
            for ordinal, text in zip(row["faulty"] or (), row["faults"] or (), strict=True)
        }
        self.lost: list[int] = [ordinal for row in merged for ordinal in row["lost"] or ()]
        self.refused: list[Reason] = []  # what only inserting found out

    @property
    def ordinals(self) -> list[int]:
        """The records that are not in the table."""
        return [*self.faults, *self.lost, *(reason.ordinal for reason in self.refused)]

    def keep_first(self, count: int) -> None:
        """Forget all but the first `count` records: the others are counted and need no explanation."""
        if count >= len(self.ordinals):
            return
        kept = set(sorted(self.ordinals)[: max(count, 0)])
        self.faults = {ordinal: numbers for ordinal, numbers in self.faults.items() if ordinal in kept}
        self.lost = [ordinal for ordinal in self.lost if ordinal in kept]
        self.refused = [reason for reason in self.refused if reason.ordinal in kept]

    async def explained(self, session: Session, plain: MergeStatement) -> list[Finding]:
        """Return everything in words. `plain` is the statement that fails for a record whose key is taken."""
        return [
            *await self._faults(session),
            *await self._lost(session, plain),
            *await self._refused(session),
        ]

    async def _faults(self, session: Session) -> list[Finding]:
        unknown = [
            ordinal
            for ordinal, numbers in self.faults.items()
            if any(self._merge.faults[number - 1].message is None for number in numbers)
        ]
        said = await _said(session, self._merge.explain_quickly, unknown)
        return [
            self._fault(self._merge.faults[number - 1], ordinal, said.get(ordinal, {}))
            for ordinal, numbers in self.faults.items()
            for number in sorted(numbers)
        ]

    async def _lost(self, session: Session, plain: MergeStatement) -> list[Finding]:
        """Name the key that is taken; where it cannot be looked up, inserting the record alone tells."""
        if not self.lost:
            return []
        found: list[Finding] = []
        alone: list[int] = []
        for row in await session.fetch(self._merge.explain_lost, self.lost):
            if row["number"] is None:
                alone.append(row["ordinal"])
            else:
                found.append(self._taken(row["ordinal"], row["number"]))
        for ordinal in alone:
            rows = await session.fetch(statement("merge_isolated"), plain.sql, ordinal, ordinal, None)
            if rows[0]["ordinal"] is None:
                raise RowError("a record was refused for a reason that cannot be told apart", sqlstate="22P04")
            found.append(self._refusal(constraint_reason(rows[0])))
        return found

    async def _refused(self, session: Session) -> list[Finding]:
        nameless = [reason.ordinal for reason in self.refused if reason.columns is None and reason.is_about_a_value]
        said = await _said(session, self._merge.explain, nameless)
        found: list[Finding] = []
        for reason in self.refused:
            texts = said.get(reason.ordinal, {}) if reason.ordinal in nameless else {}
            found += [self._text(row) for row in texts.values()] or [self._refusal(reason)]
        return found

    def _fault(self, fault: Fault, ordinal: int, said: Mapping[str, Record]) -> Finding:
        columns = ", ".join(self._column(field) for field in fault.fields) or None
        if fault.message is not None:
            message = f"{columns} {fault.message}" if fault.built_in and columns else fault.message
            return Finding(ordinal, columns, fault.code, fault.sqlstate, message)
        (field,) = fault.fields
        if field.name not in said:
            raise RowError("a value was refused for a reason that cannot be told apart", sqlstate="22P04")
        return self._text(said[field.name])

    def _taken(self, ordinal: int, number: int) -> Finding:
        unique = self._merge.uniques[number - 1]
        columns = ", ".join(unique.columns)
        return self._refusal(
            Reason(ordinal=ordinal, sqlstate="23505", message="", columns=columns, constraint=unique.name)
        )

    def _text(self, row: Record) -> Finding:
        """Put into words what PostgreSQL said of a text."""
        column = self._column(self._fields[row["field"]])
        reason = Reason(ordinal=row["ordinal"], sqlstate=row["sql_state"], message=row["message"], columns=column)
        return Finding(row["ordinal"], column, code_of(row["sql_state"]), row["sql_state"], reason.sentence())

    def _refusal(self, reason: Reason) -> Finding:
        return Finding(reason.ordinal, reason.columns, reason.code, reason.sqlstate, reason.sentence())

    def _column(self, field: Field) -> str:
        """Return a field's name as rejects show it: the file's own name for its column."""
        return field.name if field.position is None else self._batch.chunk.spec.columns[field.position].name


@lru_cache(maxsize=1024)
def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


async def _said(session: Session, explain: str, ordinals: Sequence[int]) -> dict[int, dict[str, Record]]:
    """Ask PostgreSQL about some records; returns what it said by ordinal and field."""
    said: dict[int, dict[str, Record]] = defaultdict(dict)
    for row in await session.fetch(explain, list(ordinals)) if ordinals else ():
        said[row["ordinal"]][row["field"]] = row
    return said


def rejects_of(batch: Batch, where: Records, found: Iterable[Finding], number: Sequence[int]) -> list[Reject]:
    """Return the rejects for findings; `number` gives the record's number in the batch for each ordinal."""
    rejects = []
    for finding in found:
        i = number[finding.ordinal]
        start = int(where.start[i])
        reject = reject_of(
            batch,
            line=int(where.line[i]),
            start=start,
            record=batch.data[start : int(where.end[i])],
            code=finding.code,
            message=finding.message,
            column=finding.column,
            sqlstate=finding.sqlstate,
        )
        rejects.append(reject)
    return rejects
