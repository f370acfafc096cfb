"""A batch: a record-aligned stretch of a chunk, the unit of transaction and of in-flight accounting. Pure values."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.chunk import BatchRange, Chunk
from ingest.errors import AccountingError
from ingest.reject import Reject


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch on its way to a writer: the chunk it belongs to, where it lies, and its bytes as they were sent."""

    chunk: Chunk
    range: BatchRange
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch's records. `rejected` counts records; `rejects` may hold several reasons for one."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    rejected: int = 0
    rejects: tuple[Reject, ...] = field(default=())

    def __add__(self, other: BatchResult) -> BatchResult:
        """Return the counts of both together, without the rejects themselves."""
        return BatchResult(
            inserted=self.inserted + other.inserted,
            updated=self.updated + other.updated,
            unchanged=self.unchanged + other.unchanged,
            skipped=self.skipped + other.skipped,
            rejected=self.rejected + other.rejected,
        )

    def check(self, records: int) -> None:
        """Raise AccountingError unless every one of `records` is accounted for exactly once."""
        found = self.inserted + self.updated + self.unchanged + self.skipped + self.rejected
        if found != records:
            raise AccountingError(f"{records} records were read but {found} are accounted for")
