"""A plan -> the query that judges staged records: their values, and the numbers of their faults.

The steps are nested queries, each fenced by OFFSET 0 so that nothing is worked out twice: trimmed texts, plain texts,
early faults, values, late faults. Fields that need no judging pass them by, and where none does, there are no fences.
The columns of the outermost: "#" (the record's ordinal), "f:" (its faults, NULL for none), the fields by their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ingest.database import quoted
from ingest.loading.asking import ANY_TEXT, refusal
from ingest.loading.staging import literal
from ingest.loading.tablerules import RuleOf, TableRule
from ingest.loading.texts import SOFT_ERRORS_SINCE, Fault, Form, Steps, check_fault, steps_of
from ingest.spec import Merge, Plan, Target

ALL_OF_A_STRETCH = '"#" BETWEEN $1 AND $2'
SOME = '"#" = ANY ($1)'
# Of texts that no type can refuse.
NOTHING_SAID = (
    "SELECT 0 AS ordinal, ''::text AS field, ''::text AS sql_state, ''::text AS message "
    "FROM (SELECT $1::integer[]) AS asked WHERE false"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """Where the records are, and how they are to be judged.

    `values`: the places of the columns that hold values, so that only what they must be is left to judge; None where
    all hold texts. `moving_dates`: whether to look for words like `today`. `thorough`: references are judged too, which
    costs a look-up for each record.
    """

    table: str
    server_major: int
    values: frozenset[int] | None = None
    moving_dates: bool = False
    thorough: bool = False


class Judging:
    """The SQL for one plan. `faults` by number from 1; complete once `query` has been called, which is done once."""

    def __init__(self, plan: Plan, rules: Sequence[TableRule], staging: Staging) -> None:
        self._plan = plan
        self._staging = staging
        kinds = {RuleOf.NOT_NULL, RuleOf.CHECK} | ({RuleOf.REFERENCE} if staging.thorough else set())
        self._rules = [rule for rule in rules if rule.kind in kinds]
        self._steps = [steps_of(field, number, staging.values) for number, field in enumerate(plan.fields, 1)]
        self._judged = [steps for steps in self._steps if steps.form is Form.JUDGED]
        self._unguard = plan.parent_line is not None
        self.faults: list[Fault] = []
        self._early = [f"{self._early_of(steps)} AS {steps.early}" for steps in self._judged]

    def query(self) -> str:
        """Return the query over the records $1..$2."""
        names = ", ".join(steps.value for steps in self._steps)
        return f'SELECT "#", {self._found()} AS "f:", {names} FROM ({self.values(ALL_OF_A_STRETCH)}) AS v'

    def values(self, where: str) -> str:
        """Return the query for the values of some records, beside the faults that keep texts from being values."""
        values = ", ".join(f"{steps.value_sql(unguard=self._unguard)} AS {steps.value}" for steps in self._steps)
        if not self._judged:
            return f'SELECT "#", {values} FROM ({self._staged()}) AS s WHERE {where}'
        fenced = f"SELECT *, {', '.join(self._early)} FROM ({self._texts(where)}) AS t OFFSET 0"
        return f'SELECT "#", {", ".join(s.early for s in self._judged)}, {values} FROM ({fenced}) AS e OFFSET 0'

    def explanation(self) -> str:
        """Return the query that asks PostgreSQL which texts of the records $1, NULL too, it refuses, and why."""
        asked = ", ".join(f"({literal(s.field.name)}, {s.plain}, {literal(s.field.type)})" for s in self._refusing)
        if not asked:
            return NOTHING_SAID
        return (
            'SELECT t."#" AS ordinal, q.field, e.sql_state, e.message '
            f"FROM ({self._texts(SOME)}) AS t CROSS JOIN LATERAL (VALUES {asked}) AS q(field, value, type) "
            "CROSS JOIN LATERAL ingest.input_error(q.value, q.type) AS e"
        )

    def quick_explanation(self) -> str:
        """Return the same, far cheaper, for types that report errors softly; they all take NULL."""
        if self._staging.server_major < SOFT_ERRORS_SINCE or not self._refusing:
            return self.explanation()
        # One query a field: a type that is no constant is parsed anew for each text, at ten times the cost of asking.
        asked = " UNION ALL ".join(
            f'SELECT t."#" AS ordinal, {literal(s.field.name)} AS field, {refusal(s.plain, s.field.type, "t")}'
            for s in self._refusing
        )
        return f"WITH t AS MATERIALIZED ({self._texts(SOME)}) {asked}"

    @property
    def is_light(self) -> bool:
        """Whether a record is judged faster each time it is looked at than it is written down."""
        return not self._judged and all(rule.kind is not RuleOf.REFERENCE for rule in self._rules)

    @property
    def _refusing(self) -> Sequence[Steps]:
        return [steps for steps in self._judged if steps.field.type not in ANY_TEXT]

    def _texts(self, where: str) -> str:
        columns = ['"#"', *(f"{s.trimmed_sql(unguard=self._unguard)} AS {s.trimmed}" for s in self._judged)]
        columns += [s.staged for s in self._steps if s.form is not Form.JUDGED and s.field.position is not None]
        plain = ", ".join(f"{steps.plain_sql()} AS {steps.plain}" for steps in self._judged)
        staged = f"SELECT {', '.join(dict.fromkeys(columns))} FROM ({self._staged()}) AS s WHERE {where} OFFSET 0"
        return f"SELECT *, {plain} FROM ({staged}) AS r OFFSET 0"

    def _staged(self) -> str:
        return f'SELECT ordinal AS "#", * FROM {self._staging.table}'

    def _early_of(self, steps: Steps) -> str:
        faults = steps.early_faults(self._staging.server_major, moving_dates=self._staging.moving_dates)
        cases = " ".join(f"WHEN {fault.condition} THEN {self._number(fault)}" for fault in faults)
        return f"CASE {cases} END" if cases else "NULL::integer"

    def _found(self) -> str:
        """Return the array of a record's faults, NULL for none: then no array is put together."""
        early = [steps.early for steps in self._judged]
        late = {self._number(fault): fault.condition for fault in self._late()}
        clean = [*(f"{name} IS NULL" for name in early), *(f"({condition}) IS NOT TRUE" for condition in late.values())]
        numbers = [*early, *(f"CASE WHEN {condition} THEN {number} END" for number, condition in late.items())]
        if not clean:
            return "NULL::integer[]"
        found = f"array_remove(ARRAY[{', '.join(numbers)}], NULL)"
        return f"CASE WHEN {' AND '.join(clean)} THEN NULL ELSE {found} END"

    def _late(self) -> Iterator[Fault]:
        sound = "".join(steps.sound for steps in self._steps)
        checks = [replace(fault, condition=sound + fault.condition) for fault in map(check_fault, self._plan.checks)]
        rules = [fault for steps in self._steps for fault in steps.late_faults()]
        yield from (*rules, *self._empty(), *self._broken(), *checks)

    def _empty(self) -> Iterator[Fault]:
        """Yield a fault for each field that some target cannot do without: NULL is no key, and NOT NULL refuses it."""
        left = {steps.field.name: steps for steps in self._steps if not steps.field.required}
        for number, target in enumerate(self._plan.targets, 1):
            fields = dict(target.columns)
            keys = set(target.key if target.merge is not Merge.APPEND else ())
            filled = {r.name for r in self._rules if r.target == number and r.kind is RuleOf.NOT_NULL}
            for column in [column for column in fields if column in keys | filled]:
                if steps := left.pop(fields[column], None):
                    yield _empty(steps, target, "is part of the key" if column in keys else "must have a value")

    def _broken(self) -> Iterator[Fault]:
        """Yield a fault for each CHECK and reference of a target that looks at nothing but what the record gives."""
        by_name = {steps.field.name: steps for steps in self._steps}
        for rule in self._rules:
            target = self._plan.targets[rule.target - 1]
            fields = dict(target.columns)
            if rule.kind is RuleOf.NOT_NULL or not all(column in fields for column in rule.columns):
                continue
            said = [by_name[fields[column]] for column in rule.columns]
            yield _dangling(rule, target, said) if rule.kind is RuleOf.REFERENCE else _broken(rule, target, said)

    def _number(self, fault: Fault) -> int:
        self.faults.append(fault)
        return len(self.faults)


