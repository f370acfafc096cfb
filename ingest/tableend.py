"""Where the table of a file ends: at its header, where that comes once more, whole or as that of another table.

What follows is cut into batches as before, so that all of it is accounted for; it is marked, and goes to the rejects.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from ingest.definitions.names import tidy
from ingest.dialect import Dialect
from ingest.loading.fields import fields
from ingest.loading.patterns import Pattern, header_expression, matches
from ingest.reading.batches import BatchCut
from ingest.splitter import Block, Splitter

# So many names of a header are enough to know it by, with all that follow where there are more.
LEAST_NAMES = 2


class TableCuts:
    """Cuts a stream as `splitter` does; the batches from the record on that is the `header` once more are `behind`.

    That record has the names of the header, on one line, or some of the first of them, or all and more. `ended`: it was
    met before. Holds back the line that is not complete, as far as a record may be long.
    """

    def __init__(
        self, splitter: Splitter, dialect: Dialect, header: Sequence[str], max_record_bytes: int, *, ended: bool = False
    ) -> None:
        self._splitter = splitter
        self._dialect = dialect
        self._header = tuple(header)
        self._expression = header_expression(self._header[:LEAST_NAMES], dialect)
        self._newline = b"\r" if dialect.newline == "cr" else b"\n"
        self._max_bytes = max_record_bytes
        self._ended = ended or len(header) < LEAST_NAMES
        self._behind = ended
        self._kept = b""

    def feed(self, block: Block) -> list[BatchCut]:
        """Take the next bytes of the stream and return the batches they complete. Raises what the splitter raises."""
        if self._ended and not self._kept:
            return self._marked(self._splitter.feed(block))
        data = self._kept + bytes(block)
        end = data.rfind(self._newline) + 1
        if self._ended or len(data) - end > self._max_bytes:
            end = len(data)  # the splitter says what is wrong with such a line
        self._kept = data[end:]
        return self._lines(data[:end])

    def finish(self) -> list[BatchCut]:
        """Return the last batches. Raises what the splitter raises."""
        kept, self._kept = self._kept, b""
        return [*self._lines(kept), *self._marked(self._splitter.finish())]

    def _lines(self, data: bytes) -> list[BatchCut]:
        """Take whole lines."""
        cuts: list[BatchCut] = []
        begin = 0
        for start in () if self._ended else self._headers(data):
            cuts += self._splitter.feed(data[begin:start])
            begin = start
            if self._splitter.is_between_records:  # else it is part of a text
                cuts += self._splitter.end_batch()
                self._ended = self._behind = True
                break
        return cuts + self._marked(self._splitter.feed(data[begin:]))

    def _headers(self, data: bytes) -> Iterator[int]:
        """Yield where the lines begin that may be the header."""
        last = -1
        for place in matches(data, Pattern.HEADER, header=self._expression).get(Pattern.HEADER, ()):
            start = data.rfind(self._newline, 0, place) + 1
            if start > last and self._is_header(data[start : (data.find(self._newline, place) + 1) or len(data)]):
                yield start
            last = start

    def _is_header(self, line: bytes) -> bool:
        found = fields(line.rstrip(b"\r\n"), self._dialect)[: len(self._header)]
        names = [tidy((text or b"").decode("utf-8", "replace")) for text in found]
        return len(names) >= LEAST_NAMES and tuple(names) == self._header[: len(names)]

    def _marked(self, cuts: Sequence[BatchCut]) -> list[BatchCut]:
        return [replace(cut, behind=True) for cut in cuts] if self._behind else list(cuts)
