"""The search for what must never show finds it."""

from __future__ import annotations

import httpx
import pytest

from ingest.apikey import new_key
from tests.canaries import CELL, HOOKS, PASSWORD, plant_key, search


@pytest.mark.parametrize("word", [PASSWORD, CELL, new_key().text], ids=["password", "cell", "key"])
def test_what_shows_is_found(word: str) -> None:
    with pytest.raises(AssertionError, match="the log shows"):
        search(f"a line\nanother {word}.", "the log")
    search("a line, ing_00_1", "the log")


def test_the_secret_of_a_key_that_was_made_is_found_alone() -> None:
    key = new_key()
    plant_key(key.text)
    with pytest.raises(AssertionError):
        search(key.secret, "the log")
    search(key.secret + CELL, "the log", cells=False, keys=False)
    search(key.prefix, "the log")


@pytest.mark.parametrize(("status", "fails"), [(200, False), (422, True), (500, True)])
def test_errors_are_searched_and_other_answers_are_not(status: int, fails: bool) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=CELL))
    with httpx.Client(transport=transport, base_url="http://a", event_hooks=HOOKS) as http:
        if fails:
            with pytest.raises(AssertionError, match=f"GET /x: {status} shows"):
                http.get("/x")
        else:
            assert http.get("/x").text == CELL
