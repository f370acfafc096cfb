"""Many small files, one service: what became of a file as a value to compare.

Every table of a module's TABLES is there twice: NAME, which files go to as they are (direct), and NAME_staged, which they
go to by a definition called NAME that says no more than the table does (staged). DATASETS are more definitions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.acceptance.client import Client
from tests.conftest import Psql
from tests.processes import Process, starting

# The two ways that a file goes into a table, as tests are parametrized by them.
WAYS = ("direct", "staged")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a file: its job, the rows now in the table, and its rejects."""

    job: dict[str, Any]
    rows: list[tuple[Any, ...]]
    rejects: list[dict[str, Any]]

    @property
    def counts(self) -> tuple[str, int, int, int]:
        """Status, and the records read, processed and rejected."""
        return self.job["status"], self.job["total_rows"], self.job["processed_rows"], self.job["failed_rows"]

    @property
    def codes(self) -> list[tuple[int, str | None, str]]:
        """Line, column and code of each reject."""
        return [(reject["line"], reject["column"], reject["code"]) for reject in self.rejects]

    @property
    def states(self) -> list[str | None]:
        """The SQLSTATE of each reject."""
        return [reject["sqlstate"] for reject in self.rejects]

    def said(self, line: int) -> str:
        """The sentence of the only reject on a line."""
        (message,) = [reject["message"] for reject in self.rejects if reject["line"] == line]
        return str(message)


@dataclass(frozen=True, slots=True)
class Inputs:
    """A service whose tables and definitions are there."""

    client: Client
    psql: Psql
    process: Process
    objects: Path  # where chunks are stored

    def load(self, table: str, body: bytes, way: str = "direct", *, keep: bool = False, **options: str) -> Loaded:
        """Load a file into a table of TABLES, which is emptied before unless the rows are to be kept."""
        dataset, table = whither(table, way)
        return self.load_into(table, dataset, body, keep=keep, **options)

    def load_into(self, table: str, dataset: str, body: bytes, *, keep: bool = False, **options: str) -> Loaded:
        """Load a file by any dataset; `table` is where to look for its rows."""
        if not keep:
            self.psql(f"truncate {table}")
        job = self.client.load(body, dataset, **options)
        return Loaded(job, self.rows(table), self.client.rejects(job["id"]))

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """The rows of a table in the order they came in, as JSON has them."""
        found = json.loads(
            self.psql(f"select coalesce(json_agg(t order by t.ctid), '[]') from {table} t"), parse_int=_number
        )
        return [tuple(row.values()) for row in found]

    def refused(self, table: str, body: bytes, way: str = "direct", **options: str) -> dict[str, Any]:
        """Upload a file that must be refused as a whole, leaving nothing; returns the problem."""
        dataset, table = whither(table, way)
        before = self.rows(table)
        answer = self.client.put(body, dataset, **options)
        assert answer.status_code == 422, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert self.rows(table) == before
        found: dict[str, Any] = answer.json()
        return found


def whither(table: str, way: str) -> tuple[str, str]:
    """The dataset that leads into a table of TABLES on this way, and the table it leads to."""
    return (f"public.{table}", table) if way == "direct" else (table, f"{table}_staged")


def _number(text: str) -> int | Decimal:
    """A whole number as Python's own, unless it is longer than Python reads."""
    return int(text) if len(text) < 4000 else Decimal(text)


def definition(name: str, columns: str) -> str:
    """A definition that says of a table what the table says of itself: `id int, name varchar(5)`."""
    lines = [f'name = "{name}"', f'table = "{name}_staged"']
    for column in columns.split(", "):
        title, _, type_name = column.partition(" ")
        lines += [f"[columns.{title}]", f'type = "{type_name}"', "trim = false", "nulls = []"]
    return "\n".join(lines)


@contextmanager
def serving(
    dsn: str, psql: Psql, folder: Path, tables: Mapping[str, str], datasets: Mapping[str, str], **settings: str
) -> Iterator[Inputs]:
    """A service with `tables` (name to columns) and `datasets` (name to TOML)."""
    for name, columns in tables.items():
        psql(f"create table {name} ({columns}); create table {name}_staged ({columns})")
    for name, text in {**{name: definition(name, columns) for name, columns in tables.items()}, **datasets}.items():
        (folder / f"{name}.toml").write_text(text)
    environment = {
        "DATABASE_URL": dsn, "INGEST_HOME": str(folder / "home"), "LOG_FORMAT": "json", "INGEST_DATASETS": str(folder)
    } | settings  # fmt: skip
    with starting(folder, environment) as service:
        process = service()
        with closing(Client(process.url)) as client:
            yield Inputs(client, psql, process, folder / "home" / "objects")
