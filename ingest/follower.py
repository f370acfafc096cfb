"""A follower cuts what has been acknowledged of a resumable upload, reading it back from the spool.

It never reads past the acknowledged bytes, so its chunks are as safe as they are. Its state is a convenience: whoever
loses it makes another one from the chunk rows, which then reads at most one chunk again. Only the digest has to begin
at the first byte; it catches up by a few blocks at each step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import trio

from ingest.admission import Admission
from ingest.chunk import ChunkCut
from ingest.compression import MAGIC_BYTES, Compression, compression_of_bytes
from ingest.cutter import Cutter
from ingest.encodings import UTF_8
from ingest.errors import FileError
from ingest.header import Header
from ingest.spec import LoadSpec
from ingest.spool import Spool
from ingest.upload import BLOCK_BYTES
from ingest.uploadrows import CutSoFar

T = TypeVar("T")

# How much the digest catches up at one step, after a restart: a little more work for each request, a long one for none.
CATCH_UP_BYTES = 16 * BLOCK_BYTES


def check_not_compressed(compression: Compression | None) -> None:
    """Raise FileError (E_COMPRESSED) for a file that is: its chunks cannot lie in the bytes as they were sent."""
    if compression is not None:
        text = (
            f"a file compressed with {compression} cannot be uploaded resumably; send it with PUT /upload/{{filename}}"
        )
        raise FileError(text, code="E_COMPRESSED")


def check_encoding(encoding: str) -> None:
    """Raise FileError (E_ENCODING) for a file that is not in UTF-8: its chunks cannot lie in the bytes either."""
    if encoding != UTF_8:
        text = f"a file in {encoding} cannot be uploaded resumably; send it with PUT /upload/{{filename}}"
        raise FileError(text, code="E_ENCODING")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What is known of a file when all of it is cut."""

    records: int
    sha256: bytes


class Follower:
    """Cuts one upload. One task at a time; after an error or a cancellation it is to be thrown away."""

    def __init__(
        self, job_id: UUID, admission: Admission, so_far: CutSoFar | None, limiter: trio.CapacityLimiter
    ) -> None:
        # What it does, again and again, while it waits for a worker to catch up; None: it does not wait.
        self.waiting: Callable[[], Awaitable[None]] | None = None
        self._job_id = job_id
        self._admission = admission
        self._limiter = limiter
        self._spec: LoadSpec | None = so_far.spec if so_far else None
        self._ordinal = so_far.ordinal if so_far else 0
        self._at = 0  # all before it is cut, or held by the header reader
        self._opening = admission.opening(so_far.spec if so_far else None)
        self._cutter: Cutter | None = None
        self._digest = hashlib.sha256()
        self._digested = 0
        if so_far and so_far.ordinal:
            self._at = so_far.offset
            self._cutter = admission.cutter(
                job_id,
                so_far.spec,
                file_offset=so_far.offset,
                line=so_far.line,
                first_ordinal=so_far.ordinal + 1,
                records=so_far.records,
            )

    @property
    def has_job(self) -> bool:
        """Whether the job is in the database."""
        return self._spec is not None

    def agrees_with(self, so_far: CutSoFar | None) -> bool:
        """Say whether the database knows of the same job and chunks; else somebody else has cut meanwhile."""
        return (self._spec is not None) == (so_far is not None) and self._ordinal == (so_far.ordinal if so_far else 0)

    async def follow(self, spool: Spool, end: int) -> None:
        """Cut what lies before `end`. The job is written as soon as the header is complete and accepted.

        Raises FileError, RequestError, StorageError, DatabaseError. Cancellation waits for the thread.
        """
        had_job = self.has_job
        while self._at < end:
            await self._step(spool, min(BLOCK_BYTES, end - self._at))
        if self.has_job and not had_job:
            await self._admission.jobs.touch(self._job_id, end)

    async def finish(self, spool: Spool, length: int) -> Ending:
        """Cut the file to its end. Raises what `follow` raises."""
        await self.follow(spool, length)
        cutter = self._cutter or await self._accept(self._opening.finish())
        await self._add(await self._in_thread(cutter.finish))
        while self._digested < length:
            await self._in_thread(lambda: self._catch_up(spool, length))
        return Ending(records=cutter.records, sha256=self._digest.digest())

    async def _step(self, spool: Spool, size: int) -> None:
        cutter = self._cutter
        if cutter is not None:
            await self._add(await self._in_thread(lambda: self._cut(cutter, spool, size)))
            return
        data = await self._in_thread(lambda: spool.read(self._at, size))
        self._at += size
        start = data if self._at == size else await self._in_thread(lambda: spool.read(0, min(MAGIC_BYTES, self._at)))
        check_not_compressed(compression_of_bytes(start))
        if header := self._opening.feed(data):
            await self._accept(header)

    def _cut(self, cutter: Cutter, spool: Spool, size: int) -> list[ChunkCut]:
        data = spool.read(self._at, size)
        self._at += size
        if self._digested == self._at - size:
            self._digest.update(data)
            self._digested = self._at
        else:
            self._catch_up(spool, self._at)
        return cutter.take(data)

    def _catch_up(self, spool: Spool, end: int) -> None:
        stop = min(end, self._digested + CATCH_UP_BYTES)
        while self._digested < stop:
            data = spool.read(self._digested, min(BLOCK_BYTES, stop - self._digested))
            self._digest.update(data)
            self._digested += len(data)

    async def _accept(self, header: Header) -> Cutter:
        """Write the job, unless an earlier follower did, and cut what came with the header."""
        if self._spec is None:
            new = await self._admission.new_job(self._job_id, self._admission.plan(header, self._opening.detected))
            check_encoding(new.spec.dialect.encoding)
            await self._admission.jobs.create(new)
            self._spec = new.spec
        cutter = self._cutter = self._admission.cutter(
            self._job_id, self._spec, file_offset=header.end, line=header.next_line
        )
        await self._add(await self._in_thread(lambda: cutter.take(header.rest)))
        return cutter

    async def _add(self, chunks: list[ChunkCut]) -> None:
        for chunk in chunks:
            await self._admission.jobs.add_chunk(self._job_id, chunk)
            self._ordinal = chunk.ordinal
            if self.waiting is not None:
                await self._admission.keep_pace(self._job_id, self.waiting)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
