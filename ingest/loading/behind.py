"""A batch behind the end of the table: all of its records are rejected, and nothing is asked of PostgreSQL."""

from __future__ import annotations

from ingest.batch import Batch, BatchResult
from ingest.database import Session
from ingest.loading.screening import records_of, reject_of
from ingest.loading.staging import room_for_rejects
from ingest.reading.records import Records

CODE = "E_SECOND_TABLE"
MESSAGE = "the header came once more: from there on it is another table, unless on_header=reject says otherwise"


async def reject_behind(session: Session, batch: Batch, opening: str) -> BatchResult:
    """Reject all records of a batch, as sent; those beyond what the job may still store are counted only."""
    await session.execute(opening)
    room = await room_for_rejects(session, batch)
    return await session.aside(lambda: _rejected(batch, records_of(batch), room))


def _rejected(batch: Batch, where: Records, room: int) -> BatchResult:
    columns = zip(where.start[:room].tolist(), where.end[:room].tolist(), where.line[:room].tolist(), strict=True)
    rejects = [
        reject_of(batch, line=line, start=start, record=batch.data[start:end], code=CODE, message=MESSAGE)
        for start, end, line in columns
    ]
    return BatchResult(rejected=len(where.start), rejects=tuple(rejects))
