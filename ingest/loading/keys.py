"""The key columns of a batch's records, taken from its bytes without parsing the rest. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.bits import LF, BitSet, Octets, Offsets, find
from ingest.dialect import Dialect
from ingest.errors import RowError
from ingest.reading.marking import Edge, mark, signs_of
from ingest.reading.records import Records

# The record's number in front of its key, in decimal digits: more than a batch has records.
DIGITS = 8


def key_lines(data: bytes, where: Records, columns: Sequence[int], width: int, dialect: Dialect) -> bytes:
    """Return a line for each record: its number, then its fields in `columns` (from 0), as they are written.

    Each record is a line of `width` fields. Raises RowError when one is not.
    """
    octets = np.frombuffer(data, np.uint8)
    inner = _delimiters(octets, where, width, dialect)
    begin = np.column_stack([inner[:, column - 1] + 1 if column else where.start for column in columns])
    end = np.column_stack([inner[:, column] if column < width - 1 else where.end for column in columns])
    return _composed(octets, begin, end - begin, dialect.delimiter.encode())


def _delimiters(octets: Octets, where: Records, width: int, dialect: Dialect) -> Offsets:
    """Return the places of the delimiters outside quotes, a row for each record."""
    quoted = mark(octets, signs_of(dialect), Edge(), single_column=width == 1).odd
    found = BitSet(find(octets, ord(dialect.delimiter)) & ~quoted).positions()
    firsts = np.searchsorted(found, where.start)
    if found.size != firsts.size * (width - 1) or np.any(firsts != np.arange(firsts.size) * (width - 1)):
        raise RowError("a record has another number of fields", sqlstate="22P04")
    return found.reshape(firsts.size, width - 1)


def _composed(octets: Octets, begin: Offsets, length: Offsets, delimiter: bytes) -> bytes:
    """Put the pieces of each row together, with the row's number before them and a delimiter between."""
    records, pieces = begin.shape
    sizes = np.column_stack((np.full(records, DIGITS), length)) + 1  # each is followed by a delimiter or a line end
    ends = np.cumsum(sizes.ravel()).reshape(records, pieces + 1)
    lines = np.full(int(ends[-1, -1]), ord(delimiter), np.uint8)
    lines[ends[:, -1] - 1] = LF
    numbers = ends[:, 0] - DIGITS - 1
    for digit in range(DIGITS):
        lines[numbers + digit] = ord("0") + np.arange(records) // 10 ** (DIGITS - 1 - digit) % 10
    lines[_stretches((ends - sizes)[:, 1:], length)] = octets[_stretches(begin, length)]
    return lines.tobytes()


def _stretches(begin: Offsets, length: Offsets) -> Offsets:
    """Return the places begin, begin + 1, ... of all stretches, one after the other."""
    flat = length.ravel()
    before = np.cumsum(flat) - flat
    return np.repeat(begin.ravel() - before, flat) + np.arange(int(flat.sum()))
