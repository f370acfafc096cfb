"""Migrations are applied in order and once, whoever starts first and whatever was there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.database import migrate, migrate_database, open_database
from ingest.errors import DatabaseError, PermanentError
from ingest.statements import migrations, sql_folder
from tests.conftest import as_user, named, run_psql
from tests.processes import clean_environment

NAMES = [
    "000_create_tables",
    "001_create_rpc_functions",
    "002_create_loading_functions",
    "003_create_progress_functions",
    "004_create_upload_functions",
    "005_create_intake_functions",
    "006_create_control_functions",
    "007_create_key_functions",
]
MIGRATE = "import sys, trio; from ingest.database import migrate; print(*trio.run(migrate, sys.argv[1]))"


@pytest.fixture
def empty(server: str) -> Iterator[str]:
    """DSN of a database without anything in it."""
    name = f"empty_{os.getpid()}"
    run_psql(server, f"create database {name}")
    yield named(server, name)
    run_psql(server, f"drop database {name} with (force)")


async def test_all_files_are_applied_once(empty: str) -> None:
    """In order, and the second time there is nothing to do."""
    assert await migrate(empty, dry_run=True) == NAMES
    assert run_psql(empty, "select count(*) from pg_namespace where nspname = 'ingest'") == "0"
    assert await migrate(empty) == NAMES
    assert await migrate(empty) == []
    assert await migrate(empty, dry_run=True) == []
    assert run_psql(empty, "select string_agg(name, ' ' order by number) from ingest.migrations") == " ".join(NAMES)


async def test_an_open_database_can_be_migrated(empty: str) -> None:
    """As the service does at its start; the connections of its pool are not touched."""
    async with open_database(empty, pool_size=1) as database:
        assert await migrate_database(database) == NAMES
        assert await migrate_database(database) == []
        assert await database.value("SELECT count(*) FROM ingest.jobs") == 0


def test_ten_processes_at_once(empty: str) -> None:
    """Exactly one of them applies; all of them find it done."""
    command = [sys.executable, "-c", MIGRATE, empty]
    folder = Path(__file__).parents[3]
    started = [
        subprocess.Popen(
            command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(10)
    ]
    ended = [(process.communicate(timeout=60), process.returncode) for process in started]
    assert [code for _, code in ended] == [0] * 10, ended
    assert sorted(out.strip() for (out, _), _ in ended) == [""] * 9 + [" ".join(NAMES)]


async def test_a_file_that_was_changed_afterwards_is_refused(empty: str) -> None:
    """What the database holds is not what the code was written for; a dry run says so too."""
    await migrate(empty)
    run_psql(empty, "update ingest.migrations set checksum = 'other' where number = 1")
    for dry_run in (False, True):
        with pytest.raises(PermanentError, match=r"001_create_rpc_functions\.sql was changed") as raised:
            await migrate(empty, dry_run=dry_run)
        assert raised.value.code == "E_MIGRATION_CHANGED"


async def test_a_newer_database_is_left_alone(empty: str) -> None:
    """A migration that this release does not know does not stop it: the release before must go on working."""
    await migrate(empty)
    run_psql(empty, "insert into ingest.migrations values (999, '999_from_the_future', 'x')")
    assert await migrate(empty) == []


async def test_a_failed_file_leaves_nothing_of_itself(empty: str) -> None:
    """The files before it stay; when its cause is gone, the same call goes on."""
    run_psql(empty, "create schema ingest; create function ingest.commit_batch(bigint, bigint, bigint, bigint, bigint, "
                    "bigint, bigint, bigint, bigint, bigint, bigint) returns int return 1")  # fmt: skip
    with pytest.raises(DatabaseError):
        await migrate(empty)
    assert run_psql(empty, "select string_agg(name, ' ') from ingest.migrations") == NAMES[0]
    assert run_psql(empty, "select count(*) from pg_proc where proname = 'claim_chunks'") == "0"
    run_psql(empty, "drop function ingest.commit_batch")
    assert await migrate(empty) == NAMES[1:]


async def test_the_files_can_be_run_by_hand(empty: str) -> None:
    """`psql -f` of each, twice even; `ingest migrate` then only takes note of them."""
    by_hand = "".join(f"\\i '{sql_folder() / migration.name}.sql'\n" for migration in migrations())
    run_psql(empty, "set client_min_messages = warning;\n" + by_hand * 2)
    assert await migrate(empty) == NAMES
    assert await migrate(empty) == []


async def test_a_role_that_is_no_superuser(empty: str, server: str) -> None:
    """CREATE on the database is enough to migrate; afterwards not even that is needed to start."""
    role = f"plain_{os.getpid()}"
    database = empty.partition("?")[0].rpartition("/")[2]
    run_psql(server, f"create role {role} login; grant create on database {database} to {role}")
    try:
        dsn = as_user(empty, role)
        assert await migrate(dsn) == NAMES
        run_psql(server, f"revoke create on database {database} from {role}")
        assert await migrate(dsn) == []
        async with open_database(dsn, pool_size=1) as opened:
            assert await migrate_database(opened) == []
            assert await opened.value("SELECT count(*) FROM ingest.claim_chunks(gen_random_uuid(), 'default', 1)") == 0
    finally:
        run_psql(empty, f"drop owned by {role}; drop role {role}")


async def test_a_role_that_may_not_create_is_told_so(empty: str, server: str) -> None:
    """One error of ours with PostgreSQL's words."""
    role = f"powerless_{os.getpid()}"
    run_psql(server, f"create role {role} login")
    try:
        with pytest.raises(PermanentError, match="permission denied for database"):
            await migrate(as_user(empty, role))
    finally:
        run_psql(empty, f"drop owned by {role}; drop role {role}")


async def test_a_database_in_another_encoding_is_refused(server: str) -> None:
    """It could hold neither every file's text nor the rejects that say so."""
    name = f"latin_{os.getpid()}"
    run_psql(server, f"create database {name} template template0 encoding 'LATIN1' locale_provider libc locale 'C'")
    try:
        with pytest.raises(PermanentError, match="UTF8") as raised:
            await migrate(named(server, name))
        assert raised.value.code == "E_DATABASE_ENCODING"
    finally:
        run_psql(server, f"drop database {name} with (force)")
