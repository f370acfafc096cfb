"""API keys as text: made, read, proved."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from ingest.apikey import SECRET_BYTES, new_key, read_key
from ingest.caller import ANYBODY, NOBODY, Caller, Scope


def test_a_key_is_read_back_and_proved_by_its_secret_alone() -> None:
    key = new_key()
    assert read_key(key.text) == key
    assert key.proves(key.digest)
    assert not key.proves(new_key().digest)
    assert key.text.startswith(f"ing_{key.prefix}_")


def test_keys_are_random_and_long_enough() -> None:
    assert SECRET_BYTES * 8 >= 192
    keys = [new_key() for _ in range(1000)]
    assert len({key.prefix for key in keys}) == len({key.secret for key in keys}) == 1000


def test_a_secret_is_not_shown_by_accident() -> None:
    key = new_key()
    assert key.secret not in repr(key)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "x", lambda t: t.upper(), lambda t: " " + t, lambda t: ""]
)
def test_another_text_is_no_key(change) -> None:  # type: ignore[no-untyped-def]
    assert read_key(change(new_key().text)) is None


def test_who_sees_what() -> None:
    ada = Caller(owner="ada", scopes=frozenset({Scope.READ}))
    assert ada.sees("ada")
    assert not ada.sees("grace")
    assert not ada.sees(None)
    assert not NOBODY.sees(None)
    assert ANYBODY.sees(None)
    assert ANYBODY.sees("ada")
    assert (ada.only_owner, ANYBODY.only_owner, NOBODY.only_owner) == ("ada", None, "")


@pytest.mark.parametrize("caller", [ANYBODY, NOBODY, Caller(key_id=uuid4(), owner="ada", scopes=frozenset(Scope))])
def test_a_caller_is_kept_as_json(caller: Caller) -> None:
    assert Caller.from_json(json.loads(json.dumps(caller.to_json()))) == caller


def test_admin_may_everything_and_nobody_nothing() -> None:
    for scope in Scope:
        assert ANYBODY.may(frozenset({scope}))
        assert not NOBODY.may(frozenset({scope}))
