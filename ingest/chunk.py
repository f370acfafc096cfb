"""A chunk: a record-aligned stretch of the file, the unit that workers claim, retry and report. Pure values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from uuid import UUID

from ingest.job import JobMode
from ingest.spec import LoadSpec


class ChunkState(StrEnum):
    """Where a chunk stands; the CHECK constraint on ingest.chunks holds the same words."""

    RECEIVING = "receiving"  # stored, but its upload is not complete: nobody may claim it
    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRange:
    """Where a batch lies: bytes [start, end) of the chunk, its first physical line in the file, its records.

    `lines` are the physical lines of the range, `blank_lines` those of them that are no records (only line ends, or
    comments). `offset` is where it begins in the file as it was sent. `behind`: it lies behind the end of the
    table, and all of its records are rejected.
    """

    start: int
    end: int
    first_line: int
    records: int
    lines: int
    blank_lines: int
    offset: int = field(default=0, compare=False)
    behind: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkCut:
    """A finished chunk as receiving describes it to the queue: where its bytes are and where its batches end.

    `file_offset` counts bytes of the file as it was sent. The sequences are parallel, one entry a batch: `ends` are
    byte offsets within the chunk, `records` the batch's record count, `lines` its physical lines, `blank_lines` those
    of them that are no records; `offsets`, where the batch begins in the file as it was sent, are only there if the
    chunk's bytes are not those that were sent. `table_end` is the byte offset within the chunk where the table ends and
    another one begins, 0 in the chunks after it, None in those before.
    """

    ordinal: int
    object_key: str
    object_offset: int
    length_bytes: int
    file_offset: int
    first_line: int
    ends: Sequence[int]
    records: Sequence[int]
    lines: Sequence[int]
    blank_lines: Sequence[int]
    offsets: Sequence[int] = ()
    table_end: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk that this worker has claimed; `epoch` is the fence that every write about it must carry."""

    id: int
    job_id: UUID
    epoch: int
    attempt: int
    spec: LoadSpec
    cut: ChunkCut
    mode: JobMode = JobMode.BATCHES
    parent_id: UUID | None = None  # the job whose rejects the file corrects
    max_stored_rejects: int = 0  # of the job; only a load as a whole counts them by itself
    has_budget: bool = False  # its job may end because of too many rejects

    def ranges(self) -> Iterator[BatchRange]:
        """Yield the chunk's batches in file order."""
        start, line = 0, self.cut.first_line
        cut = self.cut
        counts = zip(cut.ends, cut.records, cut.lines, cut.blank_lines, strict=True)
        for i, (end, records, lines, blanks) in enumerate(counts):
            offset = cut.offsets[i] if cut.offsets else cut.file_offset + start
            behind = cut.table_end is not None and start >= cut.table_end
            yield BatchRange(
                start=start,
                end=end,
                first_line=line,
                records=records,
                lines=lines,
                blank_lines=blanks,
                offset=offset,
                behind=behind,
            )
            start, line = end, line + lines
