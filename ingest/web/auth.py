"""Keys and sessions of requests, checked. One that was checked lately costs no query; a wrong one a query and patience.

A session stands for the key it was begun with: it ends on its own, on demand, or with that key.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Protocol
from uuid import UUID

import structlog
import trio

from ingest.apikey import ApiKey, read_key
from ingest.errors import DatabaseError, RequestError
from ingest.keys import KeyRow
from ingest.session import SESSION_S, digest_of, new_token
from ingest.web.buckets import Buckets

# How long a key that was found good is not looked up again: the longest that a revoked one still works.
FRESH_S = 5.0
# Its use is written down at most so often.
NOTED_S = 60.0
# Keys and addresses that are remembered, a few MiB in all; beyond them the one not seen for longest is forgotten.
MOST_KEYS = 10_000
MOST_ADDRESSES = 10_000
# Wrong keys that an address may try at once, and how many a second after that.
WRONG_BURST, WRONG_RATE = 100.0, 1.0

log = structlog.get_logger("ingest.access")


class KeyRows(Protocol):
    """The keys in the database, and their sessions. Everything raises DatabaseError."""

    async def find(self, prefix: str) -> KeyRow | None: ...

    async def find_by_session(self, digest: bytes) -> KeyRow | None: ...

    async def begin_session(self, key_id: UUID, digest: bytes, life_s: float) -> None: ...

    async def end_session(self, digest: bytes) -> None: ...

    async def note_use(self, key_id: UUID) -> None: ...


class Proof(Protocol):
    """What a request has to show; `name` is what it is remembered by, the others are what is wrong with it."""

    unknown: ClassVar[str]
    expired: ClassVar[str]

    @property
    def name(self) -> str: ...

    def fits(self, row: KeyRow) -> bool: ...

    async def find(self, rows: KeyRows) -> KeyRow | None: ...


@dataclass(frozen=True, slots=True)
class ByKey:
    """A key itself."""

    unknown: ClassVar[str] = "the key is wrong"
    expired: ClassVar[str] = "the key has expired"
    key: ApiKey

    @property
    def name(self) -> str:
        """The public part of the key."""
        return self.key.prefix

    def fits(self, row: KeyRow) -> bool:
        """Whether the secret is the right one."""
        return self.key.proves(row.secret_sha256)

    async def find(self, rows: KeyRows) -> KeyRow | None:
        """Return the key with this prefix."""
        return await rows.find(self.key.prefix)


@dataclass(frozen=True, slots=True)
class BySession:
    """The token of a session."""

    unknown: ClassVar[str] = "the session has ended: sign in again"
    expired: ClassVar[str] = unknown
    digest: bytes

    @property
    def name(self) -> str:
        """The hash, which is no prefix of any key."""
        return self.digest.hex()

    def fits(self, row: KeyRow) -> bool:
        """Whatever is found by the hash of a token is the right one."""
        return True

    async def find(self, rows: KeyRows) -> KeyRow | None:
        """Return the key that the session was begun with."""
        return await rows.find_by_session(self.digest)


@dataclass(slots=True)
class Checked:
    """What was right. Times are the loop's."""

    row: KeyRow
    checked_at: float
    noted_at: float = -math.inf


