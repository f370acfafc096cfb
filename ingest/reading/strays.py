"""Whether a quote may stand elsewhere than around a field: then COPY would read something else than what was meant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ingest.bits import CR, LF, WORD, Octets, Words, find, parity, shift, shift_back
from ingest.dialect import NO_QUOTE, Dialect
from ingest.reading.marking import Signs, quotes_of, signs_of

PIECE_BYTES = 256 * 1024  # looked at in one go: temporary arrays that stay in the cache


@dataclass(frozen=True, slots=True)
class Fences:
    """The bytes that may stand before a quote that opens (`before`) and after one that closes (`after`)."""

    before: bytes
    after: bytes


@lru_cache(maxsize=64)
def fences_of(dialect: Dialect) -> Fences:
    """Return the fences of a dialect, without the line ends."""
    delimiter = dialect.delimiter.encode()
    blanks = b" \t" if dialect.trim else b""
    return Fences(before=delimiter[-1:] + blanks, after=delimiter[:1] + blanks)


def has_stray_quote(data: bytes, dialect: Dialect) -> bool:
    """Tell whether a quote may stand elsewhere than around a field, in bytes that begin and end with a record.

    Never misses one, but for a carriage return after a closing quote, which COPY refuses by itself. White space next to
    a quote makes it a stray one here, though it does no harm. So does a quote that is open at the end, and whatever an
    escape does that COPY would not understand.
    """
    if not dialect.quote:
        return NO_QUOTE.encode() in data
    if dialect.quote.encode() not in data:
        return False
    signs, fences = signs_of(dialect), fences_of(dialect)
    if dialect.escape and dialect.escape.encode() in data:
        return _look(data, signs, fences, False)[0]  # in one piece, so that no escape is cut off
    start, odd, view = 0, False, memoryview(data)
    while start < len(data):
        # A piece ends with a newline, so that only the parity matters for the next one.
        near = start + PIECE_BYTES
        end = (data.rfind(b"\n", start, near) + 1) or (data.find(b"\n", near) + 1) or len(data)
        stray, odd = _look(view[start:end], signs, fences, odd)
        if stray:
            return True
        start = end
    return odd


def _look(data: bytes | memoryview, signs: Signs, fences: Fences, odd_before: bool) -> tuple[bool, bool]:
    """Return whether a piece holds a stray quote, and whether a quote is open at its end."""
    octets = np.frombuffer(data, np.uint8)
    quotes = quotes_of(octets, signs)
    if not quotes.any():
        return odd_before and signs.escape is not None, odd_before
    odd = parity(quotes, odd_before)
    last = np.uint64(1) << np.uint64((octets.size - 1) % WORD)
    is_odd = bool(odd[-1] & last)
    return bool(stray_quotes(octets, quotes, odd, signs, fences).any()) or (signs.escape is not None and is_odd), is_odd


def stray_quotes(octets: Octets, quotes: Words, odd: Words, signs: Signs, fences: Fences) -> Words:
    """Return the bits of the stray quotes in a block whose last byte ends a record."""
    opening, closing = quotes & odd, quotes & ~odd
    newlines = find(octets, signs.newline)
    before = _either(octets, newlines, fences.before)
    after = before if fences.after == fences.before else _either(octets, newlines, fences.after)
    doubled = signs.escape is None  # else COPY would not read it as a quote
    followed = shift_back(after | opening if doubled else after)
    followed[-1] |= np.uint64(1) << np.uint64((octets.size - 1) % WORD)
    trailed = closing & ~followed
    if signs.newline == LF and trailed.any():
        trailed &= ~shift_back(find(octets, CR))
    found = trailed | (opening & ~shift(before | closing if doubled else before, first=True))
    if signs.escape is not None and signs.quote is not None:
        found |= find(octets, signs.quote) & ~quotes & ~odd
    return found


def _either(octets: Octets, found: Words, others: bytes) -> Words:
    for byte in others:
        found = found | find(octets, byte)
    return found
