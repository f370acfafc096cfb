"""A row of the database -> the job as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from ingest.database import Record
from ingest.job import JobState
from ingest.jobs import view_from

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = ("inserted", "updated", "unchanged", "skipped", "rejected")


def row(state: str = "processing", **changes: Any) -> Record:
    """A job that began ten seconds ago and has loaded 250 of its 1000 bytes: 20 rows in, 5 rejected."""
    values: dict[str, Any] = {
        "id": UUID(int=1), "dataset": "public.t", "filename": "f.csv", "state": state, "mode": "batches", "priority": 5,
        "bytes_total": 1010, "bytes_received": 1010, "bytes_loaded": 250, "bytes_to_load": 1000, "records": 100,
        "error_code": None, "error_message": None, "parent_id": None, "owner": None, "sha256": bytes(32), "created_at": NOW,
        "started_at": NOW, "finished_at": None, "updated_at": NOW, "read_at": NOW + timedelta(seconds=10),
        "resolved": 0, "chunks_pending": 1, "chunks_processing": 1, "chunks_completed": 0, "chunks_failed": 0,
        **dict.fromkeys(COUNTS, 0), **{f"{name}_now": 0 for name in COUNTS}, "inserted_now": 20, "rejected_now": 5,
    }  # fmt: skip
    return cast(Record, values | changes)


def test_a_running_job_shows_what_is_in_the_ledger() -> None:
    """Counts and progress come from committed batches, the pace from the time since the first claim."""
    view = view_from(row())
    assert (view.status, view.processed_rows, view.inserted_rows, view.failed_rows) == (JobState.PROCESSING, 20, 20, 5)
    assert (view.progress, view.rows_per_second, view.eta_seconds) == (0.25, 2.5, 30.0)
    assert view.chunks == {"pending": 1, "processing": 1, "completed": 0, "failed": 0}
    assert (view.bytes_processed, view.sha256, view.error) == (250, "00" * 32, None)


def test_a_completed_job_shows_its_totals() -> None:
    """What was written when it ended counts, not the sum over chunks that may have been pruned."""
    view = view_from(
        row(
            "completed",
            inserted=95,
            rejected=5,
            bytes_loaded=0,
            bytes_to_load=0,
            finished_at=NOW + timedelta(seconds=5),
        )
    )
    assert (view.processed_rows, view.failed_rows, view.progress) == (95, 5, 1.0)
    assert (view.bytes_processed, view.eta_seconds) == (1010, None)


def test_the_pace_of_a_job_that_has_ended_does_not_fall() -> None:
    """It is counted to its end, not to the moment somebody asks."""
    ended = row("completed", inserted=100, finished_at=NOW + timedelta(seconds=5), inserted_now=100, rejected_now=0)
    assert view_from(ended).rows_per_second == 20.0


@pytest.mark.parametrize("state", ["receiving", "pending"])
def test_a_job_that_has_not_begun_has_no_pace(state: str) -> None:
    """No rows per second out of nothing, and no division by zero."""
    view = view_from(row(state, started_at=None, bytes_loaded=0, inserted_now=0, rejected_now=0))
    assert (view.progress, view.rows_per_second, view.eta_seconds, view.processed_rows) == (0.0, None, None, 0)


def test_a_failed_job_says_why_and_how_far_it_came() -> None:
    """The error is whole, progress stays where it stopped."""
    view = view_from(
        row("failed", error_code="E_CHECK", error_message="no", inserted=20, finished_at=NOW + timedelta(seconds=5))
    )
    assert (view.error, view.progress, view.inserted_rows) == ({"code": "E_CHECK", "message": "no"}, 0.25, 20)


def test_skipped_rows_are_no_processed_rows() -> None:
    """A row that a trigger dropped is in neither the table nor the rejects."""
    view = view_from(row("completed", inserted=90, skipped=10, finished_at=NOW))
    assert (view.processed_rows, view.skipped_rows) == (90, 10)


@pytest.mark.parametrize(("state", "records", "codes"), [("completed", 0, ["W_NO_ROWS"]), ("completed", 1, []),
                                                         ("receiving", None, []), ("failed", 0, [])])  # fmt: skip
def test_a_load_of_nothing_is_completed_with_a_warning(state: str, records: int | None, codes: list[str]) -> None:
    """Nothing failed, but somebody may have exported too little."""
    assert [warning["code"] for warning in view_from(row(state, records=records)).warnings] == codes
