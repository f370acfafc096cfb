"""One record -> its fields, in any dialect: strictly, or as somebody may have meant it. For single records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.dialect import Dialect

MOST = 2000


@dataclass(frozen=True, slots=True)
class Token:
    """A field: its `text`, whether it was quoted, and what is wrong with its quotes.

    `wrong`: `trail` (text after the closing quote), `bare` (a quote in a field that does not begin with one), `open`
    (the quote that begins it is never closed). Then the text is the field as it stands.
    """

    text: bytes
    quoted: bool = False
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class _Grammar:
    """What a field looks like: `quoted`, `quoted_loosely` up to a quote before a delimiter, and `plain` ones."""

    delimiter: bytes
    quote: bytes
    escape: bytes
    blanks: bytes
    quoted: re.Pattern[bytes] | None
    loosely: re.Pattern[bytes] | None
    plain: re.Pattern[bytes]


@lru_cache(maxsize=64)
def _grammar(dialect: Dialect) -> _Grammar:
    delimiter, quote, escape = dialect.delimiter.encode(), dialect.quote.encode(), dialect.escape.encode()
    d, q, e = re.escape(delimiter), re.escape(quote), re.escape(escape)
    blank = rb"[ \t]*" if dialect.trim else b""
    end = rb"%b(?=%b|\Z)" % (blank, d)
    escaped = b"%b.|" % e if escape else b""
    # Atomic groups where possessive repetition would do: it goes one too far over a lookahead before Python 3.11.4.
    # Between quotes: all but quotes and escapes, doubled quotes, and what an escape makes plain.
    inside = rb"(?>(?:%b%b%b|[^%b%b])*)" % (escaped, q, q, q, e)
    anything = rb"(?:%b(?!%b%b%b).)*?" % (b"%b.|" % e if escape else b"", q, blank, rb"(?:%b|\Z)" % d)
    plain = rb"(?>(?:%b(?!%b).)*)" % (b"%b.|" % e if escape and not quote else b"", d)
    flags = re.DOTALL
    return _Grammar(
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        blanks=b" \t" if dialect.trim else b"",
        quoted=re.compile(rb"%b%b(%b)%b%b" % (blank, q, inside, q, end), flags) if quote else None,
        loosely=re.compile(rb"%b%b(%b)%b%b" % (blank, q, anything, q, end), flags) if quote else None,
        plain=re.compile(plain, flags),
    )


def tokens(record: bytes, dialect: Dialect, *, loosely: bool = False) -> list[Token]:
    """Return the fields of a record, without its line end.

    `loosely`: a quoted field goes on to a quote that a delimiter follows, and the quotes inside it are text. Behind
    MOST fields, which no table has, the rest is one.
    """
    grammar = _grammar(dialect)
    special = (grammar.quote and grammar.quote in record) or (grammar.escape and grammar.escape in record)
    if not special:
        pieces = record.split(grammar.delimiter, MOST)
        return [Token(piece.strip(grammar.blanks) if grammar.blanks else piece) for piece in pieces]
    found: list[Token] = []
    position = 0
    while True:
        token, position = _token(record, position, grammar, loosely)
        found.append(token)
        if position >= len(record):
            return found
        if len(found) == MOST:
            return [*found, Token(record[position + len(grammar.delimiter) :])]
        # Where no quote before a delimiter is ahead, none is ahead of the next field either.
        loosely = loosely and token.wrong != "open"
        position += len(grammar.delimiter)
        if position == len(record):
            return [*found, Token(b"")]


def _token(record: bytes, position: int, grammar: _Grammar, loosely: bool) -> tuple[Token, int]:
    if grammar.quoted is not None and (match := grammar.quoted.match(record, position)):
        return Token(_unescaped(match[1], grammar), quoted=True), match.end()
    if loosely and grammar.loosely is not None and (match := grammar.loosely.match(record, position)):
        return Token(_unescaped(match[1], grammar), quoted=True, wrong="trail"), match.end()
    match = grammar.plain.match(record, position)
    assert match is not None
    text = match[0].strip(grammar.blanks) if grammar.blanks else match[0]
    if not grammar.quote:
        return Token(_unescaped(text, grammar)), match.end()
    return Token(text, wrong=_what_is_wrong(text, grammar)), match.end()


def _what_is_wrong(text: bytes, grammar: _Grammar) -> str:
    if grammar.quote not in text:
        return ""
    if not text.lstrip(b" \t").startswith(grammar.quote):
        return "bare"
    return "trail" if text.count(grammar.quote) > 1 else "open"


def _unescaped(text: bytes, grammar: _Grammar) -> bytes:
    if grammar.escape and grammar.escape in text:
        pattern = re.escape(grammar.escape) + rb"(.)"
        if grammar.quote:
            q = re.escape(grammar.quote)
            pattern = b"(?:" + re.escape(grammar.escape) + rb"|(?=%b%b)%b)([%b%b])" % (
                q, q, q, q, re.escape(grammar.escape),
            )  # fmt: skip
        return re.sub(pattern, rb"\1", text, flags=re.DOTALL)
    return text.replace(grammar.quote * 2, grammar.quote) if grammar.quote else text


def is_whole(record: bytes, dialect: Dialect, width: int) -> bool:
    """Tell whether a line is a record with `width` fields and quotes around nothing but fields."""
    found = tokens(record, dialect)
    return len(found) == width and not any(token.wrong for token in found)


def opens_inside_a_field(record: bytes, dialect: Dialect, width: int) -> bool:
    """Tell whether a line is a record with `width` fields if the quotes inside of fields, quoted or not, are text."""
    found = tokens(record, dialect)
    if len(found) == width and all(token.wrong in ("", "bare") for token in found):
        return True
    found = tokens(record, dialect, loosely=True)
    return len(found) == width and not any(token.wrong == "open" for token in found)


def first_wrong(found: Sequence[Token]) -> tuple[int, str] | None:
    """Return number, from 1, and fault of the first field whose quotes are wrong, None when there is none."""
    return next(((number, token.wrong) for number, token in enumerate(found, 1) if token.wrong), None)
