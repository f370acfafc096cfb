"""A plan -> the query that judges staged records: their values, and the numbers of their faults.

The steps are nested queries, each fenced by OFFSET 0 so that nothing is worked out twice: trimmed texts, plain texts,
early faults, values, late faults. The columns of the outermost: "#" (the record's ordinal), "f:" (its faults) and the
fields by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.database import quoted
from ingest.loading.staging import literal, staging_table
from ingest.loading.texts import Fault, Steps, check_fault
from ingest.spec import Merge, Plan, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """What target number `target` (from 1) demands of each row by itself: a CHECK, or (no `expression`) NOT NULL."""

    target: int
    name: str
    expression: str | None
    columns: tuple[str, ...]
    rule: str | None


class Judging:
    """The SQL for one plan. `faults` by number from 1; they get their numbers as `query` is written."""

    def __init__(
        self, plan: Plan, width: int, rules: Sequence[TableRule], server_major: int, *, moving_dates: bool
    ) -> None:
        self._plan = plan
        self._moving_dates = moving_dates
        self._rules = rules
        self._staging = staging_table(width)[0]
        self._server_major = server_major
        self._steps = [Steps(field, number) for number, field in enumerate(plan.fields, 1)]
        self.faults: list[Fault] = []

    def query(self) -> str:
        """Return the query over the records $1..$2."""
        early = ", ".join(f"{self._early(steps)} AS {steps.early}" for steps in self._steps)
        texts = self._texts('WHERE "#" BETWEEN $1 AND $2')
        fenced = f"SELECT *, {early} FROM ({texts}) AS t OFFSET 0"
        plain = [steps.plain for steps in self._steps if steps.field.required]
        early_names = [steps.early for steps in self._steps]
        typed = [f"{steps.value_sql()} AS {steps.value}" for steps in self._steps]
        valued = f'SELECT "#", {", ".join([*plain, *early_names, *typed])} FROM ({fenced}) AS e OFFSET 0'
        values = ", ".join(steps.value for steps in self._steps)
        return f'SELECT "#", {self._found(early_names)} AS "f:", {values} FROM ({valued}) AS v'

    def explanation(self) -> str:
        """Return the query that asks PostgreSQL which texts of the records $1 it refuses, and why."""
        asked = ", ".join(f"({literal(s.field.name)}, {s.plain}, {literal(s.field.type)})" for s in self._steps)
        texts = self._texts('WHERE "#" = ANY ($1)')
        return (
            f'SELECT t."#" AS ordinal, q.field, e.sql_state, e.message FROM ({texts}) AS t '
            f"CROSS JOIN LATERAL (VALUES {asked}) AS q(field, value, type) "
            "CROSS JOIN LATERAL ingest.input_error(q.value, q.type) AS e"
        )

    def _texts(self, where: str) -> str:
        unguard = self._plan.parent_line is not None
        trimmed = ", ".join(f"{steps.trimmed_sql(unguard=unguard)} AS {steps.trimmed}" for steps in self._steps)
        plain = ", ".join(f"{steps.plain_sql()} AS {steps.plain}" for steps in self._steps)
        staged = f'SELECT ordinal AS "#", * FROM {self._staging}'
        return f'SELECT *, {plain} FROM (SELECT "#", {trimmed} FROM ({staged}) AS s {where} OFFSET 0) AS r OFFSET 0'

    def _early(self, steps: Steps) -> str:
        faults = steps.early_faults(self._server_major, moving_dates=self._moving_dates)
        cases = " ".join(f"WHEN {fault.condition} THEN {self._number(fault)}" for fault in faults)
        return f"CASE {cases} END" if cases else "NULL::integer"

    def _found(self, early: list[str]) -> str:
        """Return the array of a record's faults; most have none, and for them no array is put together."""
        late = {self._number(fault): fault.condition for fault in self._late()}
        clean = " AND ".join([*(f"{name} IS NULL" for name in early), *(f"({c}) IS NOT TRUE" for c in late.values())])
        numbers = [*early, *(f"CASE WHEN {condition} THEN {number} END" for number, condition in late.items())]
        return f"CASE WHEN {clean} THEN '{{}}' ELSE array_remove(ARRAY[{', '.join(numbers)}], NULL) END"

    def _late(self) -> Iterator[Fault]:
        sound = " AND ".join(f"{steps.early} IS NULL" for steps in self._steps)
        checks = [
            replace(fault, condition=f"{sound} AND {fault.condition}") for fault in map(check_fault, self._plan.checks)
        ]
        rules = [fault for steps in self._steps for fault in steps.late_faults()]
        yield from (*rules, *self._empty(), *self._broken(), *checks)

    def _empty(self) -> Iterator[Fault]:
        """Yield a fault for each field that some target cannot do without: NULL is no key, and NOT NULL refuses it."""
        left = {steps.field.name: steps for steps in self._steps if not steps.field.required}
        for number, target in enumerate(self._plan.targets, 1):
            fields = dict(target.columns)
            keys = set(target.key if target.merge is not Merge.APPEND else ())
            filled = {rule.name for rule in self._rules if rule.target == number and rule.expression is None}
            for column in [column for column in fields if column in keys | filled]:
                if steps := left.pop(fields[column], None):
                    yield _empty(steps, target, "is part of the key" if column in keys else "must have a value")

    def _broken(self) -> Iterator[Fault]:
        """Yield a fault for each CHECK of a target that speaks of nothing but what the record gives."""
        by_name = {steps.field.name: steps for steps in self._steps}
        for rule in self._rules:
            target = self._plan.targets[rule.target - 1]
            fields = dict(target.columns)
            if rule.expression is not None and all(column in fields for column in rule.columns):
                yield _broken(rule, target, [by_name[fields[column]] for column in rule.columns])

    def _number(self, fault: Fault) -> int:
        self.faults.append(fault)
        return len(self.faults)


def _empty(steps: Steps, target: Target, why: str) -> Fault:
    condition = f"{steps.early} IS NULL AND {steps.value} IS NULL{_wanted(target)}"
    sqlstate = None if why.endswith("key") else "23502"
    return Fault(
        condition=condition, fields=(steps.field,), code="E_NOT_NULL", message=f"is empty, but {why}", sqlstate=sqlstate
    )


def _broken(rule: TableRule, target: Target, said: Sequence[Steps]) -> Fault:
    condition = f"NOT ({rule.expression})"
    names = zip(rule.columns, said, strict=True)
    if any(steps.field.name != column for column, steps in names):
        values = ", ".join(f"v.{s.value} AS {quoted(column)}" for column, s in zip(rule.columns, said, strict=True))
        condition = f"(SELECT {condition} FROM (SELECT {values}) AS c)"
    sound = "".join(f"{steps.early} IS NULL AND " for steps in said)
    return Fault(
        condition=f"{sound}{condition}{_wanted(target)}",
        fields=tuple(steps.field for steps in said),
        code="E_CHECK",
        message=f"breaks the rule {rule.name}: {rule.rule}",
        sqlstate="23514",
    )


def _wanted(target: Target) -> str:
    return f" AND {needed(target)}" if target.needs else ""


def needed(target: Target) -> str:
    """Return the condition under which a record has a row in a target that not every record has one in."""
    return f"NOT ({' AND '.join(f'{quoted(name)} IS NULL' for name in target.needs)})"
