"""Turns the bytes after a file's header into chunks: splitter, batch boundaries, and where the bytes are to be found.

Synchronous, for use inside worker threads. Two sinks know what becomes of the bytes: one stores them as objects, the
other only refers to where they lie already.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol
from uuid import UUID

from ingest.chunk import ChunkCut
from ingest.encodings import UTF_8
from ingest.objectkeys import chunk_key
from ingest.objects import ObjectWriter
from ingest.packing import PackedWriter
from ingest.reading.batches import BatchCut
from ingest.reading.footers import Cuts
from ingest.reading.transcoding import SentOffsets
from ingest.splitter import Block
from ingest.storage import Storage


class Sink(Protocol):
    """Where the bytes of chunks go, one chunk after the other."""

    def write(self, data: memoryview, ordinal: int) -> None:
        """Take the next bytes of chunk `ordinal`."""

    def seal(self, file_offset: int) -> tuple[str, int]:
        """End the chunk that began at `file_offset`; return the key of the object it is in, and its offset there."""

    def settle(self) -> None:
        """Return when every sealed chunk is durable."""

    def finish(self) -> None:
        """The same, and take no more."""

    def drop(self) -> None:
        """Give up the chunk that is not sealed, if there is one; the next one may follow."""

    def discard(self) -> None:
        """Give up the chunk that is not sealed, and take no more."""


class ObjectSink:
    """Stores each chunk as an object of its own. Raises StorageError from each method.

    A sealed object goes to the disk while the next one is written: waiting for it took a third of an upload's time.
    At most one is on its way, so a slow disk still slows the upload down. The last one has nothing to be beside.
    """

    def __init__(self, storage: Storage, job_id: UUID, *, packed: bool = False) -> None:
        self._storage = storage
        self._packed = packed
        self._job_id = job_id
        self._key = ""
        self._writer: ObjectWriter | PackedWriter | None = None
        self._sealer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="seal")
        self._complete: ObjectWriter | PackedWriter | None = None  # to be sealed beside what comes next
        self._sealing: Future[None] | None = None

    def write(self, data: memoryview, ordinal: int) -> None:
        """Append to the object of the chunk, which its first bytes create."""
        if self._writer is None:
            self._begin_sealing()
            self._key = chunk_key(self._job_id, ordinal, packed=self._packed)
            self._writer = self._storage.create(self._key)
        self._writer.write(data)

    def seal(self, file_offset: int) -> tuple[str, int]:
        """End the object; it is made durable beside the next one, once its predecessor is."""
        self._await_sealing()
        self._complete, self._writer = self._writer, None
        return self._key, 0

    def settle(self) -> None:
        """Return when every sealed object is durable."""
        self._await_sealing()

    def finish(self) -> None:
        """Return when every object is durable."""
        self._await_sealing()
        self._sealer.shutdown()

    def drop(self) -> None:
        """Remove the object that is not sealed."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.discard()

    def discard(self) -> None:
        """Remove what is not sealed; an object that is being sealed is waited for."""
        self._sealer.shutdown()
        complete, self._complete = self._complete, None
        if complete is not None:
            complete.discard()
        self.drop()

    def _begin_sealing(self) -> None:
        complete, self._complete = self._complete, None
        if complete is not None:
            self._sealing = self._sealer.submit(complete.seal)

    def _await_sealing(self) -> None:
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            sealing.result()
        complete, self._complete = self._complete, None
        if complete is not None:
            complete.seal()


class InPlaceSink:
    """Stores nothing: the chunks are stretches of the one object, or local file, that holds the bytes already."""

    def __init__(self, key: str) -> None:
        self._key = key

    def write(self, data: memoryview, ordinal: int) -> None:
        """Do nothing: the bytes are where they belong."""

    def seal(self, file_offset: int) -> tuple[str, int]:
        """Return the key, and the offset as it is."""
        return self._key, file_offset

    def settle(self) -> None:
        """Do nothing: the file is there."""

    def finish(self) -> None:
        """Do nothing: whoever stored the bytes has made them durable."""

    def drop(self) -> None:
        """Do nothing: nothing was stored."""

    def discard(self) -> None:
        """Do nothing: nothing was stored."""


