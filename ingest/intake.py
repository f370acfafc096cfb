"""The bytes of an upload on their way: hashed as they were sent, unpacked, and cut into chunks behind the header.

Synchronous, for use inside worker threads; `ingest.upload` is the asynchronous side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ingest.chunk import ChunkCut
from ingest.compression import Compression
from ingest.cutter import Cutter
from ingest.digests import Digest, Hashes
from ingest.header import Header
from ingest.opening import Opening
from ingest.splitter import Block
from ingest.unpacking import Unpacker

# What a step has found: the header, or chunks, or nothing yet.
Found = Header | list[ChunkCut] | None

# A block of so many bytes is hashed in a thread of its own while it is cut: hashing is half of the work.
BESIDE_BYTES = 256 * 1024

# A file that is announced to be no longer is taken in at once, in one crossing into a thread and one statement. When
# its client falls silent, or leaves, it becomes a job like any other.
WHOLE_BYTES = 256 * 1024


def is_small(length: int | None, *, chunk_bytes: int) -> bool:
    """Say whether a file of an announced length is taken in at once."""
    return length is not None and length <= min(WHOLE_BYTES, chunk_bytes)


class Intake:
    """One file. `take` each block of it, then `take_piece` while there is `more`; when the header is found, `begin`.

    `settled`: the chunks that are returned are durable, not only on their way to the disk. Each raises FileError,
    RequestError (E_DECOMPRESSED_LIMIT) and StorageError; then `discard` is all that is left.
    """

    def __init__(
        self,
        opening: Opening,
        unpacker: Unpacker,
        digests: Sequence[Digest],
        *,
        settled: bool = False,
    ) -> None:
        self._opening = opening
        self._unpacker = unpacker
        self._hashes = Hashes(digests)
        self._beside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hash")
        self._settled = settled
        self._cutter: Cutter | None = None

    @property
    def begun(self) -> bool:
        """Whether the header is behind us."""
        return self._cutter is not None

    @property
    def more(self) -> bool:
        """Whether `take_piece` has something to do."""
        return self._unpacker.more

    @property
    def compression(self) -> Compression | None:
        """How the file is compressed."""
        return self._unpacker.compression

    @property
    def records(self) -> int:
        """Records in the chunks so far."""
        return self._cutter.records if self._cutter else 0

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of the bytes so far, as they were sent."""
        return self._hashes.sha256

    def take_whole(self, file: Block, cutter_for: Callable[[Header], Cutter]) -> list[ChunkCut] | None:
        """Take all bytes of a file at once; returns its chunks, all durable.

        None for a compressed file, of which the bytes were only taken: go on with `take_piece`. Raises what the steps
        raise, and what `cutter_for` does.
        """
        self._hashes.update(file)
        self._unpacker.feed(file)
        if self._unpacker.compression is not None:
            return None
        self._unpacker.finish()
        header = self._opening.feed(self._unpacker.next())
        if header is None:
            header = self._opening.finish()
            chunks = self.begin(header, cutter_for(header))
        else:
            chunks = self.begin(header, cutter_for(header)) + self._rest()
        return chunks + self.finish()

    def take(self, blocks: Sequence[Block]) -> Found:
        """Take the next bytes as they were sent, and what they hold first."""
        if sum(map(len, blocks)) < BESIDE_BYTES:
            self._hashes.update(*blocks)
            return self._take(blocks)
        hashing = self._beside.submit(self._hashes.update, *blocks)
        try:
            return self._take(blocks)
        finally:
            hashing.result()

    def take_piece(self) -> Found:
        """Go on with what the last blocks hold."""
        piece = self._unpacker.next()
        if self._cutter is None:
            return self._opening.feed(piece)
        chunks = self._cut(self._cutter, self._opening.text(piece))
        while self._unpacker.more and self._unpacker.compression is None:
            chunks += self._cut(self._cutter, self._opening.text(self._unpacker.next()))
        return chunks

    def begin(self, header: Header, cutter: Cutter) -> list[ChunkCut]:
        """Cut what comes after the header; returns what the bytes behind it are enough for."""
        self._cutter = cutter
        return self._cut(cutter, header.rest)

    def end(self) -> Found:
        """Say that all bytes were taken; go on with the last of them. A compressed file must end here."""
        self._unpacker.finish()
        return self.take_piece()

    def end_text(self) -> Found:
        """Say that `end` was followed to where there is no more; the last bytes may be no whole character."""
        return None if self._cutter is None else self._rest()

    def end_header(self) -> Header:
        """Return the header of a file that has ended and holds little more."""
        return self._opening.finish()

    def finish(self) -> list[ChunkCut]:
        """Return the last chunk, if there is one, all durable; the bytes are those of the client's digests."""
        chunks = self._cutter.finish() if self._cutter else []
        self._hashes.check()
        self._beside.shutdown()
        return chunks

    def discard(self) -> None:
        """Give up the chunk that is not sealed."""
        self._beside.shutdown()
        if self._cutter is not None:
            self._cutter.discard()

    def _take(self, blocks: Sequence[Block]) -> Found:
        for block in blocks:
            self._unpacker.feed(block)
        return self.take_piece()

    def _rest(self) -> list[ChunkCut]:
        assert self._cutter is not None
        return self._cut(self._cutter, self._opening.text(b"", ended=True))

    def _cut(self, cutter: Cutter, piece: Block) -> list[ChunkCut]:
        chunks = cutter.take(piece)
        if chunks and self._settled:
            cutter.settle()
        return chunks
