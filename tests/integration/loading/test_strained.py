"""Malformed lines among others: the others are copied as they are, and each record has its place and its reason."""

from __future__ import annotations

import pytest

from ingest.database import Database
from tests.conftest import Psql
from tests.integration.build import spec
from tests.integration.loading.ladder import load, outcomes_of, rows

OF = spec(("a", "integer"), ("b", "text"))


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch could be strained, in their order."""
    return outcomes_of(monkeypatch, "copy_strained")


async def strain(database: Database, psql: Psql, table: str, data: bytes) -> tuple[list[str], dict[int, list[str]]]:
    """Load records by way of a batch that failed; returns the table, and the codes by line."""
    psql(f"create table t ({table})")
    loaded = await load(database, OF, data, isolate=True, after="22P04")
    return await rows(database, OF), {line: [code for code, *_ in why] for line, why in loaded.reasons().items()}


async def test_malformed_and_refused_records_in_one_batch(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """Those that COPY skips are told by their lines among the ones that it was given."""
    data = b'1,a\n2,b,c\nx,d\n4\n5,"e,f"\ny,g\n7,h"i"\n8,j\n'
    found, codes = await strain(database, psql, "a integer, b text", data)
    assert found == ["(1,a)", '(5,"e,f")', "(8,j)"]
    assert codes == {3: ["E_COLUMNS"], 4: ["E_TYPE"], 5: ["E_COLUMNS"], 7: ["E_TYPE"], 8: ["E_QUOTE_BARE"]}
    assert outcomes == [True]


async def test_bytes_that_are_no_text(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    found, codes = await strain(database, psql, "a integer, b text", b"1,\xff\n2,\x00\n3,\xc3\xa9\n")
    assert found == ["(3,é)"]
    assert codes == {2: ["E_UTF8"], 3: ["E_NUL"]}
    assert outcomes == [True]


async def test_nothing_but_malformed_records(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    found, codes = await strain(database, psql, "a integer, b text", b"1\n2\n")
    assert (found, codes, outcomes) == ([], {2: ["E_COLUMNS"], 3: ["E_COLUMNS"]}, [True])


async def test_what_the_table_refuses_is_left_to_others(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """A check fails the COPY; the batch is then judged record by record, with the same outcome for the malformed."""
    found, codes = await strain(database, psql, "a integer check (a < 9), b text", b"1,a\n2\n10,b\n3,c\n")
    assert found == ["(1,a)", "(3,c)"]
    assert codes == {3: ["E_COLUMNS"], 4: ["E_CHECK"]}
    assert outcomes == [False]


async def test_rows_that_a_trigger_drops_are_counted(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    psql(
        "create table t (a integer, b text); create function drop_two() returns trigger language plpgsql as "
        "$$ begin if new.a = 2 then return null; end if; return new; end $$; "
        "create trigger d before insert on t for each row execute function drop_two()"
    )
    loaded = await load(database, OF, b"1,a\n2,b\n3\n4,d\n", isolate=True, after="22P04")
    assert await rows(database, OF) == ["(1,a)", "(4,d)"]
    assert loaded.totals == (2, 1, 1)
    assert outcomes == [True]
