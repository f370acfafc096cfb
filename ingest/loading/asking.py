"""The question to PostgreSQL which texts their types refuse, and why, without an error: for thousands of texts at once.

A type is named as a constant wherever it is asked for: one that comes from a row or a parameter is parsed anew for each
text, which costs ten times the check itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from ingest.database import Record, Session, array_of, joined
from ingest.errors import RowError
from ingest.loading.staging import literal
from ingest.loading.taken import are_taken
from ingest.statements import statement

# Types that take any text, so that there is nothing to ask.
ANY_TEXT = ("text", "character varying")
# Types of PostgreSQL itself whose input reports errors softly: asking cannot fail, so no savepoint is needed.
SOFT = re.compile(
    r"(bigint|integer|smallint|numeric|real|double precision|boolean|date|time|timestamp|interval|uuid|jsonb?|bytea"
    r"|inet|cidr|character|text)\b[^\[]*"
)

Texts = Sequence[str | None]


def refusal(text: str, kind: str, source: str) -> str:
    """Return the SQL, from `sql_state` on, for what the type `kind` says of each `text` in `source` that it refuses."""
    asked = f"{text}, {literal(kind)}"
    return (
        f"e.sql_error_code AS sql_state, e.message FROM {source} "
        f"CROSS JOIN LATERAL pg_input_error_info({asked}) AS e WHERE NOT pg_input_is_valid({asked})"
    )


async def refused_texts(session: Session, types: Sequence[str], rows: Sequence[Texts]) -> list[Record]:
    """Return (ordinal, place, sql_state, message) for each text that the type at its place, from 1, refuses.

    `rows`: the texts of each record, numbered from 0. Texts of some types, and NULL, can only be tried one by one.
    """
    columns = list(zip(*rows, strict=True))
    asking = [(place, kind) for place, kind in enumerate(types) if kind not in ANY_TEXT]
    end, null, packed = joined([columns[place] for place, _ in asking])
    doubted = [n for n, (_, kind) in enumerate(asking) if not are_taken(kind, packed[n], end, null)]
    sql, asked = _question(tuple(asking[n] for n in doubted)), [packed[n] for n in doubted]
    found: list[Record] = []
    if all(map(SOFT.fullmatch, types)):
        found = await session.fetch(sql, end, null, *asked) if sql else []
    elif sql:
        rows_found = await session.attempt(lambda s: s.fetch(sql, end, null, *asked))
        found = [] if isinstance(rows_found, RowError) else rows_found
    if len({row["ordinal"] for row in found}) == len(rows):
        return found
    return await _refused_one_by_one(session, types, rows)


@lru_cache(maxsize=64)
def _question(asking: tuple[tuple[int, str], ...]) -> str:
    """Return the question about columns, given as their places from 0 and their types."""
    return " UNION ALL ".join(
        f"SELECT (u.number - 1)::integer AS ordinal, {place + 1} AS place, "
        + refusal("u.value", kind, f"unnest({array_of(number, 1, 2)}) WITH ORDINALITY AS u(value, number)")
        for number, (place, kind) in enumerate(asking, 3)
    )


async def _refused_one_by_one(session: Session, types: Sequence[str], rows: Sequence[Texts]) -> list[Record]:
    ordinals = [ordinal for ordinal, texts in enumerate(rows) for _ in texts]
    places = [place for texts in rows for place in range(1, len(texts) + 1)]
    values = [text for texts in rows for text in texts]
    return await session.fetch(statement("refused_texts_one_by_one"), ordinals, places, values, list(types))