class Authenticator:
    """Tells whose key, or whose session, a request has; begins and ends sessions."""

    def __init__(self, keys: KeyRows) -> None:
        self._keys = keys
        self._checked: OrderedDict[str, Checked] = OrderedDict()
        self._wrong = Buckets(MOST_ADDRESSES)
        self._requests = Buckets(MOST_KEYS)

    async def identify(self, text: str, address: str, *, again: bool = False) -> KeyRow:
        """Return the key that a client at `address` has sent, if it is good and has requests left this second.

        `again`: for a request that was let in and is still open; it does not count once more.
        Raises RequestError (E_KEY, E_THROTTLED, E_QUOTA), DatabaseError. Cancellation changes nothing.
        """
        key = read_key(text)
        if key is None:
            raise RequestError("this is not a key of this service: one begins with ing_", code="E_KEY")
        return await self._identify(ByKey(key), address, again=again)

    async def identify_session(self, token: str, address: str, *, again: bool = False) -> KeyRow:
        """Return the key of the session that a browser at `address` has; all else as for a key."""
        digest = digest_of(token)
        if digest is None:
            raise RequestError(BySession.unknown, code="E_KEY")
        return await self._identify(BySession(digest), address, again=again)

    async def begin_session(self, key_id: UUID) -> str:
        """Return the token of a new session of a key. Raises DatabaseError. Cancelled, nobody knows its token."""
        token = new_token()
        await self._keys.begin_session(key_id, digest_of(token) or b"", SESSION_S)
        return token

    async def end_session(self, token: str) -> None:
        """End a session, if it is one: here at once, in other processes within FRESH_S. Raises DatabaseError."""
        digest = digest_of(token)
        if digest is not None:
            await self._keys.end_session(digest)
            self._checked.pop(BySession(digest).name, None)

    async def _identify(self, proof: Proof, address: str, *, again: bool) -> KeyRow:
        checked = await self._lookup(proof, network_of(address))
        self._check_state(checked, proof)
        if not again:
            self._check_rate(checked.row)
        await self._note_use(checked)
        return checked.row

    async def _lookup(self, proof: Proof, network: str) -> Checked:
        known = self._checked.get(proof.name)
        if known is not None and proof.fits(known.row):
            self._checked.move_to_end(proof.name)
            await self._refresh(known, proof)
            return known
        self._check_patience(network)
        row = await proof.find(self._keys) if known is None else None
        if row is None or not proof.fits(row):
            self._wrong.take(network, rate=WRONG_RATE, burst=WRONG_BURST)
            log.info("key_refused", client=network)
            raise RequestError(proof.unknown, code="E_KEY")
        checked = self._checked[proof.name] = Checked(row, trio.current_time())
        if len(self._checked) > MOST_KEYS:
            self._checked.popitem(last=False)
        return checked

    async def _refresh(self, known: Checked, proof: Proof) -> None:
        now = trio.current_time()
        if now - known.checked_at < FRESH_S:
            return
        before, known.checked_at = known.checked_at, now  # of many requests at once, one asks
        row: KeyRow | None = None
        try:
            row = await proof.find(self._keys)
        finally:
            if row is None:
                known.checked_at = before
        if row is None:
            self._checked.pop(proof.name, None)
            raise RequestError(proof.unknown, code="E_KEY")
        known.row = row

    def _check_patience(self, network: str) -> None:
        wait_s = self._wrong.wait_s(network, rate=WRONG_RATE, burst=WRONG_BURST)
        if wait_s:
            text = "too many wrong keys came from this address"
            raise RequestError(text, code="E_THROTTLED", retry_after_s=math.ceil(wait_s))

    def _check_state(self, checked: Checked, proof: Proof) -> None:
        row = checked.row
        if row.revoked:
            raise RequestError("the key was revoked", code="E_KEY")
        if row.expires_in_s is not None and row.expires_in_s <= trio.current_time() - checked.checked_at:
            raise RequestError(proof.expired, code="E_KEY")

    def _check_rate(self, row: KeyRow) -> None:
        rate = row.requests_per_second
        wait_s = 0.0 if rate is None else self._requests.take(row.id, rate=rate, burst=max(rate, 1.0))
        if wait_s:
            text = f"the key makes more than its {rate:g} requests a second"
            raise RequestError(text, code="E_QUOTA", limit="requests_per_second", retry_after_s=math.ceil(wait_s))

    async def _note_use(self, checked: Checked) -> None:
        now = trio.current_time()
        if now - checked.noted_at < NOTED_S:
            return
        checked.noted_at = now
        try:
            await self._keys.note_use(checked.row.id)
        except DatabaseError as error:  # the request itself will meet it where it matters
            log.warning("key_use_not_noted", code=error.code)


def network_of(address: str) -> str:
    """Return what counts as one client: an IPv4 address, or the /64 of an IPv6 one, which one client has as a whole."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if found.version == 6:
        mapped = found.ipv4_mapped
        return str(mapped or ipaddress.ip_network((found, 64), strict=False))
    return str(found)
