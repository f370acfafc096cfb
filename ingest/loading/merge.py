"""A plan -> the one statement that judges the staged records $1..$2 and brings the good ones into their targets.

Written once for a plan; run for whole batches and, when something still fails, for halves of them down to one record.
It returns one row: inserted, updated, unchanged, skipped and good (records without a fault), and faults, a JSON list
of [ordinal, [numbers of faults]].

Rows go in by the order of their key, so that writers that meet on the same keys wait for one another instead of
deadlocking. Of records with one key the last wins in an upsert and the first in a skip; the others count as updated
or unchanged, as if each had been merged by itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ingest.database import column_list, quoted
from ingest.loading.judging import Judging, TableRule, needed
from ingest.loading.texts import Fault
from ingest.spec import LoadSpec, Merge, Plan, Target

OLD_ROWS_SINCE = 18  # RETURNING old.*; before, xmax tells, which partitioned tables do not have
# Types without an equality operator: compared as texts.
INCOMPARABLE = ("json", "xml", "point", "line", "lseg", "path", "polygon")

GOOD = """good AS NOT MATERIALIZED (SELECT * FROM judged WHERE "f:" = '{}')"""
FAULTS = """(SELECT json_agg(json_build_array("#", "f:")) FROM judged WHERE "f:" <> '{}') AS faults"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStatement:
    """`sql` as above; `faults` by number from 1.

    `explain` returns (ordinal, field, sql_state, message) for each text that its type refuses in the records $1.
    """

    sql: str
    faults: tuple[Fault, ...]
    explain: str


@lru_cache(maxsize=64)
def merge_statement(
    spec: LoadSpec, rules: tuple[TableRule, ...], server_major: int, *, moving_dates: bool
) -> MergeStatement:
    """Return the statement for a spec with a plan, whose targets have `rules` of their own.

    `moving_dates`: whether to look for words like `today` in dates.
    """
    assert spec.plan is not None, "a spec without a plan is loaded directly"
    judging = Judging(spec.plan, len(spec.columns), rules, server_major, moving_dates=moving_dates)
    parts = [f"judged AS MATERIALIZED ({judging.query()})", GOOD]
    puts = [_Put(number, target, spec.plan, server_major) for number, target in enumerate(spec.plan.targets, 1)]
    parts += [part for put in puts for part in put.ctes()]
    outcome = puts[0].outcome() if len(puts) == 1 else _outcome_of_many(puts)
    return MergeStatement(
        sql=f"WITH {', '.join(parts)} {outcome}", faults=tuple(judging.faults), explain=judging.explanation()
    )


