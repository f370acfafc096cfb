"""The tests of the queue share a database, one after the other."""

from __future__ import annotations

import pytest

from tests.conftest import emptied


@pytest.fixture
def dsn(shared_dsn: str) -> str:
    """DSN of a migrated, empty database."""
    return emptied(shared_dsn)
