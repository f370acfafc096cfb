"""What can be set from outside: built once at start, checked as a whole, never changed afterwards.

Each field is annotated with its `Variable`: the name in the environment, what is allowed, and the unit there when it
differs from the field's (a field ending in `_s` holds seconds, also where the variable counts milliseconds).
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ingest.variables import Variable, read, refusal

MIB, GIB = 1 << 20, 1 << 30

# Connections beside one per writer: API queries, poller, janitor, chunk state changes.
SIDE_CONNECTIONS = 8
LARGEST_WRITERS = 64
# `auto` grows to so many where neither pool nor batches are set, and to batches of so much in memory at once.
AUTO_WRITERS, AUTO_BYTES = 16, 64 * MIB
# With fewer than these the service could claim a chunk and then find no connection to renew its lease.
LEAST_SIDE_CONNECTIONS = 4
# A batch that is only copied costs some milliseconds for itself: in large ones a clean file loads a tenth faster. One
# that is merged or rewritten must stay small for memory and caches: an upsert in large ones took twice as long.
COPIED_BYTES, HANDLED_BYTES = 8 * MIB, 2 * MIB


class Settings(BaseModel):
    """Every setting of the service; units are in the names."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    database_url: Annotated[
        str | None, Variable("DATABASE_URL", "postgresql://user:password@host:port/database (unset: embedded)")
    ] = Field(None, repr=False)
    storage_url: Annotated[
        str | None, Variable("STORAGE_URL", "a URL, as file:///var/lib/objects (unset: in INGEST_HOME)")
    ] = Field(None, repr=False)
    data_dir: Annotated[Path, Variable("INGEST_HOME", "a folder for embedded PostgreSQL and chunk objects")] = Path(
        ".ingest"
    )
    batch_records: Annotated[int, Variable("WORKER_BATCH_SIZE", "records, from 1 to 1000000")] = Field(
        50_000, ge=1, le=1_000_000
    )
    batch_bytes: Annotated[int | None, Variable("WORKER_BATCH_BYTES", "bytes, from 1 to 67108864")] = Field(
        None, ge=1, le=64 * MIB
    )
    writers: Annotated[
        int | Literal["auto"] | None, Variable("WORKER_CONCURRENT_BATCHES", "writers, from 1 to 64, or auto")
    ] = None
    concurrent_chunks: Annotated[int, Variable("WORKER_CONCURRENT_CHUNKS", "chunks, from 1 to 64")] = Field(
        2, ge=1, le=64
    )
    poll_interval_s: Annotated[
        float, Variable("WORKER_POLL_INTERVAL", "milliseconds, from 10 to 3600000", per_unit=1000)
    ] = Field(1.0, ge=0.01, le=3600)
    heartbeat_interval_s: Annotated[
        float, Variable("WORKER_HEARTBEAT_INTERVAL", "milliseconds, from 10 to 3600000", per_unit=1000)
    ] = Field(5.0, ge=0.01, le=3600)
    lease_ttl_s: Annotated[
        float,
        Variable("WORKER_LEASE_TTL", "milliseconds, from 3 x WORKER_HEARTBEAT_INTERVAL to 86400000", per_unit=1000),
    ] = Field(20.0, ge=0.03, le=86_400)
    chunk_bytes: Annotated[int, Variable("CHUNK_SIZE", "bytes, from WORKER_BATCH_BYTES to 17179869184")] = Field(
        16 * MIB, ge=1, le=16 * GIB
    )
    max_record_bytes: Annotated[int, Variable("MAX_RECORD_BYTES", "bytes, from 1 to CHUNK_SIZE")] = Field(MIB, ge=1)
    max_upload_bytes: Annotated[int, Variable("MAX_UPLOAD_BYTES", "bytes, from 1")] = Field(
        100 * GIB, ge=1, le=(1 << 63) - 1
    )
    max_stored_rejects: Annotated[
        int, Variable("MAX_STORED_REJECTS", "rejected records kept per job, from 0 to 1000000000")
    ] = Field(100_000, ge=0, le=1_000_000_000)
    max_compression_ratio: Annotated[
        int, Variable("MAX_COMPRESSION_RATIO", "bytes of a compressed file per byte sent, from 1 to 1000000")
    ] = Field(200, ge=1, le=1_000_000)
    max_backlog_bytes: Annotated[
        int, Variable("MAX_BACKLOG_BYTES", "stored bytes that wait for the worker before an upload does, from 1")
    ] = Field(256 * MIB, ge=1, le=(1 << 63) - 1)
    storage_compression: Annotated[Literal["off", "zstd"], Variable("STORAGE_COMPRESSION", "off or zstd")] = "off"
    idempotency_ttl_s: Annotated[float, Variable("IDEMPOTENCY_KEY_TTL", "seconds, from 1 to 31536000")] = Field(
        86_400.0, ge=1, le=31_536_000
    )
    upload_idle_s: Annotated[float, Variable("UPLOAD_IDLE_TIMEOUT", "seconds, more than 0, to 86400")] = Field(
        60.0, gt=0, le=86_400
    )
    upload_life_s: Annotated[float, Variable("UPLOAD_EXPIRY", "seconds, from 1 to 31536000")] = Field(
        86_400.0, ge=1, le=31_536_000
    )
    source_roots: Annotated[tuple[Path, ...], Variable("INGEST_SOURCE_ROOTS", "absolute folders, with commas")] = ()
    database_wait_s: Annotated[
        float, Variable("DATABASE_WAIT", "seconds to wait for the database at the start, from 0 to 86400")
    ] = Field(30.0, ge=0, le=86_400)
    shutdown_grace_s: Annotated[float, Variable("SHUTDOWN_GRACE", "seconds, from 0 to 86400")] = Field(
        25.0, ge=0, le=86_400
    )
    pool_size: Annotated[
        int,
        Variable(
            "DATABASE_POOL_SIZE", f"connections, from WORKER_CONCURRENT_BATCHES + {LEAST_SIDE_CONNECTIONS} to 1000"
        ),
    ] = Field(default_factory=lambda so_far: _most_writers(so_far.get("writers")) + SIDE_CONNECTIONS, le=1000)
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], Variable("LOG_LEVEL", "DEBUG, INFO, WARNING or ERROR")
    ] = "INFO"
    log_format: Annotated[
        Literal["auto", "json", "console"], Variable("LOG_FORMAT", "json, console or auto (console on a tty)")
    ] = "auto"
    host: Annotated[str, Variable("HOST", "an IP address or host name to listen on")] = Field(
        "127.0.0.1", pattern=r"^[^\s/@]+$"
    )
    port: Annotated[int, Variable("PORT", "a TCP port, from 0 (any free one) to 65535")] = Field(8000, ge=0, le=65535)
    datasets_dir: Annotated[Path | None, Variable("INGEST_DATASETS", "a folder with dataset definitions")] = None
    auth: Annotated[Literal["auto", "required", "off"], Variable("INGEST_AUTH", "auto, required or off")] = "auto"
    table_schemas: Annotated[
        tuple[str, ...] | None, Variable("INGEST_TABLE_SCHEMAS", "schemas whose tables may be loaded, with commas")
    ] = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **overrides: object) -> Self:
        """Build the settings from environment variables; an override (a flag, in the field's unit) wins unless None.

        Raises SettingsError with one line that names the variable, its value and what is allowed.
        """
        given = {name: read(environment, variable) for name, variable in variables().items()}
        given |= {name: value for name, value in overrides.items() if value is not None}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value is not None})
        except ValidationError as errors:
            first = errors.errors(include_url=False, include_context=False)[0]
            name = str(first["loc"][0])
            variable = variables().get(name, Variable(name, "known settings only"))
            raw = given.get(name) if overrides.get(name) is not None else environment.get(variable.name)
            # Not chained: pydantic's text repeats the value, and the value may hold a password.
            raise refusal(variable, raw) from None

    @property
    def writer_count(self) -> int:
        """Writers of a worker: as set, else, and for `auto` to begin with, one more than processors if there is room.

        On two processors three load 10 % more than two: there is always one that waits for an answer.
        """
        if isinstance(self.writers, int):
            return self.writers
        return max(1, min(_usual_writers(), self.pool_size - LEAST_SIDE_CONNECTIONS))

    @property
    def most_writers(self) -> int:
        """What the writers of a worker may grow to: for `auto` what pool and memory have room for."""
        if self.writers != "auto":
            return self.writer_count
        room = min(self.pool_size - SIDE_CONNECTIONS, AUTO_BYTES // self.most_batch_bytes(copied=True), LARGEST_WRITERS)
        return max(self.writer_count, room)

    def most_batch_bytes(self, *, copied: bool) -> int:
        """Return after how many bytes a batch ends: as set, else for one that is only `copied`, or one that is not."""
        return self.batch_bytes or min(COPIED_BYTES if copied else HANDLED_BYTES, self.chunk_bytes)

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    @property
    def keys_required(self) -> bool:
        """Whether requests need an API key; else one that is sent is still honoured."""
        return self.auth == "required" or (self.auth == "auto" and not self.on_loopback)

    @property
    def allowed_schemas(self) -> frozenset[str]:
        """Schemas whose tables are datasets by themselves: as set, else `public` on loopback without keys."""
        if self.table_schemas is not None:
            return frozenset(self.table_schemas)
        return frozenset({"public"} if self.on_loopback and self.auth != "required" else ())

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"postgres(ql)?://\S+$", url):
            raise ValueError("not a PostgreSQL URL")
        return url

    @field_validator("writers")
    @classmethod
    def _has_writers(cls, writers: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
        if isinstance(writers, int) and not 1 <= writers <= LARGEST_WRITERS:
            raise ValueError("out of range")
        return writers

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, level: object) -> object:
        return level.upper() if isinstance(level, str) else level

    @field_validator("table_schemas", "source_roots", mode="before")
    @classmethod
    def _split(cls, names: object) -> object:
        return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names

    @field_validator("source_roots")
    @classmethod
    def _are_absolute(cls, folders: tuple[Path, ...]) -> tuple[Path, ...]:
        if not all(folder.is_absolute() for folder in folders):
            raise ValueError("a relative folder")
        return folders

    @field_validator("data_dir", "datasets_dir")
    @classmethod
    def _expand(cls, folder: Path | None) -> Path | None:
        return folder and folder.expanduser()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        checks = (
            ("lease_ttl_s", round(self.lease_ttl_s * 1000) >= 3 * round(self.heartbeat_interval_s * 1000)),
            ("chunk_bytes", self.chunk_bytes >= (self.batch_bytes or 0)),
            ("max_record_bytes", self.max_record_bytes <= self.chunk_bytes),
            ("pool_size", self.pool_size >= self.writer_count + LEAST_SIDE_CONNECTIONS),
        )
        for name, holds in checks:
            if not holds:
                variable = variables()[name]
                raise refusal(variable, round(getattr(self, name) * variable.per_unit))
        return self


def variables() -> dict[str, Variable]:
    """The environment variable of each field, by the field's name."""
    return {
        name: next(note for note in field.metadata if isinstance(note, Variable))
        for name, field in Settings.model_fields.items()
    }


def _usual_writers() -> int:
    return min((os.cpu_count() or 1) + 1, AUTO_WRITERS)


def _most_writers(writers: int | Literal["auto"] | None) -> int:
    return AUTO_WRITERS if writers == "auto" else writers or _usual_writers()
