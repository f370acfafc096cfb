"""A service whose role may do little: every right that it lacks costs it a look, never a record."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator

import pytest

from ingest.database import Database, open_database
from tests.conftest import Psql
from tests.integration.build import spec
from tests.integration.loading.ladder import load, planned

OF = spec(("a", "integer"), ("b", "integer"))


@pytest.fixture
async def limited(dsn: str, psql: Psql) -> AsyncIterator[Database]:
    """A database with a table t, open as a role that may insert into it and nothing else."""
    role = f"loader_{os.getpid()}"
    psql(
        "create table parent (id integer primary key); insert into parent values (1), (2); "
        "create table t (a integer primary key, b integer check (b > 0) references parent); "
        f"create role {role} login; grant insert on t to {role}; grant usage on schema ingest to {role}; "
        f"grant all on all tables in schema ingest to {role}; grant all on all sequences in schema ingest to {role}"
    )
    try:
        async with open_database(re.sub("//[^@/]*@", f"//{role}@", dsn), pool_size=4, name="ingest test") as database:
            yield database
    finally:
        psql(f"drop owned by {role}; drop role {role}")


@pytest.mark.parametrize("way", ["as it is", "planned"])
async def test_a_role_that_may_only_insert(limited: Database, psql: Psql, way: str) -> None:
    """Neither keys nor references can be looked at; inserting tells, and each bad record stands alone."""
    assert await limited.value("SELECT has_table_privilege('t', 'SELECT')") is False
    psql("insert into t values (9, 1)")
    data = b"1,1\n2,2\n1,2\n9,1\n3,-1\n4,7\nx,1\n,1\n5,1\n"
    loaded = await load(limited, planned(OF) if way == "planned" else OF, data)
    assert psql("select a from t order by a") == "1\n2\n5\n9"
    codes = {line: [code for code, *_ in reasons] for line, reasons in loaded.reasons().items()}
    assert codes == {
        4: ["E_DUP_KEY"], 5: ["E_DUP_KEY"], 6: ["E_CHECK"], 7: ["E_FOREIGN_KEY"], 8: ["E_TYPE"], 9: ["E_NOT_NULL"],
    }  # fmt: skip
    assert loaded.totals == (3, 0, 6)
