"""A plan -> the one statement that judges the staged records $1..$2 and brings the good ones into their targets.

Written once for a plan; run for whole batches and, when something still fails, for halves of them down to one record.
It returns one row: inserted, updated, unchanged, skipped, good (records without a fault) and repeated (those of them
whose key another one has, too), and three arrays: faulty and faults (ordinals of the first $3 records with faults, all
if NULL, and the numbers of their faults, as text: as lists they would cost more than all else here) and lost (ordinals
of good records whose key is taken).

Rows go in by the order of their key, so that writers that meet on the same keys wait for one another instead of
deadlocking. Of records with one key the last wins in an upsert and the first in a skip; the others count as updated
or unchanged, as if each had been merged by itself.

Most batches are clean, and no two of their records have one key: a quick statement trusts in that, and fails otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ingest.loading.judging import SOME, Judging, Staging
from ingest.loading.putting import FAULTS, FAULTY, GOOD_COUNT, Put
from ingest.loading.tablerules import TableRule
from ingest.loading.texts import Fault
from ingest.spec import Merge, Plan

GOOD = 'good AS NOT MATERIALIZED (SELECT * FROM judged WHERE "f:" IS NULL)'


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeStatement:
    """`sql` as above; `faults` by number from 1.

    `explain` returns (ordinal, field, sql_state, message) for each text that its type refuses in the records $1;
    `explain_quickly` does for those that are refused softly. `explain_lost` returns (ordinal, number of the index from
    `uniques`, from 1) for the lost ones among the records $1.
    """

    sql: str
    faults: tuple[Fault, ...]
    explain: str
    explain_quickly: str
    uniques: tuple[TableRule, ...]
    explain_lost: str


@lru_cache(maxsize=64)
def merge_statement(
    plan: Plan, rules: tuple[TableRule, ...], staging: Staging, *, isolating: bool = False, quick: bool = False
) -> MergeStatement:
    """Return the statement for a plan whose targets have `rules` of their own.

    `isolating`: of appended records, those whose key is taken are `lost` instead of failing the statement, where that
    can be told from outside. `quick`: for the plan's only target; fails for records of an upsert with the same key.
    """
    judging = Judging(plan, rules, staging)
    once = "NOT MATERIALIZED" if judging.is_light else "MATERIALIZED"
    parts = [f"judged AS {once} ({judging.query()})", GOOD, FAULTY]
    puts = [
        Put(number, target, plan, [rule for rule in rules if rule.target == number], staging.server_major, quick=quick)
        for number, target in enumerate(plan.targets, 1)
    ]
    loses = isolating and len(puts) == 1 and puts[0].can_lose()
    parts += [part for put in puts for part in put.ctes(loses=loses)]
    outcome = puts[0].outcome(loses=loses) if len(puts) == 1 else _outcome_of_many(puts)
    uniques = puts[0].uniques if loses else ()
    return MergeStatement(
        sql=f"WITH {', '.join(parts)} {outcome}",
        faults=tuple(judging.faults),
        explain=judging.explanation(),
        explain_quickly=judging.quick_explanation(),
        uniques=uniques,
        explain_lost=puts[0].explain_lost(judging.values(SOME)) if loses else "",
    )


def _outcome_of_many(puts: list[Put]) -> str:
    """Return the counts when there are several targets: each record once, by the most that came of any of its rows."""
    found = " UNION ALL ".join(['SELECT "#", 0 AS outcome FROM good', *(q for put in puts for q in put.outcomes())])
    outcome = f'SELECT max(outcome) AS outcome FROM ({found}) AS s GROUP BY "#"'
    none = "count(*) FILTER (WHERE outcome = 0)"
    skipped = all(put.merge is Merge.SKIP for put in puts)
    return (
        "SELECT count(*) FILTER (WHERE outcome = 3) AS inserted, count(*) FILTER (WHERE outcome = 2) AS updated, "
        f"{'0::bigint' if skipped else none} AS unchanged, {none if skipped else '0::bigint'} AS skipped, "
        f"count(*) AS good, {FAULTS}, NULL::integer[] AS lost, 0::bigint AS repeated FROM ({outcome}) AS o"
    )


@lru_cache(maxsize=64)
def judge_statement(plan: Plan, staging: Staging) -> MergeStatement:
    """Return the statement that only judges: it puts nothing anywhere, and returns good, faulty and faults."""
    judging = Judging(plan, (), staging)
    return MergeStatement(
        sql=f"WITH judged AS MATERIALIZED ({judging.query()}), {FAULTY} SELECT {GOOD_COUNT} AS good, {FAULTS}, "
        "NULL::integer[] AS lost",
        faults=tuple(judging.faults),
        explain=judging.explanation(),
        explain_quickly=judging.quick_explanation(),
        uniques=(),
        explain_lost="",
    )
