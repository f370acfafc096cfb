"""A batch: a record-aligned stretch of a chunk, the unit of transaction and of in-flight accounting. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ingest.bits import Offsets
from ingest.chunk import BatchRange, Chunk
from ingest.errors import AccountingError
from ingest.reading.records import Records
from ingest.reject import Reject


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch on its way to a writer: the chunk it belongs to, where it lies, and its bytes as they were sent."""

    chunk: Chunk
    range: BatchRange
    data: bytes
    source: Source | None = None  # if the bytes are not those of the chunk
    is_all: bool = False  # of its chunk, which was not tried before: its transaction may finish the chunk
    is_plain: bool | None = None  # COPY reads the bytes as they are meant; None: nobody has looked yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where the records of a rewritten batch came from: record number i begins at `start[i]` of it.

    `where` they are in `batch`, as it was stored; `faults`: the number of a field and what is wrong with it, for the
    records that are none.
    """

    batch: Batch
    where: Records
    start: Offsets
    faults: Mapping[int, tuple[int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """What became of a batch's records. `rejected` counts records; `rejects` may hold several reasons for one.

    `repeated` of the others had the key of another record of the batch, as far as that was looked at.
    `finished`: the batch's transaction has finished its chunk, too.
    """

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    skipped: int = 0
    rejected: int = 0
    repeated: int = 0
    rejects: tuple[Reject, ...] = field(default=())
    finished: bool = False

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
