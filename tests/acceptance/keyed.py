"""Services that ask for keys, and the keys to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests import canaries
from tests.acceptance.client import PATIENCE_S, Ended, command
from tests.conftest import run_psql
from tests.processes import Process, Starter, starting


@dataclass(frozen=True)
class Keyring:
    """Makes keys for the services of a starter."""

    service: Starter

    def run(self, *arguments: str | Path) -> Ended:
        """Run `ingest keys ...` to its end."""
        return command("keys", *arguments, environment=self.service.environment, folder=self.service.folder)

    def make(self, owner: str, *scopes: str, **limits: str) -> str:
        """Make a key; limits are options of the command (`bytes_per_day="5"`)."""
        options = [f"--{name.replace('_', '-')}={value}" for name, value in limits.items()]
        done = self.run("create", "--owner", owner, *(f"--scope={scope}" for scope in scopes), *options)
        assert done.code == 0, done.err
        canaries.plant_key(done.out.strip())
        return done.out.strip()


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def prefix_of(key: str) -> str:
    """The public part of a key."""
    return key.split("_")[1]


def opened(url: str, key: str | None = None) -> httpx.Client:
    """A client that sends a key with each request."""
    return httpx.Client(
        base_url=url, timeout=PATIENCE_S, headers=bearer(key) if key else {}, event_hooks=canaries.HOOKS
    )


@contextmanager
def guarding(dsn: str, folder: Path) -> Iterator[tuple[Process, Keyring]]:
    """A service that asks for keys, with a table `t` (a int, b text), and the ring of its keys."""
    run_psql(dsn, "create table t (a int, b text)")
    environment = {
        "DATABASE_URL": dsn, "INGEST_HOME": str(folder / "home"), "LOG_FORMAT": "json", "INGEST_AUTH": "required",
        "INGEST_TABLE_SCHEMAS": "public",
    }  # fmt: skip
    with starting(folder, environment) as service:
        yield service(), Keyring(service)