class Cutter:
    """Cuts the stream after the header into chunks of at least `chunk_bytes`, each ending with a batch.

    `file_offset` and `first_line` are where the stream begins in the file. A stretch without a record is no chunk.
    `first_ordinal` is the number of the next chunk, `records` what the chunks before it hold. `encoding`: in which the
    file was sent; the stream is UTF-8.
    """

    def __init__(
        self,
        splitter: Cuts,
        sink: Sink,
        *,
        chunk_bytes: int,
        file_offset: int,
        first_line: int,
        first_ordinal: int = 1,
        records: int = 0,
        encoding: str = UTF_8,
    ) -> None:
        self.records = records
        self._sent = None if encoding == UTF_8 else SentOffsets(encoding, file_offset)
        self._splitter = splitter
        self._sink = sink
        self._chunk_bytes = chunk_bytes
        self._file_offset = file_offset
        self._line = first_line  # of the first byte of the open chunk
        self._ordinal = first_ordinal
        self._start = 0  # stream offset where the open chunk begins
        self._written = 0  # stream offset up to which the sink has the bytes
        self._batches: list[BatchCut] = []

    def take(self, block: Block) -> list[ChunkCut]:
        """Take the next bytes of the stream; return the chunks that are complete with them, durable soon.

        Raises FileError from the splitter and StorageError from the sink, after which `discard` is all that is left.
        """
        begin, view = self._written, memoryview(block)
        chunks = []
        if self._sent is not None:
            self._sent.take(block)
        for cut in self._splitter.feed(block):
            self._batches.append(cut)
            # A batch that was held back may end before what the sink has already; a later one ends the chunk then.
            if cut.end - self._start >= self._chunk_bytes and cut.end >= self._written:
                self._write(view[self._written - begin : cut.end - begin])
                chunks += self._seal()
        self._write(view[self._written - begin :])
        return chunks

    def finish(self) -> list[ChunkCut]:
        """End the stream; return the last chunk, if there is one, all durable. Raises what `take` raises."""
        self._batches += self._splitter.finish()
        chunks = self._seal() if self._batches else []
        if not chunks:
            self._sink.drop()  # what was written behind the last batch is no record
        self._sink.finish()
        return chunks

    def settle(self) -> None:
        """Return when the chunks that were returned are durable. Raises StorageError."""
        self._sink.settle()

    def discard(self) -> None:
        """Give up the chunk that is not sealed. Raises StorageError."""
        self._sink.discard()

    def _write(self, data: memoryview) -> None:
        if data.nbytes:
            self._sink.write(data, self._ordinal)
            self._written += data.nbytes

    def _seal(self) -> list[ChunkCut]:
        """Close the open chunk, which ends with its last batch."""
        batches, start, line = self._batches, self._start, self._line
        offsets = [] if self._sent is None else [self._sent.up_to(batch.end) for batch in batches]
        self._batches, self._start = [], batches[-1].end
        self._line += sum(batch.lines for batch in batches)
        records = sum(batch.records for batch in batches)
        if not records:
            self._sink.drop()
            return []
        self.records += records
        sent_from = offsets[0] if offsets else self._file_offset + start
        starts = [start, *(batch.end for batch in batches)]
        table_end = next((begin - start for begin, batch in zip(starts, batches, strict=False) if batch.behind), None)
        key, offset = self._sink.seal(sent_from)
        self._ordinal += 1
        return [
            ChunkCut(
                ordinal=self._ordinal - 1,
                offsets=offsets,
                object_key=key,
                object_offset=offset,
                length_bytes=self._start - start,
                file_offset=sent_from,
                first_line=line,
                ends=[batch.end - start for batch in batches],
                records=[batch.records for batch in batches],
                lines=[batch.lines for batch in batches],
                blank_lines=[batch.blank_lines for batch in batches],
                table_end=table_end,
            )
        ]
