"""This service as a reader: every file is a job of its own, into a table of its own, in one process on real PostgreSQL."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import trio

from ingest import chunkrun
from ingest.chunk import Chunk
from ingest.database import Database, Session, open_database, quoted
from ingest.datasets import Datasets
from ingest.errors import IngestError
from ingest.job import JobState
from ingest.jobs import Jobs
from ingest.receiving import Receiving
from ingest.settings import Settings
from ingest.storage import Storage, open_storage
from ingest.web.options import upload_options
from ingest.work import Work, create_work
from tests.pollution.pollute import Polluted
from tests.pollution.score import Read
from tests.pollution.source import TYPES, Cells, Told

# What a client says that would rather have a guess than a reject.
LENIENT = {"on_ragged": "merge", "on_quote": "keep"}

# What stands for a code where there is none: nobody foresaw the error.
CRASH = "crash:"

# Files received, and chunks loaded, at the same time.
TOGETHER = 4
MOST_TRIES = 3  # of a chunk that is handed back again and again
SLICE = 200  # tables that exist at the same time


@dataclass(frozen=True)
class Way:
    """A way to load files: whether the dialect is told, whether guesses are wanted, and whether columns have types."""

    told: bool
    lenient: bool
    typed: bool

    def __str__(self) -> str:
        return ", ".join(
            (
                "told" if self.told else "detected",
                "lenient" if self.lenient else "default",
                "typed columns" if self.typed else "text columns",
            )
        )

    def options(self, file: Polluted) -> dict[str, str]:
        """Return the options of the request."""
        return (told_options(file.told) if self.told else {}) | (LENIENT if self.lenient else {})


@dataclass(frozen=True)
class Reject:
    """A rejected record: its code, and the physical lines that it says are its own; without end when it was cut."""

    code: str
    first_line: int
    last_line: float


@dataclass(frozen=True)
class Loaded:
    """What became of a file: what is in the table, the rejects, and the code with which it was refused or failed."""

    read: Read
    rejects: Sequence[Reject]
    refused: str | None = None

    @property
    def success(self) -> Read | None:
        """What was read, None where the service gave up."""
        return None if self.refused else self.read


def told_options(told: Told) -> dict[str, str]:
    """Return the options that say all that is told, so that nothing is left to be found."""
    names = io.StringIO()
    csv.writer(names, lineterminator="").writerow(told.names)
    return {
        "delimiter": told.delimiter,
        "quote": told.quote or "none",
        "escape": told.escape or "none",
        "encoding": told.encoding,
        "newline": "cr" if told.newline == "\r" else "lf",
        "skip_rows": str(told.skip_rows),
        "header_rows": str(told.header_rows),
        "footer_rows": "0",
        "comment": "none",
        "trim": "false",
        "columns": names.getvalue(),
    }


class Service:
    """Loads files; use as an asynchronous context manager."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._dsn, self._folder = dsn, folder
        self._settings = Settings.from_environment({"INGEST_HOME": str(folder / "home")})
        self._stack = AsyncExitStack()
        self._storage: Storage = open_storage(self._settings)
        self._limiter = trio.CapacityLimiter(TOGETHER)

    async def __aenter__(self) -> Self:
        self.database: Database = await self._stack.enter_async_context(
            open_database(self._dsn, pool_size=self._settings.pool_size, name="pollution")
        )
        self._jobs = Jobs(self.database)
        datasets = Datasets(self.database, frozenset({"public"}), ())
        self._receiving = Receiving(self._settings, self._storage, self._jobs, datasets)
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)

    async def load(self, files: Sequence[Polluted], way: Way) -> dict[str, Loaded]:
        """Load each file in this way and return what became of it, by name."""
        loaded: dict[str, Loaded] = {}
        for start in range(0, len(files), SLICE):
            loaded |= await self._load_slice(files[start : start + SLICE], way)
        return loaded

    async def _load_slice(self, files: Sequence[Polluted], way: Way) -> dict[str, Loaded]:
        tables = {file.name: f"p{number}" for number, file in enumerate(files)}
        await self.database.transact(partial(_create, tables={tables[f.name]: _columns(f, way) for f in files}))
        jobs: dict[str, UUID | str] = {}
        async with trio.open_nursery() as nursery:
            for file in files:
                nursery.start_soon(self._receive, file, tables[file.name], way, jobs)
        await self._work()
        loaded = {file.name: await self._outcome(tables[file.name], jobs[file.name]) for file in files}
        await self.database.execute(f"DROP TABLE {', '.join(tables.values())}")
        return loaded

    async def _receive(self, file: Polluted, table: str, way: Way, jobs: dict[str, UUID | str]) -> None:
        path = self._folder / f"{table}.csv"
        async with self._limiter:
            path.write_bytes(file.data)
            try:
                values = {"dataset": f"public.{table}", **way.options(file)}
                options = upload_options(values, filename=path.name, bytes_total=len(file.data))
                jobs[file.name] = (await self._receiving.scan_file(path, options, queue="default")).id
            except IngestError as error:
                jobs[file.name] = error.code
            except Exception as error:
                jobs[file.name] = f"{CRASH} {type(error).__name__}"  # one file must not end a comparison

    async def _work(self) -> None:
        """Run the chunks that can be claimed; a try that is put off counts as given up, and so does one that crashes."""
        work = create_work(self._settings, self.database, self._storage, trio.Event())
        claims = Counter[int]()
        while chunks := await work.queue.claim(TOGETHER):
            claims.update(chunk.id for chunk in chunks)
            if max(claims.values()) > MOST_TRIES:
                return
            async with trio.open_nursery() as nursery:
                for chunk in chunks:
                    nursery.start_soon(_run, chunk, work)

    async def _outcome(self, table: str, job: UUID | str) -> Loaded:
        if isinstance(job, str):
            return Loaded(Read(None, []), [], refused=job)
        view = await self._jobs.get(job)
        [[spec]] = await self.database.fetch("SELECT spec FROM ingest.jobs WHERE id = $1", job)
        names: Cells = tuple(column["name"] for column in spec["columns"])
        listed = ", ".join(f"coalesce({quoted(name)}::text, '')" for name in names)
        rows = await self.database.fetch(f"SELECT {listed} FROM {table}")
        has_header = spec["dialect"].get("header_rows", 1) > 0
        assert view is not None
        return Loaded(
            Read(names if has_header else None, [tuple(row) for row in rows]),
            await self._rejects(job),
            refused=None if view.status is JobState.COMPLETED else (view.error or {}).get("code", str(view.status)),
        )

    async def _rejects(self, job: UUID) -> list[Reject]:
        rows = await self.database.fetch(
            "SELECT DISTINCT ON (line) line, code, raw, raw_bytes, truncated FROM ingest.rejects WHERE job_id = $1", job
        )
        return [_reject(dict(row)) for row in rows]


async def _run(chunk: Chunk, work: Work) -> None:
    with suppress(Exception):  # the job is left unfinished, which shows
        await chunkrun.run(chunk, work)


def _reject(row: Mapping[str, Any]) -> Reject:
    raw = row["raw_bytes"] or (row["raw"] or "").encode()
    more = math.inf if row["truncated"] else len(raw.splitlines()) - 1
    return Reject(code=row["code"], first_line=row["line"], last_line=row["line"] + max(more, 0))


def _columns(file: Polluted, way: Way) -> str:
    """Return the columns of the table that the file is for."""
    types = TYPES if way.typed else ("text",) * len(file.told.names)
    return ", ".join(f"{quoted(name)} {type_}" for name, type_ in zip(file.told.names, types, strict=True))


async def _create(session: Session, tables: Mapping[str, str]) -> None:
    for table, columns in tables.items():
        await session.execute(f"CREATE UNLOGGED TABLE {table} ({columns})")
