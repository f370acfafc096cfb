"""What `ingest load` tells of the files it has loaded: a table for people, JSON for scripts, an exit code."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table

from ingest.job import JobState
from ingest.localload import Result


def show(results: Sequence[Result], *, as_json: bool) -> None:
    """Print a summary for people, or the jobs as JSON for scripts."""
    if as_json:
        print(json.dumps([_as_json(result) for result in results], indent=2, default=str))
        return  # In a narrow terminal names and ids go on in the next line, so that no figure and no id is ever cut.
    figures = (Column(name, no_wrap=True) for name in ("status", "rows", "rejected", "seconds", "rows/s"))
    table = Table(Column("file", overflow="fold"), *figures, Column("job", overflow="fold"))
    for result in results:
        table.add_row(*_row(result))
    Console().print(table)
    for result in results:
        reason = result.error.detail if result.error else ((result.job and result.job.error) or {}).get("message")
        if reason:
            print(f"{result.filename}: {reason}", file=sys.stderr)


def _row(result: Result) -> tuple[str, ...]:
    job = result.job
    if job is None:
        return result.filename, "refused", "", "", "", "", ""
    seconds = (job.completed_at - job.started_at).total_seconds() if job.completed_at and job.started_at else 0.0
    return (
        result.filename, str(job.status), f"{job.processed_rows:,}", f"{job.failed_rows:,}",
        f"{seconds:.1f}", f"{job.rows_per_second or 0:,.0f}", str(job.id),
    )  # fmt: skip


def _as_json(result: Result) -> dict[str, object]:
    if result.job is not None:
        return dataclasses.asdict(result.job)
    error = result.error and {"code": result.error.code, "message": result.error.detail}
    return {"filename": result.filename, "status": "refused", "error": error}


def exit_code(results: Sequence[Result]) -> int:
    """Return 1 when a file failed, 3 when records were rejected, else 0."""
    if any(result.job is None or result.job.status is not JobState.COMPLETED for result in results):
        return 1
    return 3 if any(result.job and result.job.failed_rows for result in results) else 0
