"""Texts that went to the server as one parameter are the array that they were."""

from __future__ import annotations

import pytest

from ingest.database import Database, array_of, joined

COLUMNS: dict[str, list[str | None]] = {
    "plain": ["a", "b", "c"],
    "one-empty": [""],
    "empty": ["", "", ""],
    "null": [None],
    "nulls": [None, "", None, "NULL", "{}", None],
    "unit-separator": ["a\x1fb", "", None, "\x1f"],
    "record-separator": ["\x1e", None, "\x1e\x1e"],
    "hostile": ["{", '"', "\\", "\n", "a,b", "é\U0001f600", "'; --"],
}


@pytest.mark.parametrize("name", COLUMNS)
async def test_a_column_comes_out_as_it_went_in(database: Database, name: str) -> None:
    """Empty texts and NULLs too, and texts that hold what usually marks the ends."""
    end, null, [text] = joined([COLUMNS[name]])
    assert await database.value(f"SELECT {array_of(3, 1, 2)}", end, null, text) == COLUMNS[name]


async def test_columns_share_their_marks(database: Database) -> None:
    """What one of them holds ends no text of another."""
    columns: list[list[str | None]] = [["a", "b"], ["\x1f", None]]
    end, null, texts = joined(columns)
    found = await database.fetch(f"SELECT {array_of(3, 1, 2)} AS a, {array_of(4, 1, 2)} AS b", end, null, *texts)
    assert [[row["a"], row["b"]] for row in found] == [columns]
