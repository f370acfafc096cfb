"""The last lines of a file that are no records: a total, a note, an `end of report`. Kept back until the file ends."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ingest.bits import CR, LF
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.batches import BatchCut
from ingest.splitter import Block


class Cuts(Protocol):
    """What cuts a stream into batches."""

    def feed(self, block: Block) -> list[BatchCut]: ...

    def finish(self) -> list[BatchCut]: ...


class FooterCuts:
    """Cuts a stream as `cuts` does, without the last lines of it that are not blank, as many as the dialect says."""

    def __init__(self, cuts: Cuts, dialect: Dialect, max_record_bytes: int) -> None:
        self._cuts = cuts
        self._rows = dialect.footer_rows
        self._newline = CR if dialect.newline == "cr" else LF
        self._max_bytes = max_record_bytes
        self._kept = b""

    def feed(self, block: Block) -> list[BatchCut]:
        """Take the next bytes of the stream; what may be the footer waits.

        Raises what the cuts raise, and FileError (E_RECORD_TOO_LARGE) when the lines that wait are longer than a record
        may be.
        """
        data = self._kept + bytes(block)
        begin = self._footer(data)
        self._kept = data[begin:]
        if len(self._kept) > self._max_bytes:
            text = f"the last {self._rows} lines are longer than {self._max_bytes} bytes (MAX_RECORD_BYTES)"
            raise FileError(text, code="E_RECORD_TOO_LARGE")
        return self._cuts.feed(data[:begin]) if begin else []

    def finish(self) -> list[BatchCut]:
        """Let the footer go and return the last batch, if there is one. Raises what the cuts raise."""
        return self._cuts.finish()

    def _footer(self, data: bytes) -> int:
        """Return where the last lines begin."""
        octets = np.frombuffer(data, np.uint8)
        starts = np.concatenate(([0], np.flatnonzero(octets == self._newline) + 1))
        starts = starts[starts < octets.size]
        lengths = np.diff(np.append(starts, octets.size))
        first = octets[starts]
        is_blank = ((lengths == 1) & (first == self._newline)) | ((lengths == 2) & (first == CR))
        filled = np.flatnonzero(~is_blank)
        return int(starts[filled[-self._rows]]) if filled.size >= self._rows else 0
