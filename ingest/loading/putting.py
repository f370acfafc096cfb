"""One target of a plan -> the SQL that inserts or merges its rows, and what tells what came of each record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ingest.database import column_list, quoted
from ingest.loading.judging import needed
from ingest.loading.tablerules import RuleOf, TableRule
from ingest.spec import Merge, Plan, Target

OLD_ROWS_SINCE = 18  # RETURNING old.*; before, xmax tells, which partitioned tables do not have
# Types without an equality operator: compared as texts.
INCOMPARABLE = ("json", "xml", "point", "line", "lseg", "path", "polygon")

# No more are named than there is room for: of a file that is bad throughout, the rest is only counted.
FAULTY = """faulty AS MATERIALIZED (SELECT "#", "f:" FROM judged WHERE "f:" IS NOT NULL),
 named AS MATERIALIZED (SELECT "#", array_to_string("f:", ' ') AS numbers FROM faulty ORDER BY "#" LIMIT $3)"""
FAULTS = """(SELECT array_agg("#") FROM named) AS faulty, (SELECT array_agg(numbers) FROM named) AS faults"""
# Counted by the few that are not: to judge all once more would cost more than to count them.
GOOD_COUNT = "((SELECT count(*) FROM judged) - (SELECT count(*) FROM faulty))"


class Put:
    """The SQL for one target: `rows_N` are the records that reach it, `put_N` the rows that came of them.

    Nothing here joins: of batches that no statistics tell about the planner expects a few rows, and joined them by
    nested loops, 10,000 records in a minute. Sorting and grouping cost the same whatever it expects.
    """

    def __init__(
        self, number: int, target: Target, plan: Plan, rules: Sequence[TableRule], server_major: int, *, quick: bool
    ) -> None:
        self._number = number
        self._quick = quick
        self._rules = rules
        self._target = target
        self._fields = dict(target.columns)
        self._types = {field.name: field.type for field in plan.fields}
        self._server_major = server_major
        self._key = column_list([self._fields[column] for column in target.key])
        self.merge = target.merge

    @property
    def uniques(self) -> tuple[TableRule, ...]:
        """The keys that a record can be looked for by."""
        return tuple(
            rule for rule in self._rules if rule.kind is RuleOf.UNIQUE and set(rule.columns) <= self._fields.keys()
        )

    def can_lose(self) -> bool:
        """Tell whether records whose key is taken can be told from those that went in.

        They can by their values in the columns of all keys, if these are stored as they were given: no trigger changes
        them, and no column has another type than its field.
        """
        kinds = {rule.kind for rule in self._rules}
        stored = {rule.name: rule.expression for rule in self._rules if rule.kind is RuleOf.COLUMN}
        same = all(stored.get(column) == self._types[field] for column, field in self._target.columns)
        is_keyed = bool(kinds & {RuleOf.UNIQUE, RuleOf.OTHER_UNIQUE})
        return self.merge is Merge.APPEND and is_keyed and same and RuleOf.UNFORESEEABLE not in kinds

    def _telling(self) -> list[str]:
        """Return the target's columns whose values decide whether a key is taken."""
        if any(rule.kind is RuleOf.OTHER_UNIQUE for rule in self._rules):
            return list(self._fields)
        keys = {column for rule in self._rules if rule.kind is RuleOf.UNIQUE for column in rule.columns}
        return [column for column in self._fields if column in keys]

    def ctes(self, *, loses: bool) -> list[str]:
        """Return the CTEs: the records, by place among those with their key, the INSERT, and who lost."""
        return [self._ranked(), self._put(loses=loses), *([self._lost()] if loses else [])]

    def _lost(self) -> str:
        """Of the records that agree in all that decides, as many as rows came back went in, the first ones first."""
        names = [f'"k:{i}"' for i, _ in enumerate(self._telling())]
        named = ", ".join(
            f"{self._comparable(self._fields[column])} AS {name}"
            for column, name in zip(self._telling(), names, strict=True)
        )
        key = ", ".join(names)
        rows, put = f"rows_{self._number}", f"put_{self._number}"
        both = f'SELECT {named}, "#" FROM {rows} UNION ALL SELECT {key}, NULL FROM {put}'
        placed = (
            f'SELECT "#", row_number() OVER (PARTITION BY {key} ORDER BY "#") AS n, '
            f'count(*) FILTER (WHERE "#" IS NULL) OVER (PARTITION BY {key}) AS came FROM ({both}) AS b'
        )
        return f'lost AS (SELECT "#" FROM ({placed}) AS p WHERE "#" IS NOT NULL AND n > came)'

    def explain_lost(self, values: str) -> str:
        """Return the query for (ordinal, number of the one of `uniques` that is taken) over the query `values`."""
        cases = []
        for number, rule in enumerate(self.uniques, 1):
            match = " AND ".join(f"t.{quoted(c)} = v.{quoted(self._fields[c])}" for c in rule.columns)
            # Not EXISTS, which the planner may answer by reading the whole table.
            cases.append(f"WHEN (SELECT true FROM {self._table} AS t WHERE {match} LIMIT 1) THEN {number}")
        found = f"CASE {' '.join(cases)} END" if cases else "NULL::integer"
        return f'SELECT "#" AS ordinal, {found} AS number FROM ({values}) AS v'

    @property
    def _table(self) -> str:
        return f"{quoted(self._target.schema)}.{quoted(self._target.table)}"

    def _ranked(self) -> str:
        """Of the records with one key, "n:" is 1 for the one that wins; "lost:" if it says something else than they."""
        where = f" WHERE {needed(self._target)}" if self._target.needs else ""
        if self.merge is Merge.APPEND or self._quick:
            return f"rows_{self._number} AS NOT MATERIALIZED (SELECT * FROM good{where})"
        order = "DESC" if self.merge is Merge.UPSERT else "ASC"
        window = f'WINDOW w AS (PARTITION BY {self._key} ORDER BY "#" {order})'
        first = f'OVER (PARTITION BY {self._key} ORDER BY "#")'
        kept = [f"first_value({quoted(self._fields[column])}) {first} AS {name}" for column, name in self._kept()]
        ranked = ", ".join(['*, row_number() OVER w AS "n:"', f'{self._differs_from_winner()} AS "lost:"', *kept])
        return f"rows_{self._number} AS MATERIALIZED (SELECT {ranked} FROM good{where} {window})"

    def _kept(self) -> list[tuple[str, str]]:
        """Return the columns that an upsert may not change, with the name of the value that the first record gives."""
        if self.merge is not Merge.UPSERT:
            return []
        touched = {*self._target.key, *self._target.update}
        return [(column, f'"first:{i}"') for i, column in enumerate(self._fields) if column not in touched]

    def _differs_from_winner(self) -> str:
        said = [self._fields[column] for column in self._target.update]
        if self.merge is not Merge.UPSERT or not said:
            return "false"
        winner = ", ".join(f"first_value({self._comparable(name)}) OVER w" for name in said)
        return f"({', '.join(map(self._comparable, said))}) IS DISTINCT FROM ({winner})"

    def _put(self, *, loses: bool) -> str:
        told = self._telling() if loses else () if self._quick else self._target.key
        returned = [
            f'target.{self._comparable(self._fields[column], column)} AS "k:{i}"' for i, column in enumerate(told)
        ]
        winners = "" if self.merge is Merge.APPEND or self._quick else ' WHERE "n:" = 1'
        order = '"#"' if self.merge is Merge.APPEND else f'{self._key}, "#"'
        kept = {} if self._quick else dict(self._kept())
        conflict = "ON CONFLICT DO NOTHING" if loses else self._on_conflict()
        return (
            f"put_{self._number} AS (INSERT INTO {self._table} AS target ({column_list(list(self._fields))}) "
            f"OVERRIDING SYSTEM VALUE SELECT {', '.join(kept.get(c, quoted(f)) for c, f in self._fields.items())} "
            f"FROM rows_{self._number}{winners} ORDER BY {order} {conflict} "
            f"RETURNING {', '.join([*returned, self._is_new()])})"
        )

    def outcome(self, *, loses: bool) -> str:
        """Return the counts when this is the only target: every good record is a row, or loses to one with its key."""
        lost = '(SELECT array_agg("#") FROM lost)' if loses else "NULL::integer[]"
        puts = f'(SELECT count(*) AS n, count(*) FILTER (WHERE "new:") AS new FROM put_{self._number}) AS p'
        ranked = self.merge is Merge.UPSERT and not self._quick
        losers = f", {self._losers()}" if ranked else ""
        n, repeated = ("l.n", "l.repeated") if ranked else ("0", "0::bigint")
        if self.merge is Merge.UPSERT:
            left = f"p.n - p.new + {n} AS updated, {GOOD_COUNT} - p.n - {n} AS unchanged, 0::bigint AS skipped"
        else:
            rest = f"{GOOD_COUNT} - p.n" + (" - (SELECT count(*) FROM lost)" if loses else "")
            left = f"0::bigint AS updated, 0::bigint AS unchanged, {rest} AS skipped"
        return (
            f"SELECT p.new AS inserted, {left}, {GOOD_COUNT} AS good, {FAULTS}, {lost} AS lost, "
            f"{repeated} AS repeated FROM {puts}{losers}"
        )

    def _losers(self) -> str:
        """Return how many records lose to one with their key, and `n` of them say something else than it."""
        losers = f'rows_{self._number} WHERE "n:" > 1'
        return f'(SELECT count(*) FILTER (WHERE "lost:") AS n, count(*) AS repeated FROM {losers}) AS l'

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
