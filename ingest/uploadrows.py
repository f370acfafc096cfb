"""Resumable uploads as the database has them. A change names the request that holds the upload, or does not happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from ingest.compression import Compression
from ingest.database import Database, Record
from ingest.errors import IngestError, RequestError
from ingest.job import FINAL, JobState
from ingest.jobs import duplicate_file
from ingest.spec import LoadSpec
from ingest.statements import statement
from ingest.uploadoptions import UploadOptions

# Uploads that may be open at once, of all clients together: rows and empty files that cost a client nothing.
MOST_OPEN = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRow:
    """A resumable upload: `length` None until the client has said it, `received` the bytes that are safe."""

    id: UUID
    job_id: UUID
    length: int | None
    received: int
    options: UploadOptions
    metadata: str  # as the client sent it
    expires_at: datetime
    completed: bool
    has_job: bool = False

    @property
    def whole(self) -> bool:
        """Whether all bytes are there."""
        return self.received == self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSoFar:
    """How far an upload's job is: its pinned spec, and where the chunk after the last one (`ordinal`) begins.

    `offset` and `line` are 0 before the first chunk. `behind`: the table has ended.
    """

    spec: LoadSpec
    compression: Compression | None
    ordinal: int
    offset: int
    line: int
    records: int
    behind: bool = False


class UploadRows:
    """The table of resumable uploads. Everything raises DatabaseError."""

    def __init__(self, database: Database, *, life_s: float) -> None:
        self._database = database
        self._life = timedelta(seconds=life_s)

    async def create(
        self, upload_id: UUID, job_id: UUID, length: int | None, options: UploadOptions, metadata: str
    ) -> UploadRow:
        """Write a new upload. Raises RequestError (E_TOO_MANY_UPLOADS) when MOST_OPEN are open."""
        rows = await self._database.fetch(
            statement("create_upload"), upload_id, job_id, length, options.to_json(), metadata, self._life, MOST_OPEN
        )
        if not rows:
            raise RequestError(f"{MOST_OPEN} uploads are open already; try again later", code="E_TOO_MANY_UPLOADS")
        return _row_from(rows[0])

    async def find(self, upload_id: UUID) -> UploadRow:
        """Return an upload. Raises RequestError: E_NOT_FOUND, E_UPLOAD_ENDED when it was refused or has expired."""
        rows = await self._database.fetch(statement("upload_by_id"), upload_id)
        if not rows:
            raise no_upload(upload_id)
        row = rows[0]
        if row["error_code"]:
            text = f"nothing more is taken for this upload: {row['error_message']}"
            raise RequestError(text, code="E_UPLOAD_ENDED", reason=row["error_code"])
        if row["expired"]:
            raise RequestError("the upload was not completed in time; send the file again", code="E_UPLOAD_ENDED")
        return _row_from(row, has_job=row["has_job"])

    async def hold(self, upload_id: UUID, holder: UUID) -> bool:
        """Let `holder` alone change the upload from now on; False when it is not open any more."""
        return await self._database.value(statement("hold_upload"), upload_id, holder) is not None

    async def taken(self, holders: Mapping[UUID, UUID]) -> list[UUID]:
        """Return which uploads another request has taken from these holders, or that are not open any more."""
        rows = await self._database.fetch(statement("uploads_taken"), list(holders), list(holders.values()))
        return [row["id"] for row in rows]

    async def cut_so_far(self, job_id: UUID) -> CutSoFar | None:
        """Return how far a job is cut, None before it was written.

        Raises RequestError (E_UPLOAD_ENDED) after its end.
        """
        rows = await self._database.fetch(statement("cut_so_far"), job_id)
        if not rows:
            return None
        row = rows[0]
        if row["state"] in FINAL:
            raise RequestError(f"the job of this upload is {JobState(row['state'])}", code="E_UPLOAD_ENDED")
        return CutSoFar(
            spec=LoadSpec.from_json(row["spec"]),
            compression=None if row["compression"] is None else Compression(row["compression"]),
            ordinal=row["ordinal"],
            offset=row["cut_to"] or 0,
            line=row["line"] or 0,
            records=row["records"],
            behind=row["behind"],
        )

    async def set_length(self, upload_id: UUID, holder: UUID, length: int) -> bool:
        """Note the length that was deferred; False when it is known already or less than what has come."""
        return await self._database.value(statement("set_upload_length"), upload_id, holder, length) is not None

    async def advance(self, upload_id: UUID, holder: UUID, start: int, end: int) -> datetime:
        """Note that the bytes up to `end` are safe; return when the upload expires now.

        Raises RequestError (E_UPLOAD_TAKEN).
        """
        found: datetime | None = await self._database.value(
            statement("advance_upload"), upload_id, holder, start, end, self._life
        )
        if found is None:
            raise taken_over()
        return found

    async def whole(self, most: int) -> list[UUID]:
        """Return uploads of which all bytes are there, and that somebody is to finish."""
        return [row["id"] for row in await self._database.fetch(statement("whole_uploads"), most)]

    async def renew(self, upload_id: UUID, holder: UUID) -> None:
        """Let an upload live on while somebody is at work on it. Raises RequestError (E_UPLOAD_TAKEN)."""
        if await self._database.value(statement("renew_upload"), upload_id, holder, self._life) is None:
            raise taken_over()

    async def cut_anew(self, upload_id: UUID, holder: UUID) -> None:
        """Forget the chunks of an upload, none of which can have been claimed. Raises RequestError (E_UPLOAD_TAKEN)."""
        if not await self._database.value(statement("cut_anew"), upload_id, holder):
            raise taken_over()

    async def finish(self, upload_id: UUID, holder: UUID, *, length: int, sha256: bytes, records: int) -> None:
        """Make the job claimable.

        Raises RequestError: E_UPLOAD_TAKEN; E_UPLOAD_GONE, E_DUPLICATE as `Jobs.complete_upload` does; E_UPLOAD_ENDED
        when the database has crashed since and has forgotten chunks.
        """
        (row,) = await self._database.fetch(statement("finish_upload"), upload_id, holder, length, sha256, records)
        if row["outcome"] == "duplicate":
            raise duplicate_file(row["duplicate"])
        if row["outcome"] == "incomplete":
            raise RequestError("the database has forgotten parts of the file; send it again", code="E_UPLOAD_ENDED")
        if row["outcome"] == "gone":
            raise RequestError("the job no longer takes data", code="E_UPLOAD_GONE")
        if row["outcome"] != "complete":
            raise taken_over()

    async def is_needed(self, job_id: UUID) -> bool:
        """Say whether anybody may still read the objects of a job, or write to its upload."""
        rows = await self._database.fetch(statement("jobs_with_objects"), [job_id])
        return any(row["needed"] for row in rows)

    async def refuse(self, upload_id: UUID, holder: UUID, error: IngestError) -> bool:
        """End an upload whose file cannot be loaded, and its job; False when the upload is another request's by now."""
        return bool(await self._database.value(statement("refuse_upload"), upload_id, holder, error.code, error.detail))

    async def remove(self, upload_id: UUID) -> bool:
        """Forget an upload, and fail its job unless it is complete; True when its bytes are nobody's now."""
        state = await self._database.value(
            statement("remove_upload"), upload_id, "E_UPLOAD_TERMINATED", "the client gave the upload up"
        )
        return state is not None and state != "completed"


def no_upload(upload_id: object) -> RequestError:
    """Return the refusal of an upload that does not exist, or not for the caller."""
    return RequestError(f"there is no upload {str(upload_id)[:100]!r}", code="E_NOT_FOUND")


def taken_over() -> RequestError:
    """Return what a request is told whose upload another one has taken over."""
    return RequestError("another request has taken this upload over, or it has ended", code="E_UPLOAD_TAKEN")


def _row_from(row: Record, *, has_job: bool = False) -> UploadRow:
    return UploadRow(
        id=row["id"],
        job_id=row["job_id"],
        length=row["length"],
        received=row["received"],
        options=UploadOptions.from_json(row["options"]),
        metadata=row["metadata"],
        expires_at=row["expires_at"],
        completed=row["state"] == "completed",
        has_job=has_job,
    )
