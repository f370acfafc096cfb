"""The one PostgreSQL that all contenders load into, with the settings of the embedded server of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from ingest.database.embedded import bin_path, embedded_postgres
from tests.conftest import run_psql

# Its start is a matter of minutes and would fall into one turn and not into another.
STEADY = "alter system set autovacuum = off; select pg_reload_conf()"

SETTINGS = """
select name || '=' || current_setting(name) from pg_settings
 where source in ('configuration file', 'command line')
   and name !~ '^(log_|lc_|unix_socket|port|listen|data_|DateStyle|TimeZone)'
    or name in ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'wal_compression')
 order by name
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The server's database `ingest`."""

    dsn: str
    folder: Path

    def sql(self, statements: str) -> str:
        """Run SQL or psql commands, each statement by itself; returns the bare output."""
        return run_psql(self.dsn, statements)

    def psql(self, *commands: str) -> list[str]:
        """Return the command line of a psql that runs `commands` in one transaction a command."""
        options = [option for command in commands for option in ("-c", command)]
        return [str(bin_path() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.dsn, *options]

    def settings(self) -> dict[str, str]:
        """Return the settings that were chosen, and those that decide how durable a commit is."""
        return dict(line.split("=", 1) for line in self.sql(SETTINGS).splitlines())

    def postmaster(self) -> psutil.Process:
        """Return the server's first process."""
        data = Path(self.sql("show data_directory"))
        return psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))

    def settle(self) -> None:
        """Write out what the turn before has left to write."""
        self.sql("checkpoint")


@contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """Run the server while the context lasts."""
    with embedded_postgres(folder) as dsn:
        server = Server(dsn, folder)
        server.sql(STEADY)
        yield server
