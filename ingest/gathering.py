"""Bytes that are gathered until there are enough of them to be worth a step. Large pieces are kept as they come.

Copied into one block, and again to be unpacked, each time into memory new to the process, the pieces of an upload took
a quarter of its processor time.
"""

from __future__ import annotations

from ingest.splitter import Block

# Smaller pieces are put together: what is done for each piece costs more than to copy it.
SMALL_BYTES = 128 * 1024


class Gathering:
    """Pieces in their order, `size` bytes together. What was added must not change afterwards."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[Block] = []

    def add(self, data: bytes) -> None:
        """Append a piece."""
        self.size += len(data)
        last = self._pieces[-1] if self._pieces else None
        if len(data) >= SMALL_BYTES:
            self._pieces.append(data)
        elif isinstance(last, bytearray) and len(last) < SMALL_BYTES:
            last += data
        elif data:
            self._pieces.append(bytearray(data))

    def take(self) -> list[Block]:
        """Return the pieces, which are the caller's from now on, and begin anew."""
        pieces, self._pieces, self.size = self._pieces, [], 0
        return pieces

    def joined(self) -> Block:
        """Return all bytes as one block; they stay."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
