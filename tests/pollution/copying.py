"""PostgreSQL's own COPY as a reader: what a file comes to without this service in front, told the dialect."""

from __future__ import annotations

from functools import partial

from ingest.database import Database, Session, quoted
from ingest.errors import DatabaseError
from tests.pollution.pollute import Polluted
from tests.pollution.score import Read


async def copied(database: Database, file: Polluted) -> Read | None:
    """COPY a file, without the lines above its records, into a table of texts; None when COPY refuses it."""
    try:
        return await database.transact(partial(_copy, file=file))
    except DatabaseError:
        return None


async def _copy(session: Session, file: Polluted) -> Read:
    told = file.told
    columns = [quoted(name) for name in told.names]
    await session.execute(f"CREATE TEMPORARY TABLE copied ({' text, '.join(columns)} text) ON COMMIT DROP")
    options = {"DELIMITER": told.delimiter, "QUOTE": told.quote, "ESCAPE": told.escape or told.quote}
    given = ", ".join(f"{name} '{char.replace(chr(39), chr(39) * 2)}'" for name, char in options.items())
    lines = file.data.splitlines(keepends=True)[told.skip_rows + told.header_rows :]
    await session.copy(f"COPY copied FROM STDIN (FORMAT csv, {given})", b"".join(lines))
    rows = await session.fetch(f"SELECT {', '.join(columns)} FROM copied")
    records = [tuple(cell or "" for cell in row) for row in rows]
    return Read(told.names if told.header_rows else None, records)
