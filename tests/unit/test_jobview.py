"""A row of the database -> the job as the API shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest

from ingest.database import Record
from ingest.job import JobState
from ingest.jobviews import view_from

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNTS = ("inserted", "updated", "unchanged", "skipped", "rejected")


def row(state: str = "processing", **changes: Any) -> Record:
    """A job that began ten seconds ago and has loaded 250 of its 1000 bytes: 20 rows in, 5 rejected."""
    values: dict[str, Any] = {
        "id": UUID(int=1), "dataset": "public.t", "filename": "f.csv", "state": state, "mode": "batches", "priority": 5,
        "bytes_total": 1010, "bytes_received": 1010, "bytes_loaded": 250, "bytes_to_load": 1000, "records": 100,
        "error_code": None, "error_message": None, "parent_id": None, "owner": None, "sha256": bytes(32), "created_at": NOW,
        "started_at": NOW, "finished_at": None, "updated_at": NOW, "read_at": NOW + timedelta(seconds=10),
        "resolved": 0, "compression": None, "load": "after_upload", "duplicate_of": None, "chunks_pending": 1, "chunks_processing": 1, "chunks_completed": 0, "chunks_failed": 0,
        **dict.fromkeys(COUNTS, 0), **{f"{name}_now": 0 for name in COUNTS}, "inserted_now": 20, "rejected_now": 5,
        "spec": {"dialect": {"delimiter": ";"}, "evidence": ["so it is"], "pinned_by": "delimiter=;"}, "bytes_tried": 0, "recent_rows": 25, "recent_bytes": 250, "recent_s": 10.0,
    }  # fmt: skip
    return cast(Record, values | changes)


def test_a_running_job_shows_what_is_in_the_ledger() -> None:
    """Counts and progress come from committed batches, the pace from those of the last half minute."""
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


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    """A pause, a restart or a retry a day later does not count."""
    view = view_from(row(started_at=NOW - timedelta(days=1), recent_rows=300, recent_bytes=500, recent_s=30.0))
    assert (view.rows_per_second, view.eta_seconds) == (10.0, 45.0)


@pytest.mark.parametrize("state", ["pending", "paused"])
def test_a_job_that_nobody_works_on_has_no_pace(state: str) -> None:
    """It waits, and nobody knows for how long."""
    view = view_from(row(state, recent_rows=None, recent_bytes=None, recent_s=None))
    assert (view.rows_per_second, view.eta_seconds, view.progress) == (None, None, 0.25)


def test_a_stalled_load_has_no_end_in_sight() -> None:
    """Nothing was committed lately."""
    view = view_from(row(recent_rows=0, recent_bytes=0))
    assert (view.rows_per_second, view.eta_seconds) == (0.0, None)


def test_a_load_as_a_whole_tells_how_much_it_has_tried() -> None:
    """Nothing is committed before the end."""
    view = view_from(row(mode="atomic", bytes_tried=500, bytes_loaded=0, recent_rows=0, recent_bytes=0))
    assert (view.progress, view.rows_per_second, view.eta_seconds) == (0.5, None, 10.0)


@pytest.mark.parametrize(
    ("changes", "progress"),
    [
        ({"bytes_loaded": 1000}, 0.9999),
        ({"bytes_loaded": 999}, 0.999),
        ({"bytes_loaded": 99_996, "bytes_to_load": 100_000}, 0.9999),
        ({"bytes_loaded": 0, "bytes_to_load": 0}, 0.0),
    ],
)
def test_progress_is_1_for_a_completed_job_only(changes: dict[str, Any], progress: float) -> None:
    """Rounded down; all batches are in before the job is completed."""
    assert view_from(row(**changes)).progress == progress


@pytest.mark.parametrize(("announced", "progress"), [(1010, 0.2475), (None, 0.0), (999, 0.0)])
def test_progress_while_bytes_arrive_is_a_share_of_all_that_will_come(announced: int | None, progress: float) -> None:
    """Of what has come so far it would fall whenever more comes; without a length nobody knows."""
    view = view_from(row("receiving", bytes_total=announced))
    assert (view.progress, view.eta_seconds is None) == (progress, progress == 0)


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
