"""How a job is shown: its row of the statement `jobs_by_id` as the API's view, with progress and pace."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from math import ceil
from typing import Any

from ingest.database import Record
from ingest.dialect import Dialect
from ingest.encodings import UTF_8
from ingest.job import FINAL, JobMode, JobState, JobView, NewJob

# Nothing is wrong with the load, but perhaps with the export.
NO_ROWS = {"code": "W_NO_ROWS", "message": "the file holds a header and no records"}

# Progress is shown in ten-thousandths.
PROGRESS_STEPS = 10_000
# A job that began and ended at the same moment still had some time.
SHORTEST_S = 0.001


def view_from(row: Record) -> JobView:
    """Build the API's view of a job from a row of the statement `jobs_by_id`."""
    state = JobState(row["state"])
    final = state in FINAL
    suffix = "" if final else "_now"
    counts = {name: row[name + suffix] for name in ("inserted", "updated", "unchanged", "skipped", "rejected")}
    processed = counts["inserted"] + counts["updated"] + counts["unchanged"]
    speed, eta_s = _pace(row, state)
    return JobView(
        id=row["id"],
        dataset=row["dataset"],
        filename=row["filename"],
        status=state,
        mode=row["mode"],
        priority=row["priority"],
        bytes_total=row["bytes_total"],
        bytes_received=row["bytes_received"],
        bytes_processed=_bytes_processed(row, state),
        total_rows=row["records"],
        processed_rows=processed,
        inserted_rows=counts["inserted"],
        updated_rows=counts["updated"],
        unchanged_rows=counts["unchanged"],
        skipped_rows=counts["skipped"],
        failed_rows=counts["rejected"],
        resolved_rows=row["resolved"],
        progress=_progress(row, state),
        rows_per_second=speed,
        eta_seconds=eta_s,
        chunks={name: row[f"chunks_{name}"] for name in ("pending", "processing", "completed", "failed")},
        error={"code": row["error_code"], "message": row["error_message"]} if row["error_code"] else None,
        warnings=[NO_ROWS] if state is JobState.COMPLETED and not row["records"] else [],
        parent_id=row["parent_id"],
        sha256=row["sha256"].hex() if row["sha256"] else None,
        duplicate_of=row["duplicate_of"],
        compression=row["compression"],
        load=row["load"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["finished_at"],
        updated_at=row["updated_at"],
        owner=row["owner"],
        dialect=_shown_dialect(row["spec"]),
    )


def view_of_received(new: NewJob, sha256: bytes, records: int, row: Record) -> JobView:
    """Build the view of a job of one chunk that was written just now, by the statement `receive_job`."""
    return JobView(
        id=new.id,
        dataset=new.spec.dataset,
        filename=new.filename,
        status=JobState.PENDING,
        mode=new.mode,
        priority=new.priority,
        bytes_total=new.bytes_total,
        bytes_received=new.bytes_total or 0,
        bytes_processed=0,
        total_rows=records,
        processed_rows=0,
        inserted_rows=0,
        updated_rows=0,
        unchanged_rows=0,
        skipped_rows=0,
        failed_rows=0,
        resolved_rows=0,
        progress=0.0,
        rows_per_second=None,
        eta_seconds=None,
        chunks={"pending": 1, "processing": 0, "completed": 0, "failed": 0},
        error=None,
        warnings=[],
        parent_id=new.parent_id,
        sha256=sha256.hex(),
        duplicate_of=row["duplicate"],
        compression=new.compression,
        load=new.load,
        created_at=row["written_at"],
        started_at=None,
        completed_at=None,
        updated_at=row["written_at"],
        owner=new.caller.owner,
        dialect=_shown_dialect(new.spec.to_json()),
    )


def _shown_dialect(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the file is read, why, and the options that say so."""
    shown = Dialect(**spec["dialect"]).to_json()
    return {**shown, "evidence": list(spec.get("evidence", [])), "options": spec.get("pinned_by", "")}


def _progress(row: Record, state: JobState) -> float:
    """Return the loaded share of the file's bytes, rounded down: 1 is said of a completed job only.

    While bytes still arrive it is the share of what the client announced, and 0 when it announced nothing: a share of
    what has arrived so far would fall whenever more arrives.
    """
    if state is JobState.COMPLETED:
        return 1.0
    whole = _bytes_in_all(row, state)
    return min(_bytes_done(row) * PROGRESS_STEPS // whole, PROGRESS_STEPS - 1) / PROGRESS_STEPS if whole else 0.0


def _bytes_in_all(row: Record, state: JobState) -> int | None:
    """Return the bytes there are to load; None while nobody can know."""
    if state is not JobState.RECEIVING:
        return int(row["bytes_to_load"])
    announced = None if row["compression"] else row["bytes_total"]
    return announced if announced is not None and announced >= row["bytes_to_load"] else None


def _bytes_processed(row: Record, state: JobState) -> int:
    """Return the bytes of the file, as it was sent, that stand for what is loaded."""
    if state is JobState.COMPLETED:
        return int(row["bytes_total"])
    if row["compression"] or row["spec"]["dialect"].get("encoding", UTF_8) != UTF_8:
        return int(_progress(row, state) * (row["bytes_total"] or 0))
    return _bytes_done(row)


def _bytes_done(row: Record) -> int:
    """Return the bytes of committed batches, or of those a load as a whole has tried."""
    return int(row["bytes_loaded"] if row["mode"] == JobMode.BATCHES else row["bytes_tried"])


def _pace(row: Record, state: JobState) -> tuple[float | None, float | None]:
    """Return the rows per second and, for a job at work, the seconds that are left at the pace of its bytes.

    The pace of a job at work is that of the last half minute, of one that has ended that from its first claim to its
    end. A job that waits has none. A load as a whole tells only how many bytes it has read.
    """
    if row["started_at"] is None:
        return None, None
    if state in FINAL:
        return round(_rows_done(row) / _seconds((row["finished_at"] or row["read_at"]) - row["started_at"]), 1), None
    if row["recent_s"] is None:
        return None, None
    window_s, recent_bytes = max(row["recent_s"], SHORTEST_S), row["recent_bytes"]
    if row["mode"] != JobMode.BATCHES:
        window_s, recent_bytes = _seconds(row["read_at"] - row["started_at"]), row["bytes_tried"]
    whole = _bytes_in_all(row, state)
    # Up to the next tenth: nothing is left only when nothing is left.
    eta_s = ceil((whole - _bytes_done(row)) * window_s / recent_bytes * 10) / 10 if whole and recent_bytes else None
    return round(row["recent_rows"] / window_s, 1) if row["mode"] == JobMode.BATCHES else None, eta_s


def _rows_done(row: Record) -> int:
    return sum(row[f"{name}_now"] for name in ("inserted", "updated", "unchanged", "skipped", "rejected"))


def _seconds(span: timedelta) -> float:
    return max(span.total_seconds(), SHORTEST_S)
