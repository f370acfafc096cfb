"""The shape of a staging table: which columns COPY reads as values, and which hold texts for a statement to read.

COPY makes a value of a text for a fifth of what trimming, checking and casting it by a statement costs. So a column is
typed wherever COPY makes of every text what the plan makes of it, or refuses it; what it refuses is judged as a text.
Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ingest.spec import Field, LoadSpec, Plan

# Types that pass over blanks around a value by themselves, or refuse it; an empty text is never a value of theirs.
BLIND_TO_BLANKS = re.compile(
    r"(bigint|integer|smallint|numeric|real|double precision|boolean|date|time|timestamp|interval|uuid|inet|cidr)\b"
    r"[^\[]*"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """The types of the columns, in file order. `values` are the places, from 0, of those that COPY reads.

    `nulls` are the places among them where COPY must read an empty text as NULL in quotes too.
    """

    types: tuple[str, ...]
    values: frozenset[int]
    nulls: frozenset[int]


@lru_cache(maxsize=64)
def shape_of(spec: LoadSpec, plan: Plan) -> Shape | None:
    """Return the shape for the files of a job; None where all columns are texts."""
    if plan.parent_line is not None:  # formulas were guarded when the rejects were exported
        return None
    fields = defaultdict[int, list[Field]](list)
    for field in plan.fields:
        if field.position is not None:
            fields[field.position].append(field)
    values = frozenset(place for place, of_it in fields.items() if _is_value(of_it, spec.dialect.null))
    if not values:
        return None
    types = tuple(fields[place][0].type if place in values else "text" for place in range(len(spec.columns)))
    return Shape(types, values, frozenset(place for place in values if _empty_is_null(fields[place][0])))


def _is_value(fields: Iterable[Field], null: str) -> bool:
    """Tell whether COPY reads a column as all of its fields do."""
    first, *others = fields
    if others and any((other.type, _empty_is_null(other)) != (first.type, _empty_is_null(first)) for other in others):
        return False
    return all(_reads(field, null) for field in (first, *others))


def _reads(field: Field, null: str) -> bool:
    """Tell whether COPY, to which `null` means NULL, makes the same of every text as the field does, or refuses it."""
    if field.words or field.format or field.default is not None or any(field.nulls):
        return False
    if field.trim and not BLIND_TO_BLANKS.fullmatch(field.type):
        return False
    return null == "" or not _empty_is_null(field)


def _empty_is_null(field: Field) -> bool:
    return field.trim or "" in field.nulls
