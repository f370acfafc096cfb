"""Admission: the step from a file's header to its job, the same whichever way the bytes come in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol
from uuid import UUID

import structlog
import trio

from ingest.budget import Budget
from ingest.chunk import ChunkCut
from ingest.compression import Compression, compression_of_name
from ingest.cutter import Cutter, Sink
from ingest.datasets import Dataset
from ingest.definitions.newtable import with_sample
from ingest.definitions.positions import names_of, with_hint
from ingest.detecting import Detected
from ingest.dialect import Dialect
from ingest.encodings import UTF_8
from ingest.errors import FileError, IngestError, RequestError
from ingest.header import Header
from ingest.job import JobView, Load, NewJob
from ingest.opening import Opening, expected_by
from ingest.reading.footers import Cuts, FooterCuts
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.splitter import Splitter
from ingest.tableend import TableCuts
from ingest.unpacking import Unpacker
from ingest.uploadoptions import UploadOptions

# How often it is looked whether the worker has caught up with an upload that waits for it.
CATCH_UP_S = 0.1

log = structlog.get_logger("ingest.upload")


class JobRows(Protocol):
    """The part of `ingest.jobs` that an upload writes to."""

    async def create(self, new: NewJob) -> None: ...

    async def add_chunk(self, job_id: UUID, cut: ChunkCut) -> None: ...

    async def backlog(self, job_id: UUID) -> int: ...

    async def touch(self, job_id: UUID, bytes_received: int) -> None: ...

    async def complete_upload(self, job_id: UUID, *, bytes_total: int, sha256: bytes, records: int) -> JobView: ...

    async def receive(self, new: NewJob, cuts: Sequence[ChunkCut], *, sha256: bytes) -> JobView: ...

    async def fail_upload(self, job_id: UUID, error: IngestError) -> None: ...

    async def get(self, job_id: UUID) -> JobView | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an upload goes: the dataset, the queue of its job, what becomes of its bytes, and how many it may have."""

    dataset: Dataset
    ready: Callable[[LoadSpec], Awaitable[LoadSpec]]  # raises when the tables of the dataset cannot take its rows
    queue: str
    sink: Callable[[UUID, bool], Sink]  # given the job, and whether its bytes are those that were sent
    limit_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """What decides about one file: its options, where it goes, and the settings it is cut by."""

    options: UploadOptions
    target: Target
    settings: Settings
    jobs: JobRows

    def opening(self, spec: LoadSpec | None = None) -> Opening:
        """Return what reads the file up to the end of its header; as a `spec` has it, if there is one."""
        options = self.options
        return Opening(
            spec.dialect if spec else options.dialect,
            None if spec else options.told,
            expected_by(self.target.dataset),
            max_record_bytes=self.settings.max_record_bytes,
        )

    def unpacker(self) -> Unpacker:
        """Return what unpacks the file, if it is compressed, within the limits."""
        limit = self.target.limit_bytes
        return Unpacker(
            self.options.compression or compression_of_name(self.options.filename),
            max_bytes=limit,
            max_ratio=None if limit is None else self.settings.max_compression_ratio,
        )

    def plan(self, header: Header, detected: Detected | None) -> LoadSpec:
        """Check the header against the dataset and return how the file is loaded. Raises FileError, RequestError."""
        dialect = detected.dialect if detected else self.options.dialect
        spec = self._planned(header, replace(dialect, encoding=header.encoding))
        written = () if header.written == spec.header else header.written
        spec = replace(spec, written_header=written, max_record_bytes=self.settings.max_record_bytes)
        if detected is None:
            return spec
        return replace(spec, evidence=detected.evidence, pinned_by=detected.options)

    async def new_job(self, job_id: UUID, spec: LoadSpec, *, compression: Compression | None = None) -> NewJob:
        """Check what a plan needs and return the job that may be written.

        Raises RequestError (E_PARENT, E_DATASET_TABLE), DatabaseError.
        """
        options = self.options
        spec = await self.target.ready(spec)
        await self._check_parent(spec.dataset)
        if spec.certainty is not None:
            facts = {"dataset": spec.dataset, "platform": spec.platform, "certainty": spec.certainty}
            log.info("dataset_recognised", job_id=str(job_id), **facts)
        return NewJob(
            id=job_id,
            filename=options.filename,
            spec=spec,
            priority=options.priority,
            bytes_total=options.bytes_total,
            mode=options.mode,
            budget=options.budget or (Budget.parse(spec.max_rejects) if spec.max_rejects else None),
            parent_id=options.parent_id,
            max_stored_rejects=self.settings.max_stored_rejects,
            load=options.load,
            refuse_duplicate=options.refuse_duplicate,
            compression=compression,
            part=options.part,
            caller=options.caller,
            queue=self.target.queue,
        )

    def cutter(
        self,
        job_id: UUID,
        spec: LoadSpec,
        *,
        file_offset: int,
        line: int,
        first_ordinal: int = 1,
        records: int = 0,
        behind: bool = False,
    ) -> Cutter:
        """Return what cuts the file from `file_offset` on, which is where physical line `line` begins.

        `first_ordinal` and `records` are the next chunk's number and what the chunks before it hold; `behind`: the
        table has ended before.
        """
        return Cutter(
            self._cuts(spec, line, behind),
            self.target.sink(job_id, spec.dialect.encoding == UTF_8),
            chunk_bytes=self.settings.chunk_bytes,
            file_offset=file_offset,
            first_line=line,
            first_ordinal=first_ordinal,
            records=records,
            encoding=spec.dialect.encoding,
        )

    def _cuts(self, spec: LoadSpec, line: int, behind: bool) -> Cuts:
        dialect, most = spec.dialect, spec.max_record_bytes
        copied = spec.plan is None and not spec.keyed and dialect.is_native and not dialect.is_lenient
        splitter = Splitter(
            dialect,
            first_line=line,
            single_column=spec.width == 1,
            batch_records=self.settings.batch_records,
            batch_bytes=self.settings.most_batch_bytes(copied=copied),
            max_record_bytes=most,
            width=spec.width,
        )
        cuts: Cuts = splitter
        if dialect.ends_at_header:
            cuts = TableCuts(splitter, dialect, spec.known_header, most, ended=behind)
        return FooterCuts(cuts, dialect, most) if dialect.footer_rows else cuts

    async def keep_pace(self, job_id: UUID, waiting: Callable[[], Awaitable[None]]) -> None:
        """Wait, for a job that is loaded while it is uploaded, until the worker has caught up; calls `waiting` then."""
        if self.options.load is not Load.WHILE_UPLOADING:
            return
        while await self.jobs.backlog(job_id) > self.settings.max_backlog_bytes:
            await trio.sleep(CATCH_UP_S)
            await waiting()

    def _planned(self, header: Header, dialect: Dialect) -> LoadSpec:
        dataset, options = with_sample(self.target.dataset, header, dialect), self.options
        names = names_of(dataset, header, options.dialect, options.told)
        try:
            return dataset.spec(
                [name for name in names if name],  # a column without a name is one to skip
                dialect=dialect,
                parameters=options.parameters,
                resubmission=options.parent_id is not None,
            )
        except FileError as error:
            raise with_hint(error, names, header, dialect) from error

    async def _check_parent(self, dataset: str) -> None:
        parent_id = self.options.parent_id
        if parent_id is None:
            return
        parent = await self.jobs.get(parent_id)
        if parent is None or not self.options.caller.sees(parent.owner):
            raise RequestError(f"parent: there is no job {parent_id}", code="E_PARENT", option="parent")
        if parent.dataset != dataset:
            text = f"parent: job {parent_id} loaded dataset {parent.dataset!r}, but this file is for {dataset!r}"
            raise RequestError(text, code="E_PARENT", option="parent")


def too_large(limit_bytes: int) -> RequestError:
    """Return the refusal of a file with more than `limit_bytes`."""
    text = f"the file is larger than {limit_bytes} bytes (MAX_UPLOAD_BYTES)"
    return RequestError(text, code="E_TOO_LARGE", limit_bytes=limit_bytes)
