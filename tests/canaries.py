"""What must never show: planted here, searched in all that any started process prints and in every error it answers.

A password in the database's URL, cells of the dirty files, and every API key that a test makes. A search is made when a
process has ended or an answer has come, so that the test in which something shows is the one that fails.
"""

from __future__ import annotations

import re

import httpx

from ingest.apikey import KEY

# The server of the tests trusts everybody and never asks for it.
PASSWORD = "planted-password-81c2"
# In cells good and bad.
CELL = "planted-cell-5d1e"

# The secrets of keys, which may show without their prefix.
_secrets: set[str] = set()

# A path is said back to who has asked for it.
ECHO = re.compile(r"there is no (job|upload) '[^']*'")


def plant_key(key: str) -> None:
    """Search for a key's secret from now on."""
    _secrets.add(key.split("_", 2)[2])


def search(text: str, where: str, *, cells: bool = True, keys: bool = True) -> None:
    """Fail when something planted shows in a text; `cells`, `keys`: whether these are searched for, too."""
    planted = [PASSWORD, *([CELL] if cells else []), *(_secrets if keys else [])]
    shown = [word for word in planted if word in text]
    if keys and "ing_" in text:
        shown += [found[0] for found in KEY.finditer(text)]
    if shown:
        at = text.index(shown[0])
        raise AssertionError(f"{where} shows {shown[0]!r}: ...{text[max(at - 200, 0) : at + 200]}...")


def search_answer(answer: httpx.Response) -> None:
    """Fail when an error's body shows something planted; what is no error is the caller's own data."""
    if answer.is_error:
        answer.read()
        search(ECHO.sub("", answer.text), f"{answer.request.method} {answer.request.url.path}: {answer.status_code}")


# For every client of the tests.
HOOKS = {"response": [search_answer]}
