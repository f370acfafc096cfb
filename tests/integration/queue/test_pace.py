"""How fast a job is and how far it has come, from what is committed."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from ingest.database import Database
from ingest.jobs import Jobs
from ingest.queue import Queue
from tests.conftest import Psql
from tests.integration.build import cut, make_job, numbers
from tests.integration.queue.test_endings import commit

DATA = numbers(20)


async def test_the_pace_is_that_of_what_was_committed_lately(database: Database, psql: Psql) -> None:
    """By chunks that are at work or have just ended; what ended before does not count, nor does a time without work."""
    queue, jobs = Queue(database, uuid4()), Jobs(database)
    job_id = await make_job(database, [cut(DATA)] * 3)
    old, new, running = await queue.claim(3)
    for chunk in (old, new):
        await commit(database, chunk)
        await queue.finish(chunk)
    await commit(database, running, 0)
    psql("update ingest.jobs set started_at = now() - interval '1 day'")
    psql("update ingest.chunks set claimed_at = now() - interval '10 s'")
    psql(f"update ingest.chunks set finished_at = now() - interval '1 hour' where id = {old.id}")
    found = await jobs.get(job_id)
    assert found is not None
    rows = sum(new.cut.records) + running.cut.records[0]
    assert found.rows_per_second == pytest.approx(rows / 10, rel=0.3)
    left = sum(chunk.cut.length_bytes for chunk in (old, new, running)) * (1 - found.progress)
    recent = new.cut.length_bytes + running.cut.ends[0]
    assert found.eta_seconds == pytest.approx(left / recent * 10, rel=0.3)
    psql("update ingest.ledger set committed_at = now() - interval '31 s'")
    stalled = await jobs.get(job_id)
    assert stalled is not None
    assert (stalled.rows_per_second, stalled.eta_seconds, stalled.progress) == (0.0, None, found.progress)
    assert await queue.release(running)
    psql("update ingest.chunks set finished_at = now() - interval '1 hour' where state = 'completed'")
    waiting = await jobs.get(job_id)
    assert waiting is not None
    assert (waiting.rows_per_second, waiting.eta_seconds, waiting.progress) == (None, None, found.progress)


async def test_the_service_as_a_whole_has_a_pace(database: Database, psql: Psql) -> None:
    """Over all its jobs."""
    queue = Queue(database, uuid4())
    for _ in range(2):
        await make_job(database, [cut(DATA)])
    for chunk in await queue.claim(2):
        await commit(database, chunk)
    psql("update ingest.chunks set claimed_at = now() - interval '10 s'")
    statistics = await Jobs(database).statistics()
    assert statistics["rows_per_second"] == pytest.approx(4.0, rel=0.3)
    assert statistics["queue"]["processing"] == 2


async def test_the_progress_of_a_whole_does_not_fall_with_its_next_try(database: Database, psql: Psql) -> None:
    """It stands until the next try has come as far; a retry that people ask for begins anew."""
    queue, jobs = Queue(database, uuid4()), Jobs(database)
    job_id = await make_job(database, [replace(cut(DATA), ordinal=1)])
    psql("update ingest.jobs set mode = 'atomic'")
    shown = []
    for bytes_tried in (30, 10, 40):
        [lead] = await queue.claim(1)
        await queue.begin_whole(lead)
        await queue.note_progress(lead, bytes_tried)
        view = await jobs.get(job_id)
        assert view is not None
        shown.append(view.bytes_processed)
        assert await queue.release(lead)
    assert shown == [30, 30, 40]
    psql("update ingest.chunks set state = 'failed', finished_at = now()")
    psql("update ingest.jobs set state = 'failed', error_code = 'E_DISK', finished_at = now()")
    psql(f"select ingest.retry_job('{job_id}', array(select id from ingest.chunks), null)")
    assert psql("select bytes_tried from ingest.jobs") == "0"
