"""The table that everybody loads: made anew before each turn, compared after it with what must be in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.measuring import BenchmarkError
from scripts.benchmark.server import Server

# Row count and a checksum of the rows, in any order: faster than by texts.
DIGEST = "select count(*), coalesce(sum(hash_record_extended(t, 0)::numeric), 0) from {} t"


def copy_command(table: str, path: Path, options: str = "") -> str:
    """Return psql's command that loads a CSV file with a header."""
    return rf"\copy {table} from '{path}' with (format csv, header true{options})"


# What is written in all, in sizes of the file.
TIMES = 4


@dataclass(frozen=True, slots=True)
class Arena:
    """Where a race takes place. `table` is made by `make`; it must be as `digest` says after a turn.

    `size` is how much memory a turn needs at most for files that are written: chunks, table, indexes, log.
    """

    server: Server
    table: str
    make: str
    digest: str
    size: int

    @property
    def rows(self) -> int:
        """How many rows are in the table after a turn."""
        return int(self.digest.split("|")[0])

    def reset(self) -> None:
        """Make the table anew and let the server write out what is left of the turn before."""
        self.server.sql(f"set client_min_messages = warning; drop table if exists {self.table}; {self.make}")
        self.server.settle()

    def check(self) -> None:
        """Raise BenchmarkError when the table is not what it must be."""
        found = self.server.sql(DIGEST.format(self.table))
        if found != self.digest:
            raise BenchmarkError(f"{self.table} holds {found} (rows|checksum) instead of {self.digest}")


def arena(server: Server, table: str, columns: str, path: Path, *, after: str = "", options: str = "") -> Arena:
    """Return the arena for a file: what must be loaded is what `COPY` makes of it, in the table `reference`.

    `after` are further statements that make the table ready.
    """
    server.sql(
        f"set client_min_messages = warning; drop table if exists reference; create table reference ({columns});"
        f"\n{copy_command('reference', path, options)}\nvacuum analyze reference;"
    )
    make = f"create table {table} ({columns}); {after}"
    return Arena(server, table, make, server.sql(DIGEST.format("reference")), TIMES * path.stat().st_size)
