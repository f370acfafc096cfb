"""Rejects, as people work with them: in pages, in a summary, as a file to correct, and the retry of failed chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from ingest.database import Database, Record
from ingest.errors import RequestError
from ingest.reject import MAX_RAW_BYTES
from ingest.rejectcsv import RejectLines
from ingest.spec import LoadSpec
from ingest.statements import statement

# Records of one piece of an export: with 4 KiB of each, a few MiB at most are held.
PIECE_RECORDS = 500
# Columns times codes, and combinations of columns: more than anybody reads.
MAX_GROUPS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectFilter:
    """Which reasons are wanted; None means any."""

    code: str | None = None
    column: str | None = None
    line: int | None = None
    resolved: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPage:
    """A page of reasons, by line. `after` continues behind the last one, None at the end.

    `total` reasons fit the filter; `stored` records are kept of all that were rejected.
    """

    items: list[dict[str, Any]]
    after: tuple[int, int] | None
    total: int
    stored: int


class Rejects:
    """The rejects in the database. Everything raises DatabaseError and is harmless to cancel."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, job_id: UUID, wanted: RejectFilter, *, limit: int, page: int = 1, after: tuple[int, int] = (0, 0)
    ) -> RejectPage:
        """Return the next `limit` reasons behind (line, id) `after`, or page number `page` of those."""
        filters = (wanted.code, wanted.column)
        rows = await self._database.fetch(
            statement("page_of_rejects"), job_id, limit + 1, (page - 1) * limit, *after, *filters, wanted.line,
            wanted.resolved,
        )  # fmt: skip
        last = rows[limit - 1] if len(rows) > limit else None
        return RejectPage(
            items=[_reject_from(row) for row in rows[:limit]],
            after=last and (last["line"], last["id"]),
            total=await self._database.value(
                statement("count_rejects"), job_id, *filters, wanted.line, wanted.resolved
            ),
            stored=await self._stored(job_id),
        )

    async def summary(self, job_id: UUID) -> dict[str, Any]:
        """Return the reasons by column and code, most frequent first, and how many rejected records are stored."""
        rows = await self._database.fetch(statement("summary_of_rejects"), job_id, MAX_GROUPS)
        return {"stored": await self._stored(job_id), "groups": [dict(row) for row in rows]}

    async def export(self, job_id: UUID, *, resolved: bool | None) -> RejectsFile:
        """Return the rejected records as a CSV file, to be iterated over. Raises RequestError (E_NOT_FOUND)."""
        spec = await self._database.value(statement("spec_of_job"), job_id)
        if spec is None:
            raise RequestError(f"there is no job {str(job_id)!r}", code="E_NOT_FOUND")
        return RejectsFile(self._database, job_id, RejectLines(LoadSpec.from_json(spec)), resolved)

    async def _stored(self, job_id: UUID) -> int:
        return int(await self._database.value(statement("count_stored_rejects"), job_id))


class RejectsFile:
    """A file of rejects in pieces of bytes, read once from begin to end.

    Between two pieces it holds neither a transaction nor a connection, however long its reader takes; it may be left at
    any time. Iteration raises DatabaseError, and RequestError (E_NOT_FOUND) when the job was deleted meanwhile.
    """

    def __init__(self, database: Database, job_id: UUID, lines: RejectLines, resolved: bool | None) -> None:
        self._database = database
        self._job_id = job_id
        self._lines = lines
        self._resolved = resolved
        self._line: int | None = None  # the last one written; None before the header
        self._ended = False

    def __aiter__(self) -> RejectsFile:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        rows = await self._database.fetch(
            statement("rejected_records"), self._job_id, self._line or 0, PIECE_RECORDS, self._resolved, MAX_RAW_BYTES
        )
        head = self._lines.header() if self._line is None else b""
        self._line = rows[-1]["line"] if rows else self._line or 0
        self._ended = len(rows) < PIECE_RECORDS
        if self._ended and await self._database.value(statement("spec_of_job"), self._job_id) is None:
            # What was read is a part that nobody could tell from the whole.
            raise RequestError("the job was deleted while its rejects were read", code="E_NOT_FOUND")
        return head + b"".join(map(self._lines.record, rows))


def _reject_from(row: Record) -> dict[str, Any]:
    reject = dict(row)
    del reject["id"]
    raw_bytes = reject.pop("raw_bytes")
    if raw_bytes is not None:
        reject["raw"] = raw_bytes.decode("utf-8", "backslashreplace")
    return reject
