"""An embedded PostgreSQL for a machine that has none: the first process to use it starts it, the last stops it.

Who still uses it is known to the kernel alone: each process holds a shared lock on a file, and a lock dies with its
process, also with `kill -9`. A server that outlived a killed service is found running and used again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import structlog

from ingest.database.account import account_for
from ingest.database.cluster import Cluster, bin_path, reason, refused
from ingest.errors import SettingsError
from ingest.logs import escaped

__all__ = ["bin_path", "embedded_postgres"]

log = structlog.get_logger(__name__)


@contextmanager
def embedded_postgres(data_dir: Path) -> Iterator[str]:
    """Run PostgreSQL in `data_dir`/postgres while the context lasts; yields a DSN of its database `ingest`.

    Blocks while it starts (about a second, the first time two) and while it stops, so use it around `trio.run`. The
    server outlives the context when another process still uses it.
    Raises SettingsError (E_EMBEDDED) in one line when the folder cannot be used or the server does not start.
    """
    with ExitStack() as held:
        with _explained(data_dir):
            cluster = _open(data_dir)
            with _locked(cluster) as exclusive:
                users = held.enter_context(_opened(cluster, "users"))
                fcntl.flock(users, fcntl.LOCK_SH)
                held.callback(_leave, cluster, users)
                dsn = _ready(exclusive)
        yield dsn


def _ready(cluster: Cluster) -> str:
    began = time.monotonic()
    found = cluster.running()
    cluster.initialise()
    cluster.start()
    cluster.create_database()
    log.info("embedded postgres ready", folder=cluster.home, found=found, seconds=round(time.monotonic() - began, 2))
    return cluster.dsn()


def _leave(cluster: Cluster, users: IO[bytes]) -> None:
    with _locked(cluster) as exclusive:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # somebody else still uses it
        try:
            exclusive.stop()
        except SettingsError as error:
            # The work is done and committed; the next start finds the server and uses it.
            log.warning("embedded postgres not stopped", folder=cluster.home, error=error.detail)


def _open(data_dir: Path) -> Cluster:
    data_dir.mkdir(parents=True, exist_ok=True)
    home = data_dir.resolve() / "postgres"
    account = account_for(home)
    account.private_folder(home)
    account.open_way(home)
    programs = bin_path()
    account.open_way(programs / "postgres")
    account.open_tree(programs.parent)
    return Cluster(home, account)


@contextmanager
def _locked(cluster: Cluster) -> Iterator[Cluster]:
    with _opened(cluster, "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield replace(cluster, lock=file)


def _opened(cluster: Cluster, name: str) -> IO[bytes]:
    path = cluster.home / name
    file = path.open("a+b")
    cluster.account.take(path)
    return file


@contextmanager
def _explained(data_dir: Path) -> Iterator[None]:
    """Turn what the operating system refuses into one line that says what to do."""
    try:
        yield
    except OSError as error:
        place = escaped(str(error.filename or data_dir))
        if isinstance(error, PermissionError):
            why = f"no permission for {place}; set INGEST_HOME to a folder of user {os.geteuid()}, or set DATABASE_URL"
        else:
            why = reason(str(error)) or f"{place}: {error.strerror}"
        raise refused(why) from error
