"""The commands that talk to a running service: what they are called and what they take. `ingest.remote` does it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click

Command = TypeVar("Command", bound=Callable[..., None])

SERVER_HELP = "The service to talk to (INGEST_SERVER, http://127.0.0.1:8000); INGEST_API_KEY is its key."
JSON_HELP = "Print JSON, for scripts."


def server_option(command: Command) -> Command:
    """Add --server."""
    return click.option("--server", metavar="URL", help=SERVER_HELP)(command)


def _remote(command: Command) -> Command:
    return server_option(click.option("--json", "as_json", is_flag=True, help=JSON_HELP)(command))


_job_id = click.argument("job_id", type=click.UUID, metavar="ID")


def _remote_module() -> Any:
    """Import what talks HTTP; only those who do should wait for it."""
    from ingest import remote

    return remote


@click.command("jobs")
@_remote
@click.option("--page", type=click.IntRange(1), default=1, show_default=True)
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True, help="Jobs on a page.")
@click.option("--status", help="Only those in this state.")
@click.option("--dataset", help="Only those of this dataset.")
@click.option("--filename", help="Only those with this in the name of their file, in whatever case.")
def jobs_command(server: str | None, as_json: bool, **wanted: Any) -> None:
    """List jobs, newest first."""
    _remote_module().jobs(server, as_json, **wanted)


@click.command("job")
@_remote
@_job_id
def job_command(server: str | None, as_json: bool, job_id: UUID) -> None:
    """Show one job."""
    _remote_module().job(server, as_json, job_id)


@click.command("watch")
@_remote
@_job_id
def watch_command(server: str | None, as_json: bool, job_id: UUID) -> None:
    """Follow a job until it has ended; with --json one line a change.

    Exit code 0: completed; 3: with rejects; 1: failed or cancelled.
    """
    _remote_module().watch(server, as_json, job_id)


@click.command("rejects")
@_remote
@_job_id
@click.option(
    "--csv", "csv_path", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="OUT",
    help="Write the rejected records to this file (-: standard output), to be corrected and sent again.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Reasons to show.")
@click.option("--code", help="Only reasons with this code.")
@click.option("--column", help="Only reasons about this column.")
def rejects_command(
    server: str | None,
    as_json: bool,
    job_id: UUID,
    csv_path: Path | None,
    limit: int,
    code: str | None,
    column: str | None,
) -> None:
    """Show why records of a job were rejected."""
    filters = {name: value for name, value in (("code", code), ("column", column)) if value is not None}
    if csv_path is not None:
        if filters or as_json:
            raise click.UsageError("--csv writes all rejected records: it goes with no other option")
        _remote_module().rejects_csv(server, job_id, csv_path)
    else:
        _remote_module().rejects(server, as_json, job_id, limit, filters)


@click.command("priority")
@_remote
@_job_id
@click.argument("priority", type=click.IntRange(0, 9))
def priority_command(server: str | None, as_json: bool, job_id: UUID, priority: int) -> None:
    """Say how soon a job runs: 0 to 9, 9 runs first."""
    _remote_module().change(server, as_json, "prioritise", job_id, priority)


@click.command("delete")
@server_option
@_job_id
def delete_command(server: str | None, job_id: UUID) -> None:
    """Forget a job that has ended, with its rejects; its rows in the table stay."""
    _remote_module().delete(server, job_id)


def _changing(action: str, text: str) -> click.Command:
    @_remote
    @_job_id
    def command(server: str | None, as_json: bool, job_id: UUID) -> None:
        _remote_module().change(server, as_json, action, job_id)

    return click.command(action, help=text)(command)


COMMANDS = (
    jobs_command,
    job_command,
    watch_command,
    rejects_command,
    _changing("retry", "Run the failed chunks of a failed job again, from where they stopped."),
    _changing("cancel", "End a job; what is in the table stays there, and the answer says how much."),
    _changing("pause", "Let a job rest."),
    _changing("resume", "Go on with a paused job."),
    priority_command,
    delete_command,
)
