"""Every test here that asks for `any_database` runs on each version of PostgreSQL there is."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import trio

from ingest.database import Database, migrate, open_database
from tests.conftest import emptied, named, run_psql
from tests.integration.loading.servers import MAJORS, programs, server

# Where the tables of the differential tests are.
SCHEMAS = ("ladder", "isolated", "sifted", "mostly_bad", "planned", "halved", "judge")

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=["session", *MAJORS], ids=lambda version: f"pg-{version}")
def any_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """DSN of a superuser: on the server of this session, then on each of the others, started when it is first used."""
    if request.param == "session":
        yield request.getfixturevalue("server")
        return
    if programs(request.param) is None:
        pytest.skip(
            f"PostgreSQL {request.param} is not installed here (Debian: apt-get install postgresql-{request.param})"
        )
    with server(request.param) as dsn:
        yield dsn


@pytest.fixture(scope="module")
def any_dsn(any_server: str) -> Iterator[str]:
    """DSN of a migrated database on that server."""
    name = f"loading_{os.getpid()}_{next(_numbers)}"
    run_psql(any_server, f"create database {name}")
    trio.run(migrate, named(any_server, name))
    yield named(any_server, name)
    run_psql(any_server, f"drop database {name} with (force)")


@pytest.fixture
async def any_database(any_dsn: str) -> AsyncIterator[Database]:
    """A migrated and otherwise empty database, open, on each version in turn."""
    run_psql(any_dsn, f"set client_min_messages = warning; drop schema if exists {', '.join(SCHEMAS)} cascade")
    async with open_database(emptied(any_dsn), pool_size=4, name="ingest test") as database:
        yield database
