"""The first records of a file as texts, in any dialect: a sample to look at, not to load from. Pure."""

from __future__ import annotations

from ingest.detecting.masking import mask, shown, without_reserved
from ingest.detecting.reading import rows_of
from ingest.dialect import Dialect

MOST_BYTES = 65_536
MOST_RECORDS = 1000


def sample_records(data: bytes, dialect: Dialect) -> list[list[str]]:
    """Return the records, up to MOST_RECORDS, that bytes in UTF-8 begin with; the last one only if it is whole."""
    text = without_reserved(data[:MOST_BYTES].decode("utf-8", "replace"))
    text = text.replace("\r\n", "\n").replace("\r", "\n" if dialect.newline == "cr" else "\r")
    whole = text[: text.rfind("\n") + 1] or text
    masked = mask(whole, dialect.quote, dialect.escape, (dialect.delimiter,))
    rows = rows_of(masked, dialect.delimiter, comment=dialect.comment, most=MOST_RECORDS)
    found = [[shown(cell, dialect.quote, dialect.escape) for cell in row.cells] for row in rows]
    return [[text.strip() for text in row] for row in found] if dialect.trim else found
