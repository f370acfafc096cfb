"""Compressed files, unpacked while they arrive: gzip, zstd and bzip2, in one or many members. Pure, bytes to bytes.

Output is made in pieces of bounded size, so that a few KB that stand for gigabytes cost no more memory than any other
file, and no more time than the limits allow.
"""

from __future__ import annotations

import bz2
import zlib
from collections import deque
from typing import Protocol

from backports import zstd

from ingest.compression import MAGIC_BYTES, Compression, compression_of_bytes
from ingest.errors import FileError, RequestError
from ingest.splitter import Block

# The most that one call of `next` returns.
PIECE_BYTES = 1024 * 1024

# What a decompressor is given at once. It hands back a copy of what follows a member, which for a file of nothing but
# tiny members would be the rest of the block each time.
SLICE_BYTES = 16 * 1024

# Below this much output the ratio says nothing: a small file of zeros is no attack.
GRACE_BYTES = 16 * 1024 * 1024

# Empty members in a row; tools write one at the end of a file, or beside each that is not empty.
MAX_EMPTY_MEMBERS = 100

# The window that a zstd frame may ask for, as a power of two: the 8 MiB that RFC 9659 allows on the web.
WINDOW_LOG = 23


def unpacked_start(data: bytes) -> bytes:
    """Return what the beginning of a file holds, at most PIECE_BYTES of it. Raises FileError (E_COMPRESSED)."""
    compression = compression_of_bytes(data[:MAGIC_BYTES])
    if compression is None:
        return data
    unpacker = Unpacker(compression, max_bytes=None, max_ratio=None)
    unpacker.feed(data)
    return bytes(unpacker.next())


class Member(Protocol):
    """One member (or frame, or stream) of a compressed file, as the libraries read it."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Gzip:
    """A member of a gzip file. zlib checks its length and CRC."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        """Whether the member is complete."""
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        """What followed the member."""
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return at most `max_length` bytes; `needs_input` is False while there may be more without new input."""
        out = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self.needs_input = not self._stream.unconsumed_tail and len(out) < max_length
        return out


def _zstd() -> Member:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: WINDOW_LOG})


MEMBERS = {Compression.GZIP: Gzip, Compression.ZSTD: _zstd, Compression.BZIP2: bz2.BZ2Decompressor}
# What the libraries raise about bytes that they cannot read.
DAMAGED = (zlib.error, OSError, EOFError, ValueError, zstd.ZstdError)


class Unpacker:
    """The bytes of a file as they are inside it. `compression` is as declared, or as the first bytes show.

    `feed` and `finish`, each followed by `next` until `more` is False, before the next `feed`. At most `max_bytes` come
    out, and not more than `max_ratio` times what came in; None is no limit. `next` raises FileError (E_COMPRESSED) for
    damaged, truncated or other data, RequestError (E_DECOMPRESSED_LIMIT) over a limit; then it is of no more use.
    """

    def __init__(self, declared: Compression | None, *, max_bytes: int | None, max_ratio: int | None) -> None:
        self.compression = declared
        self.bytes_in = 0
        self.bytes_out = 0
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._plain = deque[Block]()  # what was fed, of a file that is not compressed
        self._input = bytearray()
        self._at = 0  # up to where a member has taken the input
        self._ended = False
        self._decided = declared is not None
        self._member: Member | None = None
        self._members = 0
        self._member_bytes = 0  # that came out of the last one
        self._empty_members = 0

    @property
    def more(self) -> bool:
        """Whether `next` has something to do before it needs more input."""
        if self._plain or (self._member is not None and not (self._member.eof or self._member.needs_input)):
            return True
        return self._at < len(self._input) and (self._decided or self._ended)

    def feed(self, data: Block) -> None:
        """Take the next bytes of the file as it was sent; they must not change any more."""
        self.bytes_in += len(data)
        if self._decided and self.compression is None:
            if len(data):
                self._plain.append(data)
            return
        if self._at:
            del self._input[: self._at]
            self._at = 0
        self._input += data
        if not self._decided and (len(self._input) >= MAGIC_BYTES or self._ended):
            self._decide()

    def finish(self) -> None:
        """Say that all bytes have been fed."""
        self._ended = True
        self.feed(b"")

    def next(self) -> Block:
        """Return the next bytes of the file inside: at most PIECE_BYTES, or what was fed at once if not compressed."""
        if not self._decided:
            return b""
        if self.compression is None:
            block = self._plain.popleft() if self._plain else b""
            self.bytes_out += len(block)
            return block
        piece = self._unpack(self.compression)
        self.bytes_out += len(piece)
        self._check_limits()
        if self._ended and not self.more and (self._member is None or not self._member.eof):
            raise self._damaged("it ends before its data does")
        return piece

    def _decide(self) -> None:
        self.compression = compression_of_bytes(bytes(self._input[:MAGIC_BYTES]))
        self._decided = True
        if self.compression is None and self._input:
            self._plain.append(self._input)
            self._input = bytearray()

    def _unpack(self, compression: Compression) -> bytearray:
        piece = bytearray()
        while self.more and len(piece) < PIECE_BYTES:
            if self._member is None or self._member.eof:
                self._member, self._members, self._member_bytes = MEMBERS[compression](), self._members + 1, 0
            piece += self._advance(self._member, PIECE_BYTES - len(piece))
        return piece

    def _advance(self, member: Member, room_bytes: int) -> bytes:
        """Let a member take a slice of the input."""
        data = bytes(self._input[self._at : self._at + SLICE_BYTES]) if member.needs_input else b""
        self._at += len(data)
        try:
            out = member.decompress(data, room_bytes)
        except DAMAGED as error:
            raise self._damaged(self._what_is_wrong(error)) from error
        self._member_bytes += len(out)
        if member.eof:
            self._at -= len(member.unused_data)
            self._count_empty()
        return out

    def _count_empty(self) -> None:
        self._empty_members = 0 if self._member_bytes else self._empty_members + 1
        if self._empty_members > MAX_EMPTY_MEMBERS:
            raise self._damaged("it is made of empty parts")

    def _what_is_wrong(self, error: Exception) -> str:
        if "memory" in str(error):
            return (
                f"it needs a window of more than {(1 << WINDOW_LOG) >> 20} MiB; compress it without --long or --ultra"
            )
        if self._members == 1 and not self._member_bytes:
            return "its data is damaged or of another kind"
        return "its data is damaged, or followed by something else"

    def _damaged(self, text: str) -> FileError:
        assert self.compression is not None
        return FileError(
            f"the file cannot be unpacked as {self.compression}: {text}",
            code="E_COMPRESSED",
            compression=self.compression.value,
        )

    def _check_limits(self) -> None:
        if self._max_bytes is not None and self.bytes_out > self._max_bytes:
            text = f"the file is larger than {self._max_bytes} bytes (MAX_UPLOAD_BYTES) when it is unpacked"
            raise RequestError(text, code="E_DECOMPRESSED_LIMIT", limit_bytes=self._max_bytes)
        ratio = self._max_ratio
        if ratio is not None and self.bytes_out > max(GRACE_BYTES, ratio * self.bytes_in):
            text = f"the file grows to more than {ratio} times its size when it is unpacked (MAX_COMPRESSION_RATIO)"
            raise RequestError(text, code="E_DECOMPRESSED_LIMIT", max_ratio=ratio)
