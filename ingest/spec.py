"""What a job does with its bytes, pinned in the job once its header has been read. Pure values, kept as JSON.

A spec without a plan is loaded as it is: every column of the file goes to the target column of the same place. A plan
says more: which values a record yields, how their texts are read, what must hold of them, and where they go.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from ingest.dialect import PARSER_VERSION, Dialect


class Merge(StrEnum):
    """What becomes of a record whose key is in the table already."""

    APPEND = "append"  # it is rejected: the key is not ours to interpret
    SKIP = "skip"  # it is left out, and counted as skipped
    UPSERT = "upsert"  # the row is updated, or counted as unchanged


class Order(StrEnum):
    """Whether the last record of the file with a key wins (`file`), or any of them (`any`, faster)."""

    FILE = "file"
    ANY = "any"


class RuleKind(StrEnum):
    """What a rule of a value looks at; NULL passes them all, since `required` is what forbids it."""

    MIN = "min"  # compared as the value's type
    MAX = "max"
    MIN_LENGTH = "min_length"  # in characters
    MAX_LENGTH = "max_length"
    PATTERN = "pattern"  # a regular expression of PostgreSQL that must match the whole text
    ONE_OF = "one_of"
    EMAIL = "email"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the file, in file order: its name as rejects show it, and the type its text is read as."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A condition on one value. `arguments` holds one text, any number for `one_of`, none for `email`."""

    kind: RuleKind
    arguments: tuple[str, ...] = ()
    message: str | None = None  # said instead of the built-in sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A condition on the whole record: an SQL expression over the plan's fields by name, true or NULL when it holds."""

    name: str
    expression: str
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A value that every record yields: where its text comes from, how the text is read, and what must hold of it.

    The text is taken from column `position` of the file (from 0), or is `constant` when the job gives it, or there is
    none. Then, in this order: trim, `nulls` become NULL (compared without case), `words` are replaced (likewise),
    `format` is undone, NULL becomes `default`; what is left must be a `type`.
    """

    name: str
    type: str
    position: int | None
    constant: str | None = None
    required: bool = False
    default: str | None = None
    trim: bool = True
    nulls: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    format: str | None = None
    rules: tuple[Rule, ...] = ()

    @property
    def given(self) -> bool:
        """Tell whether the job has something to say about this value; a column it does not give is never updated."""
        return self.position is not None or self.constant is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A table that records go to. `columns` pairs its columns with fields; `key`, `update` name columns of the table.

    `needs` names fields: a record in which they are all NULL has no row in this table. `update` is what an upsert may
    change: never a key column, nor one that the file does not give.
    """

    schema: str
    table: str
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...] = ()
    merge: Merge = Merge.APPEND
    update: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the records of a job become rows of one or several tables, all of a record's rows or none.

    `parent_line` is the column of the file (from 0) that holds the line a corrected record had in the parent's file.
    """

    fields: tuple[Field, ...]
    targets: tuple[Target, ...]
    checks: tuple[Check, ...] = ()
    order: Order = Order.FILE
    parent_line: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """All a worker needs to know to load a job's bytes; pinned in the job when its header has been read.

    `schema` and `table` are the target, the first one of a plan. `header` is the header as it is read; `written_header`
    its first record as the file has it, where that is something else.
    `keyed`: a key or a reference to the table itself looks at the loaded columns, so that the order of records matters.
    """

    dataset: str
    schema: str
    table: str
    columns: tuple[Column, ...]
    dialect: Dialect
    keyed: bool = False
    header: tuple[str, ...] = ()
    written_header: tuple[str, ...] = ()
    version: int | None = None  # of the dataset's definition; a table has none
    plan: Plan | None = None
    platform: str | None = None  # of the definition, where the file was seen to come from
    certainty: float | None = None  # 0 to 1, when the dataset was recognised by the header
    makes: str | None = None  # the columns of the table as SQL, when the job's first batch is to make it
    max_rejects: str | None = None  # of the definition: the error budget unless the request has one
    max_record_bytes: int = 1 << 20  # by which the file was cut
    evidence: tuple[str, ...] = ()  # why the dialect is what it is, where it was detected
    pinned_by: str = ""  # the options, as a query, that say the same
    parser_version: int = PARSER_VERSION

    @property
    def width(self) -> int:
        """The number of fields that a record of the file has."""
        return len(self.dialect.columns or self.header or self.columns)

    @property
    def known_header(self) -> tuple[str, ...]:
        """What the header is known by where it comes once more."""
        return self.written_header or self.header

    @property
    def types(self) -> list[str]:
        """The types of the file's columns."""
        return [column.type for column in self.columns]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as the jsonb stored in ingest.jobs.spec."""
        # Not by asdict, which copies each text of a plain table's many columns.
        columns = [{"name": column.name, "type": column.type} for column in self.columns]
        plan = None if self.plan is None else asdict(self.plan)
        return {**_values_of(self), "columns": columns, "dialect": _values_of(self.dialect), "plan": plan}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LoadSpec:
        """Read back what `to_json` wrote."""
        rest = {**data}
        columns, dialect, plan = rest.pop("columns"), rest.pop("dialect"), rest.pop("plan")
        return cls(
            columns=tuple(Column(**column) for column in columns),
            dialect=Dialect(**dialect),
            plan=None if plan is None else _plan_from(plan),
            header=tuple(rest.pop("header")),
            written_header=tuple(rest.pop("written_header", ())),
            evidence=tuple(rest.pop("evidence", ())),
            **rest,
        )


def plain_plan(spec: LoadSpec) -> Plan:
    """Return the plan that says no more than a spec without one: every text goes to its column as it is."""
    fields = tuple(
        Field(name=column.name, type=column.type, position=i, trim=False) for i, column in enumerate(spec.columns)
    )
    target = Target(schema=spec.schema, table=spec.table, columns=tuple((field.name, field.name) for field in fields))
    return Plan(fields=fields, targets=(target,))


def _values_of(each: LoadSpec | Dialect) -> dict[str, Any]:
    return {field.name: getattr(each, field.name) for field in fields(each)}


def _plan_from(data: dict[str, Any]) -> Plan:
    return Plan(
        fields=tuple(_field_from(field) for field in data["fields"]),
        targets=tuple(_target_from(target) for target in data["targets"]),
        checks=tuple(Check(**check) for check in data["checks"]),
        order=Order(data["order"]),
        parent_line=data["parent_line"],
    )


def _field_from(data: dict[str, Any]) -> Field:
    lists = {"nulls": tuple(data["nulls"]), "words": tuple((text, value) for text, value in data["words"])}
    return Field(**{**data, **lists, "rules": tuple(_rule_from(rule) for rule in data["rules"])})


def _rule_from(data: dict[str, Any]) -> Rule:
    return Rule(kind=RuleKind(data["kind"]), arguments=tuple(data["arguments"]), message=data["message"])


def _target_from(data: dict[str, Any]) -> Target:
    lists = {name: tuple(data[name]) for name in ("key", "update", "needs")}
    columns = tuple((column, field) for column, field in data["columns"])
    return Target(**{**data, **lists, "columns": columns, "merge": Merge(data["merge"])})
