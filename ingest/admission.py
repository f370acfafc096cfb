"""Admission: the step from a file's header to its job, the same whichever way the bytes come in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Protocol, Self
from uuid import UUID

import structlog
import trio

from ingest.budget import Budget
from ingest.caller import ANYBODY, Caller
from ingest.chunk import ChunkCut
from ingest.compression import Compression
from ingest.cutter import Cutter, Sink
from ingest.datasets import Dataset
from ingest.definitions.newtable import NewTable, with_sample
from ingest.detecting import Detected
from ingest.dialect import Dialect
from ingest.digests import Digest
from ingest.encodings import UTF_8
from ingest.errors import FileError, IngestError, RequestError
from ingest.header import Header, with_delimiter_hint
from ingest.job import JobMode, JobView, Load, NewJob, RequestPart
from ingest.opening import Opening, expected_by
from ingest.reading.fitting import are_values
from ingest.reading.footers import FooterCuts
from ingest.settings import Settings
from ingest.spec import LoadSpec
from ingest.splitter import Splitter

# How often it is looked whether the worker has caught up with an upload that waits for it.
CATCH_UP_S = 0.1
# What is not kept with an upload of many requests.
OF_ONE_REQUEST = ("compression", "digests", "part")

log = structlog.get_logger("ingest.upload")


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadOptions:
    """What the client said about a file. `bytes_total` is None when it did not say how long the file is.

    `parameters` are the values of the dataset's parameters; `parent_id` is the job whose rejects the file corrects.
    `told` are the options that `dialect` was made of, as text: what they leave out is detected; None: nothing is.
    `compression` is what the request says about the body; else the file's name and first bytes tell. `digests` are
    checked at the end, over the bytes as sent. `part` is set for a request with an Idempotency-Key.
    """

    dataset: str
    filename: str
    dialect: Dialect
    priority: int
    bytes_total: int | None
    mode: JobMode = JobMode.BATCHES
    budget: Budget | None = None
    parent_id: UUID | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    told: Mapping[str, str] | None = None
    caller: Caller = ANYBODY
    load: Load = Load.AFTER_UPLOAD
    refuse_duplicate: bool = False
    compression: Compression | None = None
    digests: tuple[Digest, ...] = ()
    part: RequestPart | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the options as they are kept with an upload that may take days; what a single request says is not."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in OF_ONE_REQUEST}
        parent = None if self.parent_id is None else str(self.parent_id)
        budget = None if self.budget is None else asdict(self.budget)
        own = {
            "dialect": self.dialect.to_json(),
            "budget": budget,
            "parent_id": parent,
            "caller": self.caller.to_json(),
        }
        told = None if self.told is None else dict(self.told)
        return {**plain, **own, "parameters": dict(self.parameters), "told": told}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        rest = dict(data)
        dialect, budget, parent = Dialect(**rest.pop("dialect")), rest.pop("budget"), rest.pop("parent_id")
        return cls(
            dialect=dialect,
            budget=None if budget is None else Budget(**budget),
            parent_id=None if parent is None else UUID(parent),
            mode=JobMode(rest.pop("mode")),
            caller=Caller.from_json(rest.pop("caller")),
            load=Load(rest.pop("load")),
            **rest,
        )


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

    def plan(self, header: Header, detected: Detected | None) -> LoadSpec:
        """Check the header against the dataset and return how the file is loaded. Raises FileError, RequestError."""
        dialect = detected.dialect if detected else self.options.dialect
        spec = self._planned(header, replace(dialect, encoding=header.encoding))
        spec = replace(spec, max_record_bytes=self.settings.max_record_bytes)
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
        self, job_id: UUID, spec: LoadSpec, *, file_offset: int, line: int, first_ordinal: int = 1, records: int = 0
    ) -> Cutter:
        """Return what cuts the file from `file_offset` on, which is where physical line `line` begins.

        `first_ordinal` and `records` are the next chunk's number and what the chunks before it hold.
        """
        splitter = Splitter(
            spec.dialect,
            first_line=line,
            single_column=spec.width == 1,
            batch_records=self.settings.batch_records,
            batch_bytes=self.settings.batch_bytes,
            max_record_bytes=spec.max_record_bytes,
            width=spec.width,
        )
        cuts = FooterCuts(splitter, spec.dialect, spec.max_record_bytes) if spec.dialect.footer_rows else splitter
        return Cutter(
            cuts,
            self.target.sink(job_id, spec.dialect.encoding == UTF_8),
            chunk_bytes=self.settings.chunk_bytes,
            file_offset=file_offset,
            first_line=line,
            first_ordinal=first_ordinal,
            records=records,
            encoding=spec.dialect.encoding,
        )

    async def keep_pace(self, job_id: UUID, waiting: Callable[[], Awaitable[None]]) -> None:
        """Wait, for a job that is loaded while it is uploaded, until the worker has caught up; calls `waiting` then."""
        if self.options.load is not Load.WHILE_UPLOADING:
            return
        while await self.jobs.backlog(job_id) > self.settings.max_backlog_bytes:
            await trio.sleep(CATCH_UP_S)
            await waiting()

    def _planned(self, header: Header, dialect: Dialect) -> LoadSpec:
        dataset, options = with_sample(self.target.dataset, header, dialect), self.options
        names = header.names or self._names_of_no_header(dataset, header)
        try:
            return dataset.spec(
                [name for name in names if name],  # a column without a name is one to skip
                dialect=dialect,
                parameters=options.parameters,
                resubmission=options.parent_id is not None,
            )
        except FileError as error:
            raise with_delimiter_hint(error, names, dialect) from error

    def _names_of_no_header(self, dataset: Dataset, header: Header) -> Sequence[str]:
        """Return the dataset's own columns, in their order, for a file without a header.

        That there is none must be sure: the request says so, or some value of the first record can only be one of a
        column that is no text. Else the record is taken for a header that does not fit.
        """
        own, told = dataset.own_names(), self.options.told
        if len(own) != header.width:
            text = f"the file has no header and {header.width} columns: name them with the option columns"
            raise FileError(text, code="E_HEADER_MISMATCH", columns=header.width)
        if isinstance(dataset, NewTable):
            return own
        types = [dataset.read_header(own).types[name] for name in own]
        told_so = told is None or not {"header", "header_rows"}.isdisjoint(told)
        return own if told_so or are_values(header.first, types) else header.first

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
