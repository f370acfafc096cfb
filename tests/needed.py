"""Programs that tests need beside Python: where one is missing they are skipped with a line that says so; in CI they fail."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(text: str) -> NoReturn:
    """End the test that cannot run here; `text` says what is not there."""
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)