def _empty(steps: Steps, target: Target, why: str) -> Fault:
    return Fault(
        condition=f"{steps.sound}{steps.value} IS NULL{_wanted(target)}",
        fields=(steps.field,),
        code="E_NOT_NULL",
        message=f"is empty, but {why}",
        sqlstate=None if why.endswith("key") else "23502",
    )


def _broken(rule: TableRule, target: Target, said: Sequence[Steps]) -> Fault:
    condition = f"NOT ({rule.expression})"
    pairs = list(zip(rule.columns, said, strict=True))
    if any(steps.field.name != column for column, steps in pairs):
        values = ", ".join(f"v.{steps.value} AS {quoted(column)}" for column, steps in pairs)
        condition = f"(SELECT {condition} FROM (SELECT {values}) AS c)"
    return Fault(
        condition="".join(steps.sound for steps in said) + condition + _wanted(target),
        fields=tuple(steps.field for steps in said),
        code="E_CHECK",
        message=f"breaks the rule {rule.name}: {rule.rule}",
        sqlstate="23514",
    )


def _dangling(rule: TableRule, target: Target, said: Sequence[Steps]) -> Fault:
    found = " AND ".join(f"r.{quoted(c)} = v.{s.value}" for c, s in zip(rule.referred, said, strict=True))
    given = "".join(f"{steps.sound}v.{steps.value} IS NOT NULL AND " for steps in said)
    return Fault(
        # Not EXISTS, which the planner may answer by reading the whole table.
        condition=f"{given}(SELECT true FROM {rule.expression} AS r WHERE {found} LIMIT 1) IS NULL{_wanted(target)}",
        fields=tuple(steps.field for steps in said),
        code="E_FOREIGN_KEY",
        message=f"refers to a row that does not exist ({rule.name}: {rule.rule})",
        sqlstate="23503",
    )


def _wanted(target: Target) -> str:
    return f" AND {needed(target)}" if target.needs else ""


def needed(target: Target) -> str:
    """Return the condition under which a record has a row in a target that not every record has one in."""
    return f"NOT ({' AND '.join(f'{quoted(name)} IS NULL' for name in target.needs)})"
