"""A block of CSV as sets of bits: which bytes lie inside quotes, which newlines end records, which lines are none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ingest.bits import CR, LF, WORD, BitSet, Octets, Offsets, Words, at, find, parity, shift, span
from ingest.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Signs:
    """The bytes of a dialect that decide where records end. Without a quote, an escape makes a newline plain."""

    quote: int | None = ord('"')
    escape: int | None = None
    newline: int = LF
    comment: bytes = b""


@lru_cache(maxsize=64)
def signs_of(dialect: Dialect) -> Signs:
    """Return the bytes that decide for a dialect."""
    return Signs(
        quote=ord(dialect.quote) if dialect.quote else None,
        escape=ord(dialect.escape) if dialect.escape else None,
        newline=CR if dialect.newline == "cr" else LF,
        comment=dialect.comment.encode(),
    )


@dataclass(frozen=True, slots=True)
class Edge:
    """What the bytes before a block mean for it; the defaults stand for the start of a file.

    `odd`: a quote is open. `closed`: the byte before is a closing quote. `at_start`: the block begins with a record.
    `after_cr`: the record so far is nothing but a CR.
    """

    odd: bool = False
    closed: bool = False
    at_start: bool = True
    after_cr: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """What `mark` found in a block.

    `quotes`: those that open and close. `odd`: the bytes up to and with which an odd number of quotes lies. `newlines`:
    all of them. `ends`: the newlines outside quotes. `records`: those of `ends` that end neither a blank line nor a
    comment. `comments`: the bytes of the comments, None where there are none.
    """

    edge: Edge
    quotes: Words
    odd: Words
    newlines: BitSet
    ends: BitSet
    records: BitSet
    comments: Words | None = None

    @property
    def is_multi_line(self) -> bool:
        """Whether a newline lies inside quotes."""
        return self.newlines is not self.ends and self.newlines.total != self.ends.total

    def is_comment(self, position: int) -> bool:
        """Return whether the byte at `position` belongs to a comment."""
        word, bit = divmod(position, WORD)
        return self.comments is not None and bool(int(self.comments[word]) >> bit & 1)

    def odd_before(self, position: int) -> bool:
        """Return whether a quote is open just before `position`."""
        word, bit = divmod(position - 1, WORD)
        return self.edge.odd if position == 0 else bool(int(self.odd[word]) >> bit & 1)

    def closed_before(self, position: int) -> bool:
        """Return whether the byte just before `position` is a closing quote."""
        word, bit = divmod(position - 1, WORD)
        closing = int(self.quotes[word]) & ~int(self.odd[word])
        return self.edge.closed if position == 0 else bool(closing >> bit & 1)

    def opening_between(self, start: int, end: int) -> int | None:
        """Return where the last quoted stretch that begins in [start, end) begins; a doubled quote begins none."""
        first = start // WORD
        words = slice(first, -(-end // WORD))
        quotes, odd = self.quotes[words], self.odd[words]
        closing = shift(quotes & ~odd, self.closed_before(first * WORD))
        opening = BitSet(quotes & odd & ~closing)
        rank = opening.before(end - first * WORD)
        last = opening.nth(rank - 1) if rank else None
        return None if last is None or last + first * WORD < start else last + first * WORD


def mark(data: Octets, signs: Signs, edge: Edge, *, single_column: bool, plain: Words | None = None) -> Marks:
    """Find the newlines, record ends and quotes of a block that `edge` precedes.

    In a file of a `single_column` a blank line is a record. Quotes among the `plain` bytes are none. A block that may
    begin with the middle of a comment or the second half of an escape is not for this.
    """
    newlines = BitSet(find(data, signs.newline))
    quotes = quotes_of(data, signs)
    if plain is not None:
        quotes &= ~plain
    comments = _comments(data, signs, newlines, quotes) if signs.comment else None
    if comments is not None:
        quotes &= ~comments
    if quotes.any() or edge.odd:
        odd = parity(quotes, edge.odd)
        ends = BitSet(newlines.words & ~odd)
    else:
        odd, ends = quotes, newlines
    if signs.quote is None and signs.escape is not None:
        ends = BitSet(ends.words & ~escaped(data, signs.escape))
    none = None if single_column else blank_lines(data, ends.words, edge, signs.newline)
    if comments is not None:
        none = ends.words & comments if none is None else none | (ends.words & comments)
    return Marks(edge, quotes, odd, newlines, ends, ends if none is None else BitSet(ends.words & ~none), comments)


def quotes_of(data: Octets, signs: Signs) -> Words:
    """Return the bits of the quotes that no escape makes plain."""
    if signs.quote is None:
        return np.zeros(-(-data.size // WORD), np.uint64)
    quotes = find(data, signs.quote)
    if signs.escape is not None and quotes.any():
        quotes &= ~escaped(data, signs.escape)
    return quotes


def escaped(data: Octets, escape: int) -> Words:
    """Return the bits of the bytes that an escape precedes which is not escaped itself."""
    escapes = BitSet(find(data, escape)).positions()
    if not escapes.size:
        return np.zeros(-(-data.size // WORD), np.uint64)
    begins = np.concatenate(([True], np.diff(escapes) > 1))
    first = escapes[np.flatnonzero(begins)]
    in_run = escapes - np.repeat(first, np.diff(np.append(np.flatnonzero(begins), escapes.size)))
    after = escapes[in_run % 2 == 0] + 1
    return at(data.size, after[after < data.size])


def _comments(data: Octets, signs: Signs, newlines: BitSet, quotes: Words) -> Words | None:
    """Return the bits of the lines outside quotes that begin with the comment sign, with their newlines."""
    starts = _line_starts(data, signs, newlines)
    if not starts.size:
        return None
    counts, dropped = BitSet(quotes), 0
    found: list[tuple[int, int]] = []
    for start in starts.tolist():
        before = counts.before(start)
        if (before - dropped) % 2 == 0:
            end = newlines.first_from(start)
            found.append((start, data.size if end is None else end + 1))
            dropped += counts.before(found[-1][1]) - before
    return span(data.size, found) if found else None


def _line_starts(data: Octets, signs: Signs, newlines: BitSet) -> Offsets:
    """Return where the lines begin that begin with the comment sign."""
    first = shift(newlines.words, first=True) & find(data, signs.comment[0])
    starts = BitSet(first).positions()
    starts = starts[starts + len(signs.comment) <= data.size]
    for i, byte in enumerate(signs.comment[1:], 1):
        starts = starts[data[starts + i] == byte]
    return starts


def blank_lines(data: Octets, ends: Words, edge: Edge, newline: int = LF) -> Words | None:
    """Return the bits of the newlines that end a blank line (LF, CRLF or CR alone), None when there is none."""
    one_after = shift(ends, edge.at_start)
    two_after = shift(one_after, edge.after_cr)
    if not np.any(ends & (one_after | two_after)):
        return None
    after_cr = shift(find(data, CR), edge.after_cr) if newline == LF else np.zeros_like(ends)
    blank = ends & (one_after | (after_cr & two_after))
    return blank if blank.any() else None
