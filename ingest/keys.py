"""API keys in the database: made, found, revoked, what they have used, and the sessions that were begun with them.

Checking a request is the web's matter.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from ingest.apikey import ApiKey, new_key
from ingest.caller import Caller, Scope
from ingest.database import Database
from ingest.errors import RequestError, SettingsError
from ingest.settings import Settings
from ingest.statements import statement


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What a key may use; None is no limit. `open_jobs` counts jobs that have not ended."""

    bytes_per_day: int | None = None
    open_jobs: int | None = None
    requests_per_second: float | None = None
    jobs_per_second: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key as the database knows it at one moment. `expires_in_s` is None when it never expires."""

    id: UUID
    prefix: str
    secret_sha256: bytes = field(repr=False)
    owner: str
    scopes: frozenset[Scope]
    revoked: bool = False
    expires_in_s: float | None = None
    bytes_per_day: int | None = None
    requests_per_second: float | None = None

    @property
    def caller(self) -> Caller:
        """Whoever holds the key."""
        return Caller(key_id=self.id, owner=self.owner, scopes=self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Bytes that may be sent: `granted` now, `remaining` after them, both of `day`, which ends in `resets_in_s`."""

    granted: int
    remaining: int | None
    day: date
    resets_in_s: int


class Keys:
    """The keys in the database. Everything raises DatabaseError; cancelled, a change has happened or it has not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, *, owner: str, scopes: Collection[Scope], expires_in: timedelta | None, limits: KeyLimits
    ) -> ApiKey:
        """Make a key and return it; its secret can never be read again."""
        key = new_key()
        await self._database.execute(
            statement("create_key"),
            key.prefix, key.digest, owner, sorted(scopes), expires_in, limits.bytes_per_day, limits.open_jobs,
            limits.requests_per_second, limits.jobs_per_second,
        )  # fmt: skip
        return key

    async def find(self, prefix: str) -> KeyRow | None:
        """Return the key with this prefix, whatever its state, or None."""
        return await self._one(statement("key_by_prefix"), prefix)

    async def find_by_session(self, digest: bytes) -> KeyRow | None:
        """Return the key of the session with this hash, which ends when the session does; None without one."""
        return await self._one(statement("key_by_session"), digest)

    async def _one(self, query: str, wanted: str | bytes) -> KeyRow | None:
        rows = await self._database.fetch(query, wanted)
        if not rows:
            return None
        return KeyRow(**{**dict(rows[0]), "scopes": frozenset(map(Scope, rows[0]["scopes"]))})

    async def begin_session(self, key_id: UUID, digest: bytes, life_s: float) -> None:
        """Let the token with this hash stand for a key; of a key's hundred sessions the oldest makes room."""
        await self._database.execute(statement("begin_session"), key_id, digest, timedelta(seconds=life_s))

    async def end_session(self, digest: bytes) -> None:
        """End the session with this hash, if there is one."""
        await self._database.execute(statement("end_session"), digest)

    async def all(self) -> list[dict[str, Any]]:
        """Return every key that was ever made, oldest first, without anything secret."""
        return [dict(row) for row in await self._database.fetch(statement("list_keys"))]

    async def revoke(self, prefix: str) -> None:
        """End a key for good. Raises RequestError (E_NOT_FOUND)."""
        if await self._database.value(statement("revoke_key"), prefix) is None:
            raise RequestError(f"there is no key {prefix!r}", code="E_NOT_FOUND")

    async def any_usable(self) -> bool:
        """Say whether there is a key that would be accepted now."""
        return bool(await self._database.value(statement("has_keys")))

    async def note_use(self, key_id: UUID) -> None:
        """Write down that a key is in use, unless that was done within the last minute."""
        await self._database.execute(statement("note_key_use"), key_id)

    async def take_bytes(self, key_id: UUID, want: int) -> Grant:
        """Take up to `want` bytes of what the key may send today; they are counted as sent."""
        rows = await self._database.fetch(statement("take_bytes"), key_id, want)
        return Grant(**dict(rows[0]))

    async def give_back_bytes(self, key_id: UUID, day: date, unused: int) -> None:
        """Give back bytes that were taken on `day` and not sent."""
        await self._database.execute(statement("give_back_bytes"), key_id, day, unused)

    async def owner_of_job(self, job_id: UUID) -> str | None:
        """Return whose a job is; None when it is nobody's or does not exist."""
        owner: str | None = await self._database.value(statement("owner_of_job"), job_id)
        return owner


async def check_reachable(settings: Settings, keys: Keys) -> None:
    """Raise SettingsError when the API would listen beyond loopback and nobody could have a key for it."""
    if settings.keys_required and not settings.on_loopback and not await keys.any_usable():
        raise SettingsError(
            f"HOST={settings.host}: the API would be reachable from outside and there is no API key yet; make one with "
            "`ingest keys create --owner NAME --scope admin`, or bind to 127.0.0.1, or set INGEST_AUTH=off behind a "
            "proxy that authenticates"
        )
