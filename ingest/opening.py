"""The opening of a file: its first bytes are gathered until it is known how they are written, then its header is read.

What the request said is taken as it is; the rest is detected, with what the dataset expects as the strongest evidence.
Pure: bytes in, values out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from ingest.definitions.matching import REJECT_COLUMNS, Reading
from ingest.definitions.names import squeeze
from ingest.detecting import Detected, detect, detect_at_once, detect_encoding
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.header import SNIFF_BYTES, Header, HeaderReader
from ingest.reading.kinds import refuse_other_encodings, refuse_other_kinds
from ingest.reading.transcoding import Transcoder
from ingest.splitter import Block

# What is looked at when the first SNIFF_BYTES do not say that the file is written as usual.
SAMPLE_BYTES = 64 * 1024

MOST_CHARS = 200  # of a name

# How well a dataset knows the names of a header, from 0 to 1.
Expected = Callable[[Sequence[str]], float]


class Opening:
    """Reads the first bytes of a file up to the end of its header; holds little more than a sample of it.

    `told` are the options of the request about the dialect, as text; None: `dialect` says everything, and nothing is
    detected.
    """

    def __init__(
        self,
        dialect: Dialect,
        told: Mapping[str, str] | None,
        expected: Expected | None,
        *,
        max_record_bytes: int,
    ) -> None:
        self.detected: Detected | None = None
        self._dialect = dialect
        self._told = told
        self._expected = expected
        self._max_record_bytes = max_record_bytes
        self._gathered = b""
        self._ended = False
        self._transcoder: Transcoder | None = None
        self._reader: HeaderReader | None = None

    def feed(self, data: Block) -> Header | None:
        """Take the next bytes as they were sent, unpacked; return the header as soon as it is complete.

        Raises FileError: what `HeaderReader` raises, and E_DIALECT_AMBIGUOUS; RequestError (E_OPTION).
        """
        if self._reader is None:
            self._gathered += bytes(data)
            reader = self._begin()
            if reader is None:
                return None
            data, self._gathered = self._gathered, b""
            return reader.feed(self.text(data))
        return self._reader.feed(self.text(data))

    def finish(self) -> Header:
        """Return the header of a file that has ended. Raises what `feed` raises, E_EMPTY and E_QUOTE_OPEN."""
        self._ended = True
        header = self.feed(b"") or (self._reader and self._reader.feed(self.text(b"", ended=True)))
        assert self._reader is not None
        return header or self._reader.finish()

    def text(self, data: Block, *, ended: bool = False) -> Block:
        """Return the next bytes as UTF-8; once the header is complete, what comes is to go through here too."""
        assert self._transcoder is not None
        text = self._transcoder.feed(data, ended=ended)
        if self._reader is not None:
            self._reader.begin_at(self._transcoder.bom_bytes, self._transcoder.encoding)
        return text

    def _begin(self) -> HeaderReader | None:
        """Decide how the file is written, if enough of it is there."""
        dialect = self._dialect if self._told is None else self._detect(self._told)
        if dialect is None:
            return None
        self._transcoder = Transcoder(dialect.encoding)
        self._reader = HeaderReader(dialect, max_record_bytes=self._max_record_bytes)
        return self._reader

    def _detect(self, told: Mapping[str, str]) -> Dialect | None:
        sample = self._gathered[:SAMPLE_BYTES]
        if not self._ended and len(self._gathered) < SNIFF_BYTES:
            return None
        refuse_other_kinds(sample[:SNIFF_BYTES])
        ended = self._ended and len(self._gathered) <= SAMPLE_BYTES
        encoding = detect_encoding(sample, ended=ended, given=told)
        text = self._readable(sample, encoding.name)
        found = detect_at_once(text, ended=ended, expected=self._expected, given=told, encoding=encoding)
        if found is None:
            if not self._ended and len(self._gathered) < SAMPLE_BYTES:
                return None
            refuse_other_encodings(text[:SNIFF_BYTES])
            found = detect(text, ended=ended, expected=self._expected, given=told, encoding=encoding)
        if found.alternatives:
            raise _ambiguous(found)
        self.detected = found
        return found.dialect

    def _readable(self, sample: bytes, encoding: str) -> bytes:
        return bytes(Transcoder(replace(self._dialect, encoding=encoding).encoding).feed(sample))


class Knowing(Protocol):
    """What a dataset is asked about a header."""

    def names_known(self) -> frozenset[str]: ...

    def read_header(self, names: Sequence[str]) -> Reading: ...


def expected_by(dataset: Knowing) -> Expected:
    """Return how well a dataset knows the names of a header, from how it reads them."""
    known_names = dataset.names_known()

    def expected(names: Sequence[str]) -> float:
        # Most records that are asked about are none: they are not worth a reading.
        if known_names.isdisjoint(squeeze(name[:MOST_CHARS]) for name in names):
            return 0.0
        try:
            reading = dataset.read_header(names)
        except FileError:
            return 0.0
        matches = reading.matches
        known = sum(match.column is not None or match.header in REJECT_COLUMNS for match in matches.columns)
        wanted = len(matches.columns) + len(reading.missing) + len(matches.duplicate)
        score = known / wanted if wanted else 0.0
        whole = reading.ignores_unknown and not reading.missing and not matches.duplicate and known > len(names) / 2
        return 1.0 if whole else score

    return expected


def _ambiguous(found: Detected) -> FileError:
    ways = list(found.alternatives)
    text = f"the file can be read in several ways; say which by one of these options: {' or '.join(ways)}"
    return FileError(text, code="E_DIALECT_AMBIGUOUS", alternatives=ways)
