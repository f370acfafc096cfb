"""A job: one uploaded file for one dataset, as values. No I/O here; `ingest.jobs` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from ingest.dialect import PARSER_VERSION, Dialect


class JobState(StrEnum):
    """Where a job stands; the CHECK constraint on ingest.jobs holds the same words."""

    RECEIVING = "receiving"  # bytes still arrive; nothing can be claimed
    PENDING = "pending"  # whole and stored; waits for a worker
    PROCESSING = "processing"  # at least one chunk was claimed
    PAUSED = "paused"  # not claimed until resumed
    COMPLETED = "completed"  # every record is in the table or in the rejects
    FAILED = "failed"  # stopped; error says why, the counts say what is in the table
    CANCELLED = "cancelled"  # stopped by request


FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of the file, in file order: the target column it goes to and that column's PostgreSQL type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSpec:
    """All a worker needs to know to load a job's bytes; pinned in the job when its header has been read.

    `keyed`: a key or a reference to the table itself looks at the loaded columns, so that the order of records matters.
    """

    dataset: str
    schema: str
    table: str
    columns: tuple[Column, ...]
    dialect: Dialect
    keyed: bool = False
    parser_version: int = PARSER_VERSION

    def to_json(self) -> dict[str, Any]:
        """Return the spec as the jsonb stored in ingest.jobs.spec."""
        return {
            "dataset": self.dataset,
            "schema": self.schema,
            "table": self.table,
            "columns": [[c.name, c.type] for c in self.columns],
            "dialect": self.dialect.to_json(),
            "keyed": self.keyed,
            "parser_version": self.parser_version,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LoadSpec:
        """Read back what `to_json` wrote."""
        return cls(
            dataset=data["dataset"],
            schema=data["schema"],
            table=data["table"],
            columns=tuple(Column(name=n, type=t) for n, t in data["columns"]),
            dialect=Dialect(**data["dialect"]),
            keyed=data["keyed"],
            parser_version=data["parser_version"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is known of a job when its header has been accepted."""

    id: UUID
    filename: str
    spec: LoadSpec
    priority: int
    bytes_total: int | None  # from Content-Length, when the client said it
    queue: str = "default"  # `ingest load` uses a queue of its own, so that no other worker takes the job


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as the API shows it; field names are the contract (JOB in the API reference)."""

    id: UUID
    dataset: str
    filename: str
    status: JobState
    mode: str
    priority: int
    bytes_total: int | None
    bytes_received: int
    bytes_processed: int
    total_rows: int | None
    processed_rows: int
    inserted_rows: int
    updated_rows: int
    unchanged_rows: int
    skipped_rows: int
    failed_rows: int
    progress: float
    rows_per_second: float | None
    eta_seconds: float | None
    chunks: dict[str, int]
    error: dict[str, Any] | None
    parent_id: UUID | None
    sha256: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
