"""A file in any encoding -> UTF-8, while it arrives; and from UTF-8 back to the bytes as they were sent.

A byte, or a half of a character, that means nothing in its encoding becomes a lone surrogate, written as such: bytes
that are not UTF-8, so that the record that holds them is rejected like any other that is not. They can be told apart
from everything that is text, and turned back.
"""

from __future__ import annotations

import codecs
from collections import deque
from functools import lru_cache

import numpy as np

from ingest.encodings import UTF_8, is_single_byte
from ingest.splitter import Block

# What is looked at in one go: where all of it is ASCII, which it mostly is, nothing is to be done.
PIECE_BYTES = 32 * 1024
# Encodings that read all bytes but those from 0x80 to 0x9F as Latin-1 does, which is read four times as fast.
LIKE_LATIN_1 = frozenset({"iso8859-1", "cp1252"})

BOMS = {
    "utf-16": ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
    "utf-32": ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
}


class Transcoder:
    """Turns the bytes of one file into UTF-8. `bom_bytes`: the length of the byte order mark, which is left out."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.bom_bytes = 0
        self._begun = encoding == UTF_8
        self._left = b""  # the first part of a character

    def feed(self, data: Block, *, ended: bool = False) -> Block:
        """Return the next bytes as UTF-8, as far as they are whole characters."""
        if self.encoding == UTF_8:
            return data
        block = self._left + bytes(data)
        if not self._begun:
            if len(block) < 4 and not ended:
                self._left = block
                return b""
            block = self._without_bom(block)
        if is_single_byte(self.encoding):
            self._left = b""
            return _single_bytes(block, self.encoding)
        return self._wide(block, ended)

    def _without_bom(self, block: bytes) -> bytes:
        self._begun = True
        family = self.encoding[:6]
        for bom, codec in BOMS.get(family, ()):
            if block.startswith(bom) and self.encoding in (family, codec):
                self.encoding, self.bom_bytes = codec, len(bom)
                return block[len(bom) :]
        if self.encoding in BOMS:
            self.encoding += "-le"  # what writes none is Windows
        return block

    def _wide(self, block: bytes, ended: bool) -> bytes:
        whole = _whole_characters(block, self.encoding)
        if ended and self.encoding.startswith("utf-16"):
            whole = len(block) & ~1  # half of a pair is a unit of its own
        self._left = b"" if ended else block[whole:]
        cut_off = block[whole:] if ended else b""
        text = _decoded(block[:whole], self.encoding) + "".join(chr(0xDC00 + byte) for byte in cut_off)
        return text.encode("utf-8", "surrogatepass")


def _single_bytes(block: bytes, encoding: str) -> Block:
    if _keeps_ascii(encoding) and block.isascii():
        return block
    pieces = (block[start : start + PIECE_BYTES] for start in range(0, len(block), PIECE_BYTES))
    return b"".join(_piece(piece, encoding) for piece in pieces)


def _piece(piece: bytes, encoding: str) -> bytes:
    if piece.isascii() and _keeps_ascii(encoding):
        return piece
    if encoding in LIKE_LATIN_1:
        octets = np.frombuffer(piece, np.uint8)
        if encoding == "iso8859-1" or not ((octets & 0xE0) == 0x80).any():
            return piece.decode("latin-1").encode()
    return _charmapped(piece, encoding)


def _charmapped(piece: bytes, encoding: str) -> bytes:
    try:
        return piece.decode(encoding).encode()
    except UnicodeDecodeError:
        return piece.decode(encoding, "surrogateescape").encode("utf-8", "surrogatepass")


@lru_cache(maxsize=64)
def _keeps_ascii(encoding: str) -> bool:
    """Tell whether ASCII bytes mean ASCII: in nearly every encoding that files come in."""
    ascii_bytes = bytes(range(128))
    return ascii_bytes.decode(encoding, "replace") == ascii_bytes.decode("ascii")


def _decoded(block: bytes, encoding: str) -> str:
    try:
        return block.decode(encoding)
    except UnicodeDecodeError:
        if encoding.startswith("utf-16"):
            return block.decode(encoding, "surrogatepass")
        if encoding.startswith("utf-32"):
            units = np.frombuffer(block, "<u4" if encoding.endswith("le") else ">u4")
            bad = (units > 0x10FFFF) | ((units >= 0xD800) & (units < 0xE000))
            return (
                np.where(bad, 0xDC00 | (units & 0x3FF), units)
                .astype("<u4")
                .tobytes()
                .decode("utf-32-le", "surrogatepass")
            )
        return block.decode(encoding, "surrogateescape")


def _whole_characters(block: bytes, encoding: str) -> int:
    """Return how many bytes of a block are whole characters."""
    if encoding.startswith("utf-32"):
        return len(block) & ~3
    if encoding.startswith("utf-16"):
        even = len(block) & ~1
        high = block[even - 1 if encoding.endswith("le") else even - 2] if even else 0
        return even - 2 if 0xD8 <= high < 0xDC else even
    decoder = codecs.getincrementaldecoder(encoding)("surrogateescape")
    decoder.decode(block)
    return len(block) - len(decoder.getstate()[0])


class SentOffsets:
    """Where places of a UTF-8 stream are in the file as it was sent; the stream begins at its byte `offset`.

    A block is measured when it comes, and kept until the place gone to lies behind it, for its rest to be measured.
    """

    def __init__(self, encoding: str, offset: int) -> None:
        self._encoding = encoding
        self._offset = offset
        self._at = 0
        self._blocks: deque[tuple[bytes, int]] = deque()  # from _at on, and the length of each as it was sent

    def take(self, data: Block) -> None:
        """Take the next bytes of the stream."""
        block = bytes(data)
        self._blocks.append((block, sent_length(block, self._encoding)))

    def up_to(self, end: int) -> int:
        """Go on to a place of the stream; return where the one gone to before is in the file."""
        found, size = self._offset, end - self._at
        while size:
            block, sent = self._blocks.popleft()
            if size < len(block):
                head = sent_length(block[:size], self._encoding)
                self._blocks.appendleft((block[size:], sent - head))
                block, sent = block[:size], head
            size -= len(block)
            self._offset += sent
        self._at = end
        return found


def sent_bytes(data: Block, encoding: str) -> bytes:
    """Return the bytes that stand for UTF-8 text in the file as it was sent."""
    if encoding == UTF_8:
        return bytes(data)
    text = bytes(data).decode("utf-8", "surrogatepass")
    return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "surrogateescape")


def sent_length(data: Block, encoding: str) -> int:
    """Return how many bytes of the file, as it was sent, some UTF-8 text stands for."""
    if encoding == UTF_8:
        return len(data)
    wide = encoding.startswith("utf")
    if not wide and not is_single_byte(encoding):
        return len(sent_bytes(data, encoding))
    octets = np.frombuffer(data, np.uint8)
    # As signed numbers, the bytes within a character are those below the others.
    characters = octets.size - int(np.count_nonzero(octets.view(np.int8) < -64))
    if encoding.startswith("utf-16"):
        return 2 * (characters + int(np.count_nonzero(octets >= 0xF0)))
    return 4 * characters if wide else characters
