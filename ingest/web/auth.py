"""Keys of requests, checked. A key that was checked lately costs no query; a wrong one costs a query and patience."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import structlog
import trio

from ingest.apikey import ApiKey, read_key
from ingest.errors import DatabaseError, RequestError
from ingest.keys import KeyRow
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
    """The keys in the database. Everything raises DatabaseError."""

    async def find(self, prefix: str) -> KeyRow | None: ...

    async def note_use(self, key_id: UUID) -> None: ...


@dataclass(slots=True)
class Checked:
    """A key whose secret was right. Times are the loop's."""

    row: KeyRow
    checked_at: float
    noted_at: float = -math.inf


class Authenticator:
    """Tells whose key a request has."""

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
        checked = await self._lookup(key, network_of(address))
        self._check_state(checked)
        if not again:
            self._check_rate(checked.row)
        await self._note_use(checked)
        return checked.row

    async def _lookup(self, key: ApiKey, network: str) -> Checked:
        known = self._checked.get(key.prefix)
        if known is not None and key.proves(known.row.secret_sha256):
            self._checked.move_to_end(key.prefix)
            await self._refresh(known)
            return known
        self._check_patience(network)
        row = await self._keys.find(key.prefix) if known is None else None
        if row is None or not key.proves(row.secret_sha256):
            self._wrong.take(network, rate=WRONG_RATE, burst=WRONG_BURST)
            log.info("key_refused", client=network)
            raise RequestError("the key is wrong", code="E_KEY")
        checked = self._checked[key.prefix] = Checked(row, trio.current_time())
        if len(self._checked) > MOST_KEYS:
            self._checked.popitem(last=False)
        return checked

    async def _refresh(self, known: Checked) -> None:
        now = trio.current_time()
        if now - known.checked_at < FRESH_S:
            return
        before, known.checked_at = known.checked_at, now  # of many requests at once, one asks
        row: KeyRow | None = None
        try:
            row = await self._keys.find(known.row.prefix)
        finally:
            if row is None:
                known.checked_at = before
        if row is None:
            self._checked.pop(known.row.prefix, None)
            raise RequestError("the key does not exist any more", code="E_KEY")
        known.row = row

    def _check_patience(self, network: str) -> None:
        wait_s = self._wrong.wait_s(network, rate=WRONG_RATE, burst=WRONG_BURST)
        if wait_s:
            text = "too many wrong keys came from this address"
            raise RequestError(text, code="E_THROTTLED", retry_after_s=math.ceil(wait_s))

    def _check_state(self, checked: Checked) -> None:
        row = checked.row
        if row.revoked:
            raise RequestError("the key was revoked", code="E_KEY")
        if row.expires_in_s is not None and row.expires_in_s <= trio.current_time() - checked.checked_at:
            raise RequestError("the key has expired", code="E_KEY")

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
