"""A job: one uploaded file for one dataset, as values. No I/O here; `ingest.jobs` reads and writes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from ingest.budget import Budget
from ingest.caller import ANYBODY, Caller
from ingest.spec import LoadSpec


class JobState(StrEnum):
    """Where a job stands; the CHECK constraint on ingest.jobs holds the same words."""

    RECEIVING = "receiving"  # bytes still arrive; nothing can be claimed
    PENDING = "pending"  # whole and stored; waits for a worker
    PROCESSING = "processing"  # at least one chunk was claimed
    PAUSED = "paused"  # not claimed until resumed
    COMPLETED = "completed"  # every record is in the table or in the rejects
    FAILED = "failed"  # stopped; error says why, the counts say what is in the table
    CANCELLED = "cancelled"  # stopped by request


DEFAULT_PRIORITY = 5  # of 0 to 9; 9 runs first

# Rejected records of a job that are kept for people to look at; the others are only counted.
MAX_STORED_REJECTS = 100_000

FINAL = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


class JobMode(StrEnum):
    """What of a job can be seen in the target table, and when; ingest.jobs has a CHECK with the same words."""

    BATCHES = "batches"  # each batch as soon as it is committed
    ATOMIC = "atomic"  # nothing before the whole file is in
    VALIDATE = "validate"  # nothing, ever: the job reports what a load would have done


class Load(StrEnum):
    """When the chunks of a job may be claimed; ingest.jobs has a CHECK with the same words."""

    AFTER_UPLOAD = "after_upload"  # when the file is whole and verified: a broken upload leaves nothing
    WHILE_UPLOADING = "while_uploading"  # as soon as they are stored


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPart:
    """Which file of which request with an Idempotency-Key a job is: `key_id` of the key, `number` from 1.

    `fingerprint` is the SHA-256 of what was asked (method, path, options), without the bytes of the file.
    """

    key_id: int
    number: int
    fingerprint: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What is known of a job when its header has been accepted."""

    id: UUID
    filename: str
    spec: LoadSpec
    priority: int
    bytes_total: int | None  # from Content-Length, when the client said it
    mode: JobMode = JobMode.BATCHES
    budget: Budget | None = None
    parent_id: UUID | None = None  # the job whose rejects the file corrects
    max_stored_rejects: int = MAX_STORED_REJECTS
    load: Load = Load.AFTER_UPLOAD
    refuse_duplicate: bool = False  # a file whose bytes were loaded into the dataset before
    compression: str | None = None  # of the file as it is sent: gzip, zstd, bzip2
    part: RequestPart | None = None
    caller: Caller = ANYBODY  # whose job it becomes, and whose limits it counts against
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
    resolved_rows: int
    progress: float
    rows_per_second: float | None
    eta_seconds: float | None
    chunks: dict[str, int]
    error: dict[str, Any] | None
    warnings: list[dict[str, Any]]
    parent_id: UUID | None
    sha256: str | None
    duplicate_of: UUID | None
    compression: str | None
    load: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
    owner: str | None = None
    dialect: dict[str, Any] | None = None
