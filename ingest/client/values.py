"""Jobs and rejects as the API shows them (JOB in the API reference). Fields that a newer server adds are in `raw`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

T = TypeVar("T")

FINAL = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it was when the server answered; `raw` is the whole answer."""

    id: UUID
    dataset: str
    filename: str
    status: str
    mode: str
    priority: int
    bytes_total: int | None
    bytes_received: int
    bytes_processed: int
    total_rows: int | None
    processed_rows: int
    inserted_rows: int
    updated_rows: int
    skipped_rows: int
    failed_rows: int
    progress: float
    rows_per_second: float | None
    eta_seconds: float | None
    chunks: Mapping[str, int]
    error: Mapping[str, Any] | None
    parent_id: UUID | None
    sha256: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime
    raw: Mapping[str, Any]

    @property
    def ended(self) -> bool:
        """Whether the job is completed, failed or cancelled."""
        return self.status in FINAL

    @property
    def seconds(self) -> float | None:
        """How long it was loaded; None before it has ended."""
        if self.started_at is None or self.completed_at is None:
            return None
        return (self.completed_at - self.started_at).total_seconds()

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Job:
        """Read JOB. Raises KeyError, TypeError or ValueError when it is none."""
        plain = {name: raw[name] for name in cls.__dataclass_fields__ if name not in CONVERTED and name != "raw"}
        converted = {name: convert(raw[name]) for name, convert in CONVERTED.items()}
        return cls(**plain, **converted, raw=raw)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


CONVERTED: Mapping[str, Callable[[Any], Any]] = {
    "id": UUID,
    "parent_id": lambda text: None if text is None else UUID(text),
    "created_at": _moment,
    "started_at": _moment,
    "completed_at": _moment,
    "updated_at": _moment,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A reason why a record was rejected; `line` is the record's first in the file, `raw` the record as sent."""

    line: int
    byte_offset: int
    column: str | None
    value: str | None
    code: str
    sqlstate: str | None
    message: str
    raw: str | None
    truncated: bool

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Reject:
        """Read a reject. Raises KeyError when it is none."""
        return cls(**{name: raw[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list: its `items`, how many there are in `total`, and the path of the next part, if that is known."""

    items: list[T]
    total: int
    next: str | None = None
