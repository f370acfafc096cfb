"""A follower cuts what has been acknowledged of a resumable upload, reading it back from the spool.

It never reads past the acknowledged bytes, so its chunks are as safe as they are. Its state is a convenience: whoever
loses it makes another one from the chunk rows, which then reads at most one chunk again. Only the digest has to begin
at the first byte; it catches up by a few blocks at each step.

The chunks of a file that is compressed, or not in UTF-8, cannot lie in its bytes as they were sent. Of such a file the
follower reads the header, so that the job exists and what does not fit is refused early; the rest is for `finishing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import trio

from ingest.admission import Admission
from ingest.chunk import ChunkCut
from ingest.compression import Compression
from ingest.cutter import Cutter
from ingest.encodings import UTF_8
from ingest.header import Header
from ingest.job import Load
from ingest.spec import LoadSpec
from ingest.spool import Spool
from ingest.upload import BLOCK_BYTES
from ingest.uploadjob import Begun, Ending
from ingest.uploadrows import CutSoFar

T = TypeVar("T")

# How much the digest catches up at one step, after a restart: a little more work for each request, a long one for none.
CATCH_UP_BYTES = 16 * BLOCK_BYTES


class Follower:
    """Cuts one upload. One task at a time; after an error or a cancellation it is to be thrown away."""

    def __init__(
        self, job_id: UUID, admission: Admission, so_far: CutSoFar | None, limiter: trio.CapacityLimiter
    ) -> None:
        self.admission = admission
        # What it does, again and again, while it waits for a worker to catch up; None: it does not wait.
        self.waiting: Callable[[], Awaitable[None]] | None = None
        self._job_id = job_id
        self._limiter = limiter
        self._spec: LoadSpec | None = so_far.spec if so_far else None
        self._compression: Compression | None = so_far.compression if so_far else None
        self._ordinal = so_far.ordinal if so_far else 0
        self._at = 0  # all before it is cut, or held by the header reader
        self._unpacker = admission.unpacker()
        self._opening = admission.opening(so_far.spec if so_far else None)
        self._cutter: Cutter | None = None
        self._digest = hashlib.sha256()
        self._digested = 0
        if so_far and so_far.ordinal and self.in_place:
            self._at = so_far.offset
            self._cutter = admission.cutter(
                job_id,
                so_far.spec,
                file_offset=so_far.offset,
                line=so_far.line,
                first_ordinal=so_far.ordinal + 1,
                records=so_far.records,
                behind=so_far.behind,
            )

    @property
    def has_job(self) -> bool:
        """Whether the job is in the database."""
        return self._spec is not None

    @property
    def in_place(self) -> bool:
        """Whether the chunks lie in the bytes as they were sent, as far as is known."""
        return self._compression is None and (self._spec is None or self._spec.dialect.encoding == UTF_8)

    def agrees_with(self, so_far: CutSoFar | None) -> bool:
        """Say whether the database knows of the same job and chunks; else somebody else has cut meanwhile."""
        return (self._spec is not None) == (so_far is not None) and self._ordinal == (so_far.ordinal if so_far else 0)

    async def follow(self, spool: Spool, end: int) -> None:
        """Cut what lies before `end`. The job is written as soon as the header is complete and accepted.

        Raises FileError, RequestError, StorageError, DatabaseError. Cancellation waits for the thread.
        """
        had_job = self.has_job
        while self._at < end and self.in_place:
            await self._step(spool, min(BLOCK_BYTES, end - self._at))
        if self.has_job and not had_job:
            await self.admission.jobs.touch(self._job_id, end)

    async def finish(self, spool: Spool, length: int) -> Ending | None:
        """Cut the file to its end; None when it has to be unpacked for that. Raises what `follow` raises."""
        await self.follow(spool, length)
        if self._cutter is None and self.in_place:
            await self._end_header()
        if self._cutter is None:
            return None
        await self._add(await self._in_thread(self._cutter.finish))
        while self._digested < length:
            await self._in_thread(lambda: self._catch_up(spool, length))
            await self.stay()
        return Ending(records=self._cutter.records, sha256=self._digest.digest())

    async def stay(self) -> None:
        """Raise what `waiting` raises, if there is a reason not to go on."""
        if self.waiting is not None:
            await self.waiting()

    def begun(self) -> Begun:
        """Return the job, for what receives its bytes once more to unpack them."""
        assert self._spec is not None
        return Begun(job_id=self._job_id, spec=self._spec, stay=self.stay)

    async def _step(self, spool: Spool, size: int) -> None:
        cutter = self._cutter
        if cutter is not None:
            await self._add(await self._in_thread(lambda: self._cut(cutter, spool, size)))
            return
        data = await self._in_thread(lambda: spool.read(self._at, size))
        self._at += size
        self._unpacker.feed(data)
        await self._read_header()

    async def _read_header(self) -> bool:
        """Go on to the end of the header, or of the bytes that are there."""
        while True:
            header = await self._in_thread(lambda: self._opening.feed(self._unpacker.next()))
            if header is not None:
                await self._accept(header)
                return True
            if not self._unpacker.more:
                return False
            await self.stay()

    async def _end_header(self) -> None:
        """Accept the header of a file that has ended and holds little more."""
        self._unpacker.finish()
        if not await self._read_header():
            await self._accept(await self._in_thread(self._opening.finish))

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

    async def _accept(self, header: Header) -> None:
        """Write the job, unless an earlier follower did, and cut what came with the header."""
        if self._spec is None:
            await self._create(header)
        assert self._spec is not None
        if not self.in_place:
            return
        cutter = self._cutter = self.admission.cutter(
            self._job_id, self._spec, file_offset=header.end, line=header.next_line
        )
        await self._add(await self._in_thread(lambda: cutter.take(header.rest)))

    async def _create(self, header: Header) -> None:
        compression = self._unpacker.compression
        spec = self.admission.plan(header, self._opening.detected)
        new = await self.admission.new_job(self._job_id, spec, compression=compression)
        if compression is not None or new.spec.dialect.encoding != UTF_8:
            new = replace(new, load=Load.AFTER_UPLOAD)  # nothing of it can be loaded before it is unpacked
        await self.admission.jobs.create(new)
        self._spec, self._compression = new.spec, compression

    async def _add(self, chunks: list[ChunkCut]) -> None:
        for chunk in chunks:
            await self.admission.jobs.add_chunk(self._job_id, chunk)
            self._ordinal = chunk.ordinal
            if self.waiting is not None:
                await self.admission.keep_pace(self._job_id, self.waiting)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