class _Put:
    """The SQL for one target: `rows_N` are the records that reach it, `put_N` the rows that came of them.

    Nothing here joins: of batches that no statistics tell about the planner expects a few rows, and joined them by
    nested loops, 10,000 records in a minute. Sorting and grouping cost the same whatever it expects.
    """

    def __init__(self, number: int, target: Target, plan: Plan, server_major: int) -> None:
        self._number = number
        self._target = target
        self._fields = dict(target.columns)
        self._types = {field.name: field.type for field in plan.fields}
        self._server_major = server_major
        self._key = column_list([self._fields[column] for column in target.key])
        self.merge = target.merge

    def ctes(self) -> list[str]:
        """Return the CTEs: the records by place among those with their key, and the INSERT."""
        return [self._ranked(), self._put()]

    def _ranked(self) -> str:
        """Of the records with one key, "n:" is 1 for the one that wins; "lost:" if it says something else than they."""
        where = f" WHERE {needed(self._target)}" if self._target.needs else ""
        if self.merge is Merge.APPEND:
            return f"rows_{self._number} AS NOT MATERIALIZED (SELECT * FROM good{where})"
        order = "DESC" if self.merge is Merge.UPSERT else "ASC"
        window = f'WINDOW w AS (PARTITION BY {self._key} ORDER BY "#" {order})'
        ranked = (
            f'SELECT *, row_number() OVER w AS "n:", {self._differs_from_winner()} AS "lost:" FROM good{where} {window}'
        )
        return f"rows_{self._number} AS MATERIALIZED ({ranked})"

    def _differs_from_winner(self) -> str:
        said = [self._fields[column] for column in self._target.update]
        if self.merge is not Merge.UPSERT or not said:
            return "false"
        winner = ", ".join(f"first_value({self._comparable(name)}) OVER w" for name in said)
        return f"({', '.join(map(self._comparable, said))}) IS DISTINCT FROM ({winner})"

    def _put(self) -> str:
        target = self._target
        returned = [f'target.{quoted(column)} AS "k:{i}"' for i, column in enumerate(target.key)]
        winners, order = ("", '"#"') if self.merge is Merge.APPEND else (' WHERE "n:" = 1', self._key)
        return (
            f"put_{self._number} AS (INSERT INTO {quoted(target.schema)}.{quoted(target.table)} AS target "
            f"({column_list(list(self._fields))}) OVERRIDING SYSTEM VALUE "
            f"SELECT {column_list(list(self._fields.values()))} FROM rows_{self._number}{winners} "
            f"ORDER BY {order} {self._on_conflict()} RETURNING {', '.join([*returned, self._is_new()])})"
        )

    def outcome(self) -> str:
        """Return the counts when this is the only target: every good record is a row, or loses to one with its key."""
        good = "(SELECT count(*) FROM good)"
        put = f'(SELECT count(*) AS n, count(*) FILTER (WHERE "new:") AS new FROM put_{self._number}) AS p'
        if self.merge is not Merge.UPSERT:
            counts = f"p.n AS inserted, 0::bigint AS updated, 0::bigint AS unchanged, {good} - p.n AS skipped"
            return f"SELECT {counts}, {good} AS good, {FAULTS} FROM {put}"
        losers = f'(SELECT count(*) AS n FROM rows_{self._number} WHERE "n:" > 1 AND "lost:") AS l'
        counts = (
            f"p.new AS inserted, p.n - p.new + l.n AS updated, {good} - p.n - l.n AS unchanged, 0::bigint AS skipped"
        )
        return f"SELECT {counts}, {good} AS good, {FAULTS} FROM {put}, {losers}"

    def outcomes(self) -> Iterable[str]:
        """Yield queries for (ordinal, outcome: 3 inserted, 2 updated, 0 neither)."""
        rows, put = f"rows_{self._number}", f"put_{self._number}"
        if not self._target.key:
            yield f'SELECT "#", 3 FROM {rows}'
            return
        keys = [f'"k:{i}"' for i in range(len(self._target.key))]
        named = ", ".join(f"{quoted(self._fields[c])} AS {key}" for key, c in zip(keys, self._target.key, strict=True))
        key = ", ".join(keys)
        came = f'SELECT {key}, NULL::integer AS "#", CASE WHEN "new:" THEN 3 ELSE 2 END AS outcome FROM {put}'
        both = f'SELECT {named}, "#", 0 AS outcome FROM {rows} WHERE "n:" = 1 UNION ALL {came}'
        yield f'SELECT max("#"), max(outcome) FROM ({both}) AS b GROUP BY {key}'
        if self.merge is Merge.UPSERT:
            yield f'SELECT "#", 2 FROM {rows} WHERE "n:" > 1 AND "lost:"'

    def _on_conflict(self) -> str:
        target = self._target
        if self.merge is Merge.APPEND:
            return ""
        if self.merge is Merge.SKIP or not target.update:
            return f"ON CONFLICT ({column_list(target.key)}) DO NOTHING"
        changes = ", ".join(f"{quoted(column)} = excluded.{quoted(column)}" for column in target.update)
        old, new = (
            ", ".join(f"{side}.{self._comparable(self._fields[column], column)}" for column in target.update)
            for side in ("target", "excluded")
        )
        return f"ON CONFLICT ({column_list(target.key)}) DO UPDATE SET {changes} WHERE ({old}) IS DISTINCT FROM ({new})"

    def _is_new(self) -> str:
        """Return what tells an inserted row from an updated one."""
        if self.merge is not Merge.UPSERT:
            return 'true AS "new:"'
        if self._server_major >= OLD_ROWS_SINCE:
            return f'old.{quoted(self._target.key[0])} IS NULL AS "new:"'
        return 'target.xmax = 0 AS "new:"'

    def _comparable(self, field: str, name: str | None = None) -> str:
        """Return a field's value, or the column `name` that it goes to, as something that can be compared."""
        cast = "::text" if self._types[field].split("(")[0] in INCOMPARABLE else ""
        return quoted(name or field) + cast


def _outcome_of_many(puts: list[_Put]) -> str:
    """Return the counts when there are several targets: each record once, by the most that came of any of its rows."""
    found = " UNION ALL ".join(['SELECT "#", 0 AS outcome FROM good', *(q for put in puts for q in put.outcomes())])
    outcome = f'SELECT max(outcome) AS outcome FROM ({found}) AS s GROUP BY "#"'
    none = "count(*) FILTER (WHERE outcome = 0)"
    skipped = all(put.merge is Merge.SKIP for put in puts)
    return (
        "SELECT count(*) FILTER (WHERE outcome = 3) AS inserted, count(*) FILTER (WHERE outcome = 2) AS updated, "
        f"{'0::bigint' if skipped else none} AS unchanged, {none if skipped else '0::bigint'} AS skipped, "
        f"count(*) AS good, {FAULTS} FROM ({outcome}) AS o"
    )
