"""The census counts what the database holds, and no more often than it should."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ingest.census import KEEP_S, SHARE, Census, Counts
from ingest.database import Database
from ingest.errors import UnavailableError
from tests.integration.build import cut, make_job, receive


async def test_it_counts_jobs_and_chunks_by_state(database: Database) -> None:
    """States without any are left out."""
    await receive(database, [cut(b"1\n2\n")])
    await make_job(database, [cut(b"1\n"), cut(b"2\n")])
    found = await Census(database).counts()
    assert (found.jobs, found.chunks) == ({"receiving": 1, "pending": 1}, {"receiving": 1, "pending": 2})
    assert 0 <= found.oldest_age_s < 60


class SlowDatabase:
    """Takes its time for each statement, and counts them; raises `failure` when it is set."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked = 0
        self.failure: UnavailableError | None = None

    async def fetch(self, sql: str, *args: object) -> list[dict[str, object]]:
        """Answer."""
        self.asked += 1
        await trio.sleep(self.seconds)
        if self.failure is not None:
            raise self.failure
        return [{"state": "pending", "count": 1, "oldest_age_s": -1.0}]


@pytest.mark.parametrize(("seconds", "kept_s"), [(0.0, KEEP_S), (1.0, 3 / SHARE)])
async def test_a_count_is_kept_for_a_while(
    autojump_clock: trio.testing.MockClock, seconds: float, kept_s: float
) -> None:
    """For longer when counting takes long."""
    database = SlowDatabase(seconds)
    census = Census(database)  # type: ignore[arg-type]  # the one method that it needs

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(census.counts)
    assert database.asked == 3
    await trio.sleep(kept_s - 0.01)
    assert await census.counts() == Counts(jobs={"pending": 1}, chunks={"pending": 1}, oldest_age_s=0)
    assert database.asked == 3
    await trio.sleep(0.01)
    await census.counts()
    assert database.asked == 6


async def test_a_count_that_failed_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    """By whoever asks next."""
    database = SlowDatabase(0)
    database.failure = UnavailableError("away")
    census = Census(database)  # type: ignore[arg-type]  # the one method that it needs
    with pytest.raises(UnavailableError):
        await census.counts()
    database.failure = None
    assert (await census.counts()).jobs == {"pending": 1}
