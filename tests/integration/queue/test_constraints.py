"""The tables hold their own rules, whoever writes to them."""

from __future__ import annotations

import pytest

from ingest.database import Database
from ingest.errors import RowError
from tests.integration.build import cut, make_job, numbers

JOBS = [
    ("state = 'sleeping'", "jobs_state_check"),
    ("mode = 'quick'", "jobs_mode_check"),
    ("priority = 10", "jobs_priority_check"),
    ("priority = -1", "jobs_priority_check"),
    ("sha256 = '\\x00'", "jobs_sha256_check"),
    ("bytes_total = -1", "jobs_bytes_total_check"),
    ("bytes_received = -1", "jobs_bytes_received_check"),
    ("records = -1", "jobs_records_check"),
    ("state = 'completed', inserted = 10", "finished_if_final"),
    ("finished_at = now()", "finished_if_final"),
    ("state = 'failed', finished_at = now()", "failed_has_reason"),
    ("state = 'completed', finished_at = now(), inserted = 9", "completed_adds_up"),
]
CHUNKS = [
    ("state = 'paused'", "chunks_state_check"),
    ("ordinal = -1", "chunks_ordinal_check"),
    ("length_bytes = 0, batch_ends = '{0}'", "chunks_length_bytes_check"),
    ("object_offset = -1", "chunks_object_offset_check"),
    ("file_offset = -1", "chunks_file_offset_check"),
    ("first_line = 0", "chunks_first_line_check"),
    ("records = -1", "chunks_records_check"),
    ("batch_ends = '{}'", "batches_are_parallel"),
    ("batch_lines = '{1,2}'", "batches_are_parallel"),
    ("batch_records = '{}'", "batches_are_parallel"),
    ("length_bytes = 5", "batches_are_parallel"),
    ("state = 'processing'", "claimed_if_processing"),
    ("state = 'failed'", "finished_if_final"),
    ("finished_at = now()", "finished_if_final"),
    ("state = 'completed', finished_at = now(), inserted = 9", "completed_adds_up"),
]


@pytest.mark.parametrize(("table", "changes"), [("jobs", JOBS), ("chunks", CHUNKS)])
async def test_a_row_that_makes_no_sense_is_refused(
    database: Database, table: str, changes: list[tuple[str, str]]
) -> None:
    """Each rule has its name, which the error gives."""
    await make_job(database, [cut(numbers(10))])
    for change, constraint in changes:
        with pytest.raises(RowError) as raised:
            await database.execute(f"UPDATE ingest.{table} SET {change}")
        assert (raised.value.sqlstate, raised.value.constraint) == ("23514", constraint), change


@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("0, 0, 2, 0, 0, 0, 1", "ledger_check"),
        ("0, 10, 2, 5, 4, 0, 1", "adds_up"),
        ("0, 10, 2, 5, 4, 2, 1", "adds_up"),
    ],
)
async def test_a_ledger_line_that_does_not_add_up_is_refused(database: Database, values: str, constraint: str) -> None:
    """The last guard of the accounting."""
    await make_job(database, [cut(numbers(10))])
    with pytest.raises(RowError) as raised:
        await database.execute(
            "INSERT INTO ingest.ledger (chunk_id, byte_start, byte_end, first_line, records, inserted, rejected, epoch)"
            f" SELECT id, {values} FROM ingest.chunks"
        )
    assert raised.value.constraint == constraint


async def test_a_job_takes_everything_of_it_along(database: Database) -> None:
    """Chunks, leases and ledger lines go with their job."""
    await make_job(database, [cut(numbers(10))])
    await database.fetch("SELECT * FROM ingest.claim_chunks(gen_random_uuid(), 'default', 1)")
    await database.execute("SELECT ingest.commit_batch(id, 1, 0, 20, 2, 10, 10, 0, 0, 0, 0) FROM ingest.chunks")
    await database.execute("DELETE FROM ingest.jobs")
    for table in ("chunks", "leases", "ledger"):
        assert await database.value(f"SELECT count(*) FROM ingest.{table}") == 0
