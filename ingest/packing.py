"""Chunk objects that are stored compressed: written as one zstd frame, read from the front.

All offsets are of the bytes inside, so that ledger and batches know nothing of it. An object is compressed when its key
says so (`.zst`), whatever the setting is by now. Blocks on the disk, as `ingest.objects` does.
"""

from __future__ import annotations

from backports import zstd

from ingest.errors import SourceChanged
from ingest.objects import LocalReader, ObjectWriter

PACKED = ".zst"

# The fastest levels cost less time than they save on most disks; higher ones gain little on CSV.
LEVEL = 1

# What is read from the disk at once, and how much of what is not wanted is held while it is passed over.
PIECE_BYTES = 256 * 1024


class PackedWriter:
    """An object that is compressed on its way to the disk; as `ObjectWriter`, `size` is what is stored."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer
        options: dict[int, int] = {
            zstd.CompressionParameter.compression_level: LEVEL,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        self._compressor = zstd.ZstdCompressor(options=options)

    @property
    def size(self) -> int:
        """Bytes stored so far."""
        return self._writer.size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        self._writer.write(self._compressor.compress(data))

    def seal(self) -> None:
        """Make the object appear under its key, durable and read-only."""
        self._writer.write(self._compressor.flush())
        self._writer.seal()

    def discard(self) -> None:
        """Remove what was written; does nothing once sealed or discarded."""
        self._writer.discard()


class PackedReader:
    """An open object that is compressed. Raises SourceChanged when it is damaged, else what `LocalReader` raises.

    Reading forwards costs each byte once; going back begins at the front again.
    """

    def __init__(self, reader: LocalReader) -> None:
        self._reader = reader
        self._begin()

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly the bytes [offset, offset + length) of what is inside."""
        if offset < self._offset:
            self._begin()
        while self._offset < offset:
            self._take(min(offset - self._offset, PIECE_BYTES))
        data = bytearray()
        while len(data) < length:
            data += self._take(length - len(data))
        return bytes(data)

    def close(self) -> None:
        """Close the file; no read may be under way."""
        self._reader.close()

    def _begin(self) -> None:
        self._frame = zstd.ZstdDecompressor()
        self._packed_offset = 0  # up to where the object was given to the frame
        self._offset = 0  # how much came out of it

    def _take(self, most_bytes: int) -> bytes:
        """Return the next bytes, any number of them up to `most_bytes`, perhaps none yet."""
        packed = b""
        if self._frame.eof:
            raise SourceChanged("a stored chunk ends before its records do")
        if self._frame.needs_input:
            packed = self._reader.read_some(self._packed_offset, PIECE_BYTES)
            if not packed:
                raise SourceChanged("a stored chunk ends before its records do")
            self._packed_offset += len(packed)
        try:
            data = self._frame.decompress(packed, most_bytes)
        except zstd.ZstdError as error:
            raise SourceChanged("a stored chunk is damaged") from error
        self._offset += len(data)
        return data
