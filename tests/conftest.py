"""What tests share: one PostgreSQL for the session, a database of its own for each test, and the service as a process.

INGEST_TEST_DATABASE_URL names another server (as superuser, for example PostgreSQL 15) to run the same tests on.
The fixtures are synchronous, because pytest-trio's own live only as long as one test.
"""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
import trio

from ingest.database import Database, migrate, open_database
from ingest.database.embedded import bin_path, embedded_postgres
from tests.canaries import PASSWORD
from tests.processes import Starter, clean_environment, starting

TEMPLATE = "ingest_template"
EMPTY = """
set client_min_messages = warning;
truncate ingest.jobs, ingest.uploads, ingest.rejects, ingest.workers, ingest.request_keys, ingest.audit
  restart identity cascade;
drop schema public cascade;
create schema public;
"""

# A shared machine may stall any example; what is slow shows in --durations.
hypothesis.settings.register_profile("ingest", deadline=None, print_blob=True)
hypothesis.settings.load_profile("ingest")

_numbers = itertools.count(1)

Psql = Callable[[str], str]


def run_psql(dsn: str, sql: str) -> str:
    """Run SQL or psql commands, each statement by itself; returns the bare output. Fails on the first error."""
    done = subprocess.run(
        [bin_path() / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dsn],
        input=sql,
        capture_output=True,
        text=True,
        env=clean_environment() | {"PGCLIENTENCODING": "UTF8"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def named(dsn: str, database: str) -> str:
    """The same server, another database."""
    return re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\g<1>/{database}", dsn)


def as_user(dsn: str, user: str) -> str:
    """The same server and database for another user, who may be given as `name:password`."""
    return re.sub(r"(?<=://)([^@/?]*@)?", f"{user}@", dsn, count=1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """DSN of a superuser on the server of this session."""
    given = os.environ.get("INGEST_TEST_DATABASE_URL")
    if given:
        yield given
        return
    # Not below pytest's own folder: as root, each session that begins closes that folder to the server's account.
    with tempfile.TemporaryDirectory(prefix="ingest-test-") as folder, embedded_postgres(Path(folder)) as dsn:
        superuser = as_user(named(dsn, "postgres"), f"postgres:{PASSWORD}")
        # What a test writes need not outlive the machine; dropping a database would wait a second for the disk.
        run_psql(superuser, "alter system set fsync = off; select pg_reload_conf()")
        yield superuser


@pytest.fixture(scope="session")
def template(server: str) -> Iterator[str]:
    """Name of a migrated database that nobody is connected to."""
    name = f"{TEMPLATE}_{os.getpid()}"
    run_psql(server, f"create database {name}")
    try:
        trio.run(migrate, named(server, name))
        yield name
    finally:
        run_psql(server, f"drop database {name} with (force)")


@pytest.fixture
def dsn(server: str, template: str) -> Iterator[str]:
    """DSN of a migrated database that is this test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    run_psql(server, f"create database {name} template {template}")
    yield named(server, name)
    run_psql(server, f"drop database if exists {name} with (force)")


@pytest.fixture(scope="module")
def shared_dsn(server: str, template: str) -> Iterator[str]:
    """DSN of a migrated database that the tests of a module use one after the other; see `emptied`."""
    name = f"shared_{os.getpid()}_{next(_numbers)}"
    run_psql(server, f"create database {name} template {template}")
    yield named(server, name)
    run_psql(server, f"drop database {name} with (force)")


def emptied(dsn: str) -> str:
    """The same database as a migration leaves it: faster than another one, for tests that only need it empty."""
    run_psql(dsn, EMPTY)
    return dsn


@pytest.fixture
def psql(dsn: str) -> Psql:
    """Run SQL (or `\\copy`) in this test's database and get the bare output."""
    return lambda sql: run_psql(dsn, sql)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """This test's database, open, with a pool of eight connections."""
    async with open_database(dsn, pool_size=8, name="ingest test") as database:
        yield database


@pytest.fixture
def service(dsn: str, tmp_path: Path) -> Iterator[Starter]:
    """Start the service: `service()`, `service("worker", WORKER_BATCH_SIZE="1000")`, `service.command("migrate")`."""
    environment = {"DATABASE_URL": dsn, "INGEST_HOME": str(tmp_path / "home"), "LOG_FORMAT": "json"}
    with starting(tmp_path, environment) as starter:
        yield starter
