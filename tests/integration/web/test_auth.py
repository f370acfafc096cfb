"""Keys of requests: what is asked of the database, what is remembered, and how long."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
import trio
from trio.testing import MockClock

from ingest.apikey import ApiKey, new_key
from ingest.caller import Scope
from ingest.errors import RequestError, UnavailableError
from ingest.keys import KeyRow
from ingest.session import new_token
from ingest.web import auth
from ingest.web.auth import FRESH_S, NOTED_S, WRONG_BURST, Authenticator, network_of

from .fakes import FakeKeys

HOME = "127.0.0.1"


def made(keys: FakeKeys, **changes: object) -> ApiKey:
    """Enter a key."""
    key = new_key()
    row = KeyRow(id=uuid4(), prefix=key.prefix, secret_sha256=key.digest, owner="ada", scopes=frozenset({Scope.READ}))
    keys.rows[key.prefix] = replace(row, **changes)  # type: ignore[arg-type]
    return key


async def refusal(authenticator: Authenticator, key: ApiKey, address: str = HOME) -> RequestError:
    """The error with which the key is refused."""
    with pytest.raises(RequestError) as caught:
        await authenticator.identify(key.text, address)
    return caught.value


async def test_a_key_in_use_costs_a_query_every_few_seconds(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    for _ in range(100):
        assert (await authenticator.identify(key.text, HOME)).owner == "ada"
    assert keys.calls == ["find", "note_use"]
    await trio.sleep(FRESH_S)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(authenticator.identify, key.text, HOME)
    assert keys.calls == ["find", "note_use", "find"]
    await trio.sleep(NOTED_S)
    await authenticator.identify(key.text, HOME)
    assert keys.calls.count("note_use") == 2


async def test_a_revoked_key_is_refused_within_seconds(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    await authenticator.identify(key.text, HOME)
    keys.rows[key.prefix] = replace(keys.rows[key.prefix], revoked=True)
    await trio.sleep(FRESH_S)
    assert (await refusal(authenticator, key)).code == "E_KEY"
    del keys.rows[key.prefix]
    await trio.sleep(FRESH_S)
    assert (await refusal(authenticator, key)).code == "E_KEY"


async def test_a_key_expires_at_its_moment_though_it_is_remembered(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    key, authenticator = made(keys, expires_in_s=FRESH_S / 2), Authenticator(keys)
    await authenticator.identify(key.text, HOME)
    await trio.sleep(FRESH_S / 2)
    assert "expired" in (await refusal(authenticator, key)).detail


async def test_an_unreachable_database_lets_nobody_in_and_is_asked_again(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    await authenticator.identify(key.text, HOME)
    await trio.sleep(FRESH_S)
    keys.failure = UnavailableError("away")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await authenticator.identify(key.text, HOME)
    keys.failure = None
    assert (await authenticator.identify(key.text, HOME)).owner == "ada"


async def test_wrong_keys_are_throttled_by_address_and_good_ones_are_not(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    other = made(keys)
    await authenticator.identify(key.text, HOME)
    for _ in range(int(WRONG_BURST)):
        assert (await refusal(authenticator, new_key())).code == "E_KEY"
    asked = len(keys.calls)
    for _ in range(50):
        assert (await refusal(authenticator, new_key())).code == "E_THROTTLED"
        await authenticator.identify(key.text, HOME)  # is known to be good
    assert len(keys.calls) == asked
    assert (await refusal(authenticator, other)).facts["retry_after_s"] == 1
    await authenticator.identify(other.text, "192.0.2.1")  # from elsewhere
    await trio.sleep(1)
    assert (await refusal(authenticator, new_key())).code == "E_KEY"


async def test_a_wrong_secret_for_a_known_key_costs_no_query() -> None:
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    await authenticator.identify(key.text, HOME)
    asked = len(keys.calls)
    assert (await refusal(authenticator, replace(key, secret=new_key().secret))).code == "E_KEY"
    assert len(keys.calls) == asked
    await authenticator.identify(key.text, HOME)


async def test_requests_a_second_are_held_by_key(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    slow, other, authenticator = made(keys, requests_per_second=0.5), made(keys), Authenticator(keys)
    await authenticator.identify(slow.text, HOME)
    error = await refusal(authenticator, slow)
    assert (error.code, error.facts) == ("E_QUOTA", {"limit": "requests_per_second", "retry_after_s": 2})
    await authenticator.identify(other.text, HOME)
    await trio.sleep(2)
    await authenticator.identify(slow.text, HOME)


async def test_a_session_in_use_costs_a_query_every_few_seconds(autojump_clock: MockClock) -> None:
    keys = FakeKeys()
    made(keys)
    [row] = keys.rows.values()
    authenticator = Authenticator(keys)
    token = await authenticator.begin_session(row.id)
    for _ in range(100):
        assert await authenticator.identify_session(token, HOME) == row
    assert keys.calls == ["begin_session", "find_by_session", "note_use"]
    await trio.sleep(FRESH_S)
    await authenticator.identify_session(token, HOME)
    assert keys.calls.count("find_by_session") == 2


async def test_a_session_that_was_ended_elsewhere_ends_within_seconds(autojump_clock: MockClock) -> None:
    """And here at once, though it was checked a moment ago."""
    keys = FakeKeys()
    made(keys)
    [row] = keys.rows.values()
    here, there = Authenticator(keys), Authenticator(keys)
    token = await here.begin_session(row.id)
    for one in (here, there):
        await one.identify_session(token, HOME)
    await here.end_session(token)
    with pytest.raises(RequestError, match="session has ended"):
        await here.identify_session(token, HOME)
    await there.identify_session(token, HOME)
    await trio.sleep(FRESH_S)
    with pytest.raises(RequestError, match="session has ended"):
        await there.identify_session(token, HOME)


async def test_a_token_is_no_key_and_a_key_no_token(autojump_clock: MockClock) -> None:
    """Tokens that were never given out cost patience as wrong keys do; what cannot be one costs no query."""
    keys = FakeKeys()
    key, authenticator = made(keys), Authenticator(keys)
    for wrong in ("", key.text, key.prefix, "x" * 42, "\u0661" * 43):
        with pytest.raises(RequestError, match="session has ended"):
            await authenticator.identify_session(wrong, HOME)
    assert keys.calls == []
    for _ in range(int(WRONG_BURST)):
        with pytest.raises(RequestError, match="session has ended"):
            await authenticator.identify_session(new_token(), HOME)
    with pytest.raises(RequestError, match="too many"):
        await authenticator.identify_session(new_token(), HOME)


async def test_memory_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MOST_KEYS", 10)
    keys = FakeKeys()
    authenticator, many = Authenticator(keys), [made(keys) for _ in range(30)]
    for key in many:
        await authenticator.identify(key.text, HOME)
    asked = keys.calls.count("find")
    for key in many[-10:]:
        await authenticator.identify(key.text, HOME)
    assert keys.calls.count("find") == asked
    await authenticator.identify(many[0].text, HOME)
    assert keys.calls.count("find") == asked + 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("x", "x"),
    ],
)
def test_a_client_is_its_address_or_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
