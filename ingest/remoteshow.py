"""What the commands that talk to a service show: tables for people, JSON for scripts, a bar while it takes time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ingest.client import Job, Reject
from ingest.errors import IngestError
from ingest.logs import escaped

FAILED, WITH_REJECTS = 1, 3

# Never narrower than this when nobody looks: ids and messages are there to be read by the next program.
WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one file: its job, or why there is none."""

    filename: str
    job: Job | None
    error: IngestError | None


def exit_code(jobs: Iterable[Job | None]) -> int:
    """Return 1 when a file was refused, failed or cancelled, 3 when records were rejected, else 0."""
    found = list(jobs)
    if any(job is None or job.status != "completed" for job in found):
        return FAILED
    return WITH_REJECTS if any(job is not None and job.failed_rows for job in found) else 0


def print_rejects(found: Sequence[Reject]) -> None:
    """Print reasons as a table."""
    table = Table("line", "column", "code", "value", "message")
    for reject in found:
        table.add_row(*_texts(reject.line, reject.column, reject.code, reject.value, reject.message))
    _print(table)


def show(found: Job, as_json: bool) -> None:
    """Print a job, and its error beside it."""
    if as_json:
        print_json(found.raw)
        return
    print_jobs([found])
    if found.error:
        click.echo(escaped(str(found.error["message"])), err=True)


def print_jobs(found: Sequence[Job]) -> None:
    """Print jobs as a table."""
    table = Table("job", "file", "dataset", "status", "progress", "rows", "rejected", "rows/s")
    for one in found:
        pace = "" if one.rows_per_second is None else f"{one.rows_per_second:,.0f}"
        counts = (f"{one.progress:.0%}", f"{one.processed_rows:,}", f"{one.failed_rows:,}", pace)
        table.add_row(*_texts(one.id, one.filename, one.dataset, one.status, *counts))
    _print(table)


def print_sent(sent: Sequence[Sent]) -> None:
    """Print what became of files as a table, and why some were refused."""
    table = Table("file", "status", "rows", "rejected", "seconds", "job")
    for one in sent:
        if one.job is None:
            table.add_row(*_texts(one.filename, "refused", "", "", "", ""))
        else:
            counts = (f"{one.job.processed_rows:,}", f"{one.job.failed_rows:,}", f"{one.job.seconds or 0:.1f}")
            table.add_row(*_texts(one.filename, one.job.status, *counts, one.job.id))
    _print(table)
    for one in sent:
        reason = one.error.detail if one.error else ((one.job and one.job.error) or {}).get("message")
        if reason:
            click.echo(escaped(f"{one.filename}: {reason}"), err=True)


def sent_as_json(one: Sent) -> Mapping[str, Any]:
    """Return what became of a file: its job as the server shows it, or why there is none."""
    if one.job is not None:
        return one.job.raw
    error = one.error and {"code": one.error.code, "message": one.error.detail}
    return {"filename": one.filename, "status": "refused", "error": error}


def _texts(*values: object) -> list[Text]:
    """Values as cells: names that come from strangers move no cursor and switch on no colours."""
    return [Text("" if value is None else escaped(str(value))) for value in values]


def print_json(found: object) -> None:
    """Print JSON that a person can read, too."""
    click.echo(json.dumps(found, indent=2, default=str))


def bar(*, quiet: bool) -> Progress:
    """Return a bar on standard error, or one that is not seen where nobody looks."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty())


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)
