"""Idempotency keys: a request that is sent again makes no second job, whatever became of the first answer.

A key is held by the one request that is being served with it. Which of its files are in, the jobs themselves say: a job
carries its key from its first row on, and the commit that makes it claimable makes it the answer to the key, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import structlog
import trio

from ingest.database import Database
from ingest.digests import Digest, Hashes
from ingest.errors import DatabaseError, RequestError
from ingest.job import JobView
from ingest.jobs import Jobs
from ingest.statements import statement
from ingest.upload import BLOCK_BYTES

# How often the holder of a key says that it is alive, and after which silence it is taken for dead.
RENEW_S = 3.0
SILENCE_S = 15.0

# Files that are compared at once; hashing keeps a processor busy.
THREADS = 4

log = structlog.get_logger("ingest.idempotency")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestKey:
    """A key while its request is served. `parts`: how many files it has if all of them are in; then nobody holds it."""

    id: int
    holder: UUID
    parts: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierPart:
    """A file of the request that is in, as a job; `fingerprint` is what was asked, without the bytes."""

    job_id: UUID
    sha256: bytes
    fingerprint: bytes


class RequestKeys:
    """The keys in the database; each is forgotten `ttl_s` seconds after its first use."""

    def __init__(self, database: Database, *, ttl_s: float) -> None:
        self._database = database
        self._jobs = Jobs(database)
        self._ttl_s = ttl_s
        self._limiter = trio.CapacityLimiter(THREADS)

    async def begin(self, owner: str | None, key: str) -> RequestKey:
        """Take a key for a request; `end` must follow. Raises RequestError (E_KEY_BUSY) while another request has it.

        Cancelled, the key may be held until it is taken for dead, SILENCE_S later.
        """
        holder = uuid4()
        silence, ttl = timedelta(seconds=SILENCE_S), timedelta(seconds=self._ttl_s)
        (row,) = await self._database.fetch(statement("begin_request"), owner, key, holder, silence, ttl)
        if row["outcome"] == "busy":
            text = "a request with this Idempotency-Key is being received; ask again when it has ended"
            raise RequestError(text, code="E_KEY_BUSY")
        return RequestKey(id=row["held_key"], holder=holder, parts=row["parts"])

    async def renew(self, key: RequestKey) -> None:
        """Say every RENEW_S that the request is still being served, until cancelled."""
        while True:
            await trio.sleep(RENEW_S)
            try:
                await self._database.execute(statement("renew_request"), key.id, key.holder)
            except DatabaseError as error:
                log.warning("request_key_not_renewed", code=error.code)

    async def end(self, key: RequestKey, parts: int | None) -> None:
        """Let a key go: served, with so many files, or broken (None). One of which no file is in is free again."""
        if key.parts is not None:
            return  # nobody held it
        try:
            await self._database.value(statement("end_request"), key.id, key.holder, parts)
        except DatabaseError as error:
            log.warning("request_key_not_let_go", code=error.code)  # it will be taken for dead

    async def earlier(self, key: RequestKey, number: int) -> EarlierPart | None:
        """Return what file `number` of the request has become before; None when it is not in yet."""
        rows = await self._database.fetch(statement("job_of_request"), key.id, number)
        if not rows:
            return None
        row = rows[0]
        return EarlierPart(job_id=row["id"], sha256=row["sha256"], fingerprint=row["fingerprint"])

    def repetition(self, earlier: EarlierPart, digests: tuple[Digest, ...]) -> Repetition:
        """Return what takes the bytes of a file that is in."""
        return Repetition(earlier, digests, self._jobs, self._limiter)


class Repetition:
    """A file that is sent again: its bytes are compared and not stored. Fed as an `Upload` is."""

    def __init__(
        self, earlier: EarlierPart, digests: tuple[Digest, ...], jobs: Jobs, limiter: trio.CapacityLimiter
    ) -> None:
        self._earlier = earlier
        self._hashes = Hashes(digests)
        self._jobs = jobs
        self._limiter = limiter
        self._gathered = bytearray()

    async def feed(self, data: bytes) -> None:
        """Take the next bytes; waits for the thread once in a block, also when cancelled."""
        self._gathered += data
        if len(self._gathered) >= BLOCK_BYTES:
            await self._flush()

    async def finish(self) -> JobView:
        """Return the job as it is now. Raises RequestError: E_KEY_REUSED for other bytes, E_DIGEST, E_NOT_FOUND."""
        await self._flush()
        self._hashes.check()
        if self._hashes.sha256 != self._earlier.sha256:
            raise key_reused("its file had other bytes")
        view = await self._jobs.get(self._earlier.job_id)
        if view is None:
            raise RequestError(f"there is no job {str(self._earlier.job_id)!r} any more", code="E_NOT_FOUND")
        return view

    async def _flush(self) -> None:
        block, self._gathered = self._gathered, bytearray()
        await trio.to_thread.run_sync(self._hashes.update, block, limiter=self._limiter)


def key_reused(why: str) -> RequestError:
    """Return the refusal of a key that stands for another request."""
    return RequestError(f"this Idempotency-Key was used for another request: {why}", code="E_KEY_REUSED")
