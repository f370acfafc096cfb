"""Which SQLSTATE is worth which retry: what PostgreSQL raises reaches the service as one of four kinds."""

from __future__ import annotations

import re

import pytest

from ingest.database import Database
from ingest.database.errors import kind_of, mapped
from ingest.errors import ConflictError, DatabaseError, FileError, PermanentError, RowError, UnavailableError
from ingest.statements import sql_folder

KINDS: dict[type[DatabaseError], list[str]] = {
    RowError: [
        "22P02", "22007", "22001", "22021", "22P04", "23502", "23503", "23505", "23514", "23P01", "42601", "44000",
        "54000", "54001", "P0001", "P0002", "P0004", "21000", "27000", "38000", "39004", "ZZ999", "2F003",
    ],
    ConflictError: ["40001", "40P01", "40002", "55P03", "57014"],
    UnavailableError: [
        "08000", "08003", "08006", "08P01", "40003", "53100", "53200", "53300", "53400", "57P01", "57P02", "57P03",
        "57P04", "57P05", "25P03", "25P04", "25006", "58030",
    ],
    PermanentError: [
        "0A000", "25001", "25P02", "26000", "28000", "28P01", "2BP01", "34000", "3D000", "3F000", "42501", "42703",
        "42P01", "42804", "54011", "54023", "55000", "55006", "58P01", "F0000", "XX000", "XX001",
    ],
}  # fmt: skip
KIND_OF = {sqlstate: kind for kind, states in KINDS.items() for sqlstate in states}


async def test_what_postgresql_raises_becomes_its_kind(database: Database) -> None:
    """Through the whole bridge, with the SQLSTATE kept and the message cut to its first line."""
    for sqlstate, kind in KIND_OF.items():
        with pytest.raises(DatabaseError) as raised:
            await database.execute(
                "DO $$ BEGIN RAISE EXCEPTION E'said so\\nand more' "
                f"USING ERRCODE = '{sqlstate}', DETAIL = 'secret'; END $$"
            )
        assert (type(raised.value), raised.value.sqlstate, raised.value.detail) == (kind, sqlstate, "said so")
    assert database.statistics().open == 1


async def test_columns_and_constraints_are_kept_and_other_rows_are_not(database: Database) -> None:
    """The DETAIL may quote a row of somebody else; it goes nowhere."""
    await database.execute("CREATE TABLE k (a int PRIMARY KEY, b int NOT NULL)")
    with pytest.raises(RowError) as raised:
        await database.execute("INSERT INTO k VALUES (4711, 1), (4711, 2)")
    assert (raised.value.sqlstate, raised.value.constraint, raised.value.facts) == ("23505", "k_pkey", {})
    assert "4711" not in str(raised.value)
    with pytest.raises(RowError) as raised:
        await database.execute("INSERT INTO k VALUES (1, NULL)")
    assert (raised.value.sqlstate, raised.value.column) == ("23502", "b")


async def test_a_value_that_cannot_be_sent_is_no_lost_connection(database: Database) -> None:
    """Nor is a record at fault, and what is said does not quote the value."""
    for kind, value in (("text", "secret \ud800"), ("bigint", "secret"), ("bigint", 2**70), ("timestamptz", 5)):
        with pytest.raises(PermanentError, match=r"a value cannot be sent to PostgreSQL$"):
            await database.value(f"SELECT $1::{kind}", value)
    assert await database.value("SELECT 1") == 1


def test_errors_of_our_own_pass_unchanged() -> None:
    """A unit of work may raise what its caller knows."""
    ours = FileError("no")
    with pytest.raises(FileError) as raised, mapped():
        raise ours
    assert raised.value is ours


@pytest.mark.parametrize(
    ("error", "sqlstate", "part"),
    [
        (TimeoutError(), "08006", "in time"),
        (ConnectionRefusedError(111, "Connection refused"), "08001", "Connection refused"),
        (OSError("no such host"), "08001", "no such host"),
    ],
)
def test_the_network_is_unavailable_too(error: Exception, sqlstate: str, part: str) -> None:
    """Whatever the operating system says of it."""
    with pytest.raises(UnavailableError, match=part) as raised, mapped():
        raise error
    assert raised.value.sqlstate == sqlstate
    assert raised.value.__cause__ is error


def test_isolating_and_the_bridge_agree_on_what_a_record_can_be_blamed_for() -> None:
    """What is_nobodys_fault names, the writer must not take for a record's fault again: it would give the chunk up."""
    text = (sql_folder() / "002_create_loading_functions.sql").read_text(encoding="utf-8")
    listed = re.search(r"left\(p_state, 2\) IN \(([^)]*)\)", text)
    assert listed is not None
    raised = set(re.findall(r"'(\w\w)'", listed[1]))
    blamed = {sqlstate for sqlstate in KIND_OF if sqlstate == "42601" or sqlstate[:2] not in raised}
    assert {sqlstate for sqlstate in KIND_OF if kind_of(sqlstate) is RowError} == blamed - {"54011", "54023"}
