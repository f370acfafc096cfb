"""A record with too many fields -> the one way to read it with as many as there are columns. Pure.

Either neighbouring fields were one, whose delimiters nobody quoted, or empty fields are too many. Fields in quotes are
walls: they are what they are. Of all ways, those count that fit the types of the columns and what the sound records of
the batch look like; where more than one is left, or none, the record stays as it is, to be rejected. So does one with
too few fields: nobody knows which delimiter is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from ingest.dialect import Dialect
from ingest.reading.fitting import fits
from ingest.reading.tokens import Token

# Records, or fields, that say what a column looks like.
ENOUGH = 3
# Bounds the time that a record may take: columns times the square of the fields too many.
MOST_STEPS = 3000

LINE_ENDS = (b"\n", b"\r")

# The fields from one on: itself, and those that follow.
Chain: TypeAlias = "tuple[Token, Chain | None]"


@dataclass(frozen=True, slots=True)
class Column:
    """What a column of a file holds: values of a `kind`, `filled` or not, and how they are written, where all agree.

    `quoted`: always, without need. `bare`: never in quotes.
    """

    kind: str
    filled: bool = False
    quoted: bool = False
    bare: bool = False

    def may_hold(self, field: Token) -> bool:
        """Tell whether a field may be one of this column."""
        if not field.text and not field.quoted:
            return not self.filled
        return not (self.bare if field.quoted else self.quoted) and fits(field.text, self.kind)


def columns_of(types: Sequence[str], sound: Sequence[Sequence[Token]], dialect: Dialect) -> tuple[Column, ...]:
    """Return what columns of these types look like in records that are sound, each with as many fields."""
    if len(sound) < ENOUGH:
        return tuple(map(Column, types))
    signs = (dialect.delimiter.encode(), dialect.quote.encode() or b"\n", *LINE_ENDS)
    return tuple(_column(kind, fields, signs) for kind, fields in zip(types, zip(*sound, strict=True), strict=True))


def _column(kind: str, fields: Sequence[Token], signs: Sequence[bytes]) -> Column:
    written = [field for field in fields if field.text or field.quoted]
    # Where quotes are needed, they do not tell a writer's habit.
    needless = sum(field.quoted and not any(sign in field.text for sign in signs) for field in written)
    return Column(
        kind,
        filled=len(written) == len(fields),
        quoted=needless >= ENOUGH and all(field.quoted for field in written),
        bare=len(written) >= ENOUGH and not any(field.quoted for field in written),
    )


def repaired(found: Sequence[Token], columns: Sequence[Column], delimiter: bytes) -> list[Token] | None:
    """Return the fields in the one way to have as many as columns, None when there are several ways, or none."""
    surplus = len(found) - len(columns)
    if surplus < 1 or len(columns) * surplus**2 > MOST_STEPS:
        return None
    ways = [*_ways(_Joining(found, delimiter, surplus), columns), *_ways(_Dropping(found, surplus), columns)]
    return ways[0] if len(ways) == 1 else None


@dataclass(frozen=True, slots=True)
class _Joining:
    """Neighbouring fields without quotes are one. It neither begins nor ends with an empty one."""

    fields: Sequence[Token]
    delimiter: bytes
    surplus: int

    def from_field(self, first: int) -> Iterator[tuple[Token, int]]:
        """Yield what a column may hold that begins with a field, and the field that follows."""
        field = self.fields[first]
        yield field, first + 1
        if field.quoted or not field.text:
            return
        text = field.text
        for n in range(first + 1, min(first + self.surplus + 1, len(self.fields))):
            if self.fields[n].quoted:
                return
            text += self.delimiter + self.fields[n].text
            if self.fields[n].text:
                yield Token(text), n + 1

    def may_end(self, end: int) -> bool:
        """Tell whether a record may end before a field."""
        return end == len(self.fields)


@dataclass(frozen=True, slots=True)
class _Dropping:
    """Empty fields are none. Of several in a row the first ones: which of them makes no difference."""

    fields: Sequence[Token]
    surplus: int

    def from_field(self, first: int) -> Iterator[tuple[Token, int]]:
        """Yield what a column may hold from a field on, and the field that follows."""
        yield self.fields[first], first + 1
        if first and self._is_empty(first - 1):
            return
        for n in range(first + 1, min(first + self.surplus + 1, len(self.fields))):
            if not self._is_empty(n - 1):
                return
            yield self.fields[n], n + 1

    def may_end(self, end: int) -> bool:
        """Tell whether a record may end before a field."""
        left = range(end, len(self.fields))
        return not left or (not self._is_empty(end - 1) and all(map(self._is_empty, left)))

    def _is_empty(self, n: int) -> bool:
        return not self.fields[n].text and not self.fields[n].quoted


def _ways(how: _Joining | _Dropping, columns: Sequence[Column]) -> list[list[Token]]:
    """Return the ways to fill the columns, at most two of them; built from the last column to the first."""
    last = len(columns)
    # By the field with which the columns that are left begin: the ways to fill them.
    tails: dict[int, list[Chain | None]] = {
        end: [None] for end in range(last, last + how.surplus + 1) if how.may_end(end)
    }
    for number in reversed(range(last)):
        heads: dict[int, list[Chain | None]] = {}
        for first in range(number, number + how.surplus + 1):
            fitting = ((token, then) for token, then in how.from_field(first) if columns[number].may_hold(token))
            found = ((token, tail) for token, then in fitting for tail in tails.get(then, ()))
            heads[first] = list(islice(found, 2))
        tails = heads
    return [list(_links(way)) for way in tails.get(0, ())]


def _links(chain: Chain | None) -> Iterator[Token]:
    while chain is not None:
        field, chain = chain
        yield field
