"""One record -> its fields, by the rules of PostgreSQL's COPY in CSV format. For single records, off the hot path."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import cache

from ingest.dialect import Dialect
from ingest.reading.tokens import first_wrong, tokens

# The module csv refuses fields longer than twice as much, and sees line ends where we do not.
LONG_CHARS = 64 * 1024


def fields(record: bytes, dialect: Dialect) -> list[bytes | None]:
    """Return the fields of a well-formed record (quotes balanced, no line end after it); None stands for NULL.

    A quote opens and closes wherever it stands, a doubled one inside quotes is a quote, and only an unquoted text can
    be NULL: what `CopyReadAttributesCSV` of PostgreSQL does.
    """
    if not has_plain_quotes(dialect):
        null = dialect.null.encode()
        return [None if not t.quoted and t.text == null else t.text for t in tokens(record, dialect)]
    delimiter, quote, null = dialect.delimiter.encode(), dialect.quote.encode(), dialect.null.encode()
    if quote not in record:
        return [None if text == null else text for text in record.split(delimiter)]
    found: list[bytes | None] = []
    for piece in _split_outside_quotes(record, delimiter, quote):
        if quote in piece:
            found.append(_unquoted(piece, quote))
        else:
            found.append(None if piece == null else piece)
    return found


def texts(record: bytes, dialect: Dialect) -> Sequence[str | None]:
    """Return the same of a record without stray quotes that is valid UTF-8, as texts; at a third of the cost."""
    text = record.decode()
    if not has_plain_quotes(dialect):
        return [None if value is None else value.decode() for value in fields(record, dialect)]
    if dialect.quote not in text:
        found = text.split(dialect.delimiter)
        return found if dialect.null not in found else [None if text == dialect.null else text for text in found]
    if len(text) < LONG_CHARS and "\r" not in text:
        found = next(csv.reader([text], delimiter=dialect.delimiter, quotechar=dialect.quote))
        if dialect.null not in found:  # or else it matters whether it stood in quotes
            return found
    return [None if text is None else text.decode() for text in fields(record, dialect)]


def texts_of(records: Sequence[bytes], dialect: Dialect) -> list[Sequence[str | None]]:
    """Return the `texts` of many records; where the module csv can read them all, at half the cost."""
    lines = [record.decode() for record in records]
    if not has_plain_quotes(dialect) or any("\r" in line or len(line) >= LONG_CHARS for line in lines):
        return [texts(record, dialect) for record in records]
    rows = csv.reader(lines, delimiter=dialect.delimiter, quotechar=dialect.quote)
    # Where a NULL may be it matters whether it stood in quotes; a blank line is no row to the module.
    pairs = zip(rows, records, strict=True)
    return [row if row and dialect.null not in row else texts(record, dialect) for row, record in pairs]


def field_at(record: bytes, place: int, dialect: Dialect) -> bytes | None:
    """Return one of the `fields`, by its place from 0; None where there are fewer, too."""
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    if not has_plain_quotes(dialect):
        found = fields(record, dialect)
        return found[place] if place < len(found) else None
    pieces = record.split(delimiter, place + 1)
    if len(pieces) > place and quote not in record[: sum(map(len, pieces[: place + 1])) + place]:
        return None if pieces[place] == dialect.null.encode() else pieces[place]
    found = fields(record, dialect)
    return found[place] if place < len(found) else None


def stray_quote(record: bytes, dialect: Dialect) -> tuple[int, bool] | None:
    """Return the first field (from 1) with a quote that does not stand around it, or None when there is none.

    The second value tells whether the field begins with a quote: then something follows the closing one. COPY would
    read such a field, without its quotes; where they are not meant as quotes it would take the next lines for a part
    of the field. White space around the quotes is let pass, since it is all that COPY adds then.
    """
    if not has_plain_quotes(dialect):
        wrong = first_wrong(tokens(record, dialect))
        return wrong and (wrong[0], wrong[1] != "bare")
    delimiter, quote = dialect.delimiter.encode(), dialect.quote.encode()
    if quote in record:
        for number, piece in enumerate(_split_outside_quotes(record, delimiter, quote), 1):
            if quote in piece and not _quoted_as_a_whole(quote).fullmatch(piece):
                return number, piece.lstrip(b" \t").startswith(quote)
    return None


def has_plain_quotes(dialect: Dialect) -> bool:
    """Tell whether fields are found by quotes alone, which are doubled inside quotes."""
    return bool(dialect.quote) and not dialect.escape and not dialect.trim


@cache
def _quoted_as_a_whole(quote: bytes) -> re.Pattern[bytes]:
    q = re.escape(quote)
    return re.compile(rb"[ \t]*%b(?:[^%b]++|%b%b)*+%b[ \t]*" % (q, q, q, q, q))


def _split_outside_quotes(record: bytes, delimiter: bytes, quote: bytes) -> list[bytes]:
    pieces = [b""]
    # Every second stretch between quotes lies inside them; a doubled quote is an empty stretch outside.
    for position, stretch in enumerate(record.split(quote)):
        if position:
            pieces[-1] += quote
        if position % 2:
            pieces[-1] += stretch
        else:
            first, *rest = stretch.split(delimiter)
            pieces[-1] += first
            pieces.extend(rest)
    return pieces


def _unquoted(piece: bytes, quote: bytes) -> bytes:
    """Return the text of a piece that holds quotes: `"a""b"` is `a"b`."""
    text, inside = b"", False
    stretches = piece.split(quote)
    for position, stretch in enumerate(stretches):
        if position:
            inside = not inside
            # An empty stretch outside, with a quote on either side, was a doubled quote.
            if not inside and stretch == b"" and position + 1 < len(stretches):
                text += quote
        text += stretch
    return text
