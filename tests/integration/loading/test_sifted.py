"""Appends to tables with keys: the records that collide are told from the others by a look-up that decides nothing."""

from __future__ import annotations

import pytest

from ingest.database import Database
from ingest.loading.isolated import TAKEN_KEY
from tests.conftest import Psql
from tests.integration.build import spec
from tests.integration.loading.ladder import load, outcomes_of, rows

OF = spec(("a", "integer"), ("b", "integer"), ("c", "numeric(5,2)"))


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each batch could be sifted, in their order."""
    return outcomes_of(monkeypatch, "copy_sifted")


async def sift(
    database: Database, table: str, psql: Psql, data: bytes, **options: int
) -> tuple[list[str], dict[int, list[str]]]:
    """Load records as after a batch with a key that was taken; returns the table, and the codes by line."""
    psql(f"create table t ({table})")
    loaded = await load(database, OF, data, isolate=True, after=TAKEN_KEY, **options)
    codes = {line: [code for code, *_ in reasons] for line, reasons in loaded.reasons().items()}
    return await rows(database, OF), codes


async def test_taken_in_the_table_and_in_the_batch(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """Of the records with one key the first is in, over several batches."""
    found, codes = await sift(
        database, "a integer primary key, b integer, c numeric(5,2)", psql,
        b"1,1,1\n2,1,1\n1,2,2\n3,1,1\n2,9,9\n4,1,1\n3,9,9\n", batch_records=3,
    )  # fmt: skip
    assert [row.rsplit(",", 1)[0] for row in found] == ["(1,1", "(2,1", "(3,1", "(4,1"]
    assert codes == {4: ["E_DUP_KEY"], 6: ["E_DUP_KEY"], 8: ["E_DUP_KEY"]}
    assert outcomes == [True] * 3


async def test_a_record_whose_rival_is_not_in(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """The first has a bad value, so that the second one's key is free; the third collides with the second."""
    found, codes = await sift(
        database, "a integer primary key, b integer, c numeric(5,2)", psql, b"1,1,x\n1,2,2\n1,3,3\n5,5,5\n"
    )
    assert [row.rsplit(",", 1)[0] for row in found] == ["(1,2", "(5,5"]
    assert codes == {2: ["E_TYPE"], 4: ["E_DUP_KEY"]}
    assert outcomes == [True]


async def test_two_keys_in_a_chain(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """The second collides with the first by one key and is out; the third only with the second, and is in."""
    found, codes = await sift(
        database, "a integer unique, b integer unique, c numeric(5,2)", psql, b"1,1,0\n1,2,0\n2,2,0\n3,1,0\n4,4,0\n"
    )
    assert [row.rsplit(",", 1)[0] for row in found] == ["(1,1", "(2,2", "(4,4"]
    assert codes == {3: ["E_DUP_KEY"], 5: ["E_DUP_KEY"]}
    assert outcomes == [True]


async def test_no_key_is_never_taken(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """NULL equals nothing; where the table says that it does, the slower way finds it."""
    found, codes = await sift(
        database, "a integer unique, b integer, c numeric(5,2)", psql, b",1,0\n,2,0\n7,3,0\n7,4,0\n"
    )
    assert len(found) == 3
    assert codes == {5: ["E_DUP_KEY"]}
    assert outcomes == [True]


async def test_nulls_that_are_one_key(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """With NULLS NOT DISTINCT the COPY fails, and the batch is loaded by the way that always ends."""
    found, codes = await sift(
        database, "a integer unique nulls not distinct, b integer, c numeric(5,2)", psql, b",1,0\n,2,0\n7,3,0\n7,4,0\n"
    )
    assert len(found) == 2
    assert codes == {3: ["E_DUP_KEY"], 5: ["E_DUP_KEY"]}
    assert outcomes == [False]


async def test_other_faults_of_a_record_that_collides(database: Database, psql: Psql, outcomes: list[bool]) -> None:
    """It is told what a single INSERT would have been told first: its value is bad, or must not be NULL."""
    found, codes = await sift(
        database, "a integer primary key, b integer not null, c numeric(5,2)", psql,
        b"1,1,0\n1,1,x\n1,,0\n2,2,99999\n",
    )  # fmt: skip
    assert [row.rsplit(",", 1)[0] for row in found] == ["(1,1"]
    assert codes == {3: ["E_TYPE"], 4: ["E_NOT_NULL"], 5: ["E_OUT_OF_RANGE"]}
    assert outcomes == [True]


@pytest.mark.parametrize(
    "of", ["a integer, b integer, c numeric(5,2), unique ((a + 0))", "a integer, b integer, c numeric(5,2)"]
)
async def test_keys_that_cannot_be_looked_up(database: Database, psql: Psql, outcomes: list[bool], of: str) -> None:
    """A key over an expression, or none at all: loaded by the other ways, with the same outcome."""
    if "unique" in of:
        psql("create table t (a integer, b integer, c numeric(5,2)); create unique index on t ((a + 0))")
        loaded = await load(database, OF, b"1,1,0\n1,2,0\n2,2,0\n", isolate=True, after=TAKEN_KEY)
        assert loaded.totals == (2, 0, 1)
    else:
        found, codes = await sift(database, of, psql, b"1,1,0\n1,2,0\n2,2,x\n")
        assert (len(found), codes) == (2, {4: ["E_TYPE"]})
    assert outcomes == [False]
