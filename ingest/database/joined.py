"""Many texts as one parameter: joined here, and made an array again by the server.

asyncpg looks at each element of an array for whether it is an array itself, which took longer than everything else that
is done for a reject.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

Texts = Sequence[str | None]

# What ends a text, and what stands for NULL: characters that hardly any text holds.
UNIT, RECORD = "\x1f", "\x1e"


def joined(columns: Sequence[Texts]) -> tuple[str, str, list[str]]:
    """Return what ends each text, what stands for NULL, and each of the columns as one text: see `array_of`.

    The two marks occur in no text: they are control characters, or else unforeseeable. A column holds a text or more.
    """
    packed = [_packed(column, UNIT, RECORD) for column in columns]
    if all(map(_is_clear, columns, packed)):
        return UNIT, RECORD, packed
    end, null = secrets.token_hex(), secrets.token_hex()
    return end, null, [_packed(column, end, null) for column in columns]


def array_of(column: int, end: int, null: int) -> str:
    """Return the SQL for the text[] that `joined` made of a column, given the numbers of the three parameters."""
    return f"ingest.texts(${column}::text, ${end}::text, ${null}::text)"


def _packed(column: Texts, end: str, null: str) -> str:
    return end.join([null if text is None else text for text in column] + [""])


def _is_clear(column: Texts, packed: str) -> bool:
    """Tell whether the marks in a packed column are all marks."""
    return packed.count(UNIT) == len(column) and packed.count(RECORD) == column.count(None)
