"""What the targets of a plan demand of their rows, from the catalogue: so that most of it can be judged set-wise.

Asked for each batch, since tables may change; whatever is not known here is still found out by inserting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from ingest.database import Session
from ingest.spec import Target
from ingest.statements import statement


class RuleOf(StrEnum):
    """What a rule is; the statement target_rules has the same words."""

    COLUMN = "column"  # a column and its type
    NOT_NULL = "not_null"
    CHECK = "check"
    REFERENCE = "reference"  # to another table that may be read
    UNIQUE = "unique"  # an index over columns, valid at once
    OTHER_UNIQUE = "other_unique"  # one over expressions or some rows only, or an exclusion
    UNFORESEEABLE = "unforeseeable"  # deferrable, a BEFORE trigger, a rule, not ours to read: only inserting tells


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRule:
    """A rule of target number `target` (from 1). `columns` are the target's; `rule` is the constraint in words.

    `expression`: the condition of a CHECK, the type of a column, the table that is referred to (as SQL); `referred` are
    its columns, parallel to `columns`.
    """

    target: int
    kind: RuleOf
    name: str
    columns: tuple[str, ...]
    expression: str | None = None
    referred: tuple[str, ...] = ()
    rule: str | None = None


async def rules_of(session: Session, targets: Sequence[Target]) -> tuple[TableRule, ...]:
    """Return the rules of the tables, those of one table in the order in which PostgreSQL looks at them."""
    schemas, tables = [target.schema for target in targets], [target.table for target in targets]
    rows = await session.fetch(statement("target_rules"), schemas, tables)
    return tuple(
        TableRule(
            target=row["target"],
            kind=RuleOf(row["kind"]),
            name=row["name"],
            columns=tuple(row["columns"]),
            expression=row["expression"],
            referred=tuple(row["referred"] or ()),
            rule=row["rule"],
        )
        for row in rows
    )
