"""The `ingest` command: arguments and environment become Settings, then the service or one task runs.

What goes wrong on purpose is one line on standard error; exit codes are 0 done, 1 failed, 2 wrong usage or settings,
3 loaded but with rejects.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import click
import trio

from ingest import __version__, localload, logs, memory
from ingest.database import migrate
from ingest.database.embedded import bin_path
from ingest.datasetcommands import datasets_group
from ingest.environment import database_dsn, read_settings
from ingest.errors import IngestError, SettingsError, leaves
from ingest.keycommands import keys_group
from ingest.loadcommand import load_command
from ingest.remotecommands import COMMANDS

FAILED, USAGE, WITH_REJECTS = 1, 2, 3


def main() -> None:
    """Run the command line."""
    memory.limit_heaps()
    try:
        with _one_line_errors():
            commands(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End the process with one line for errors that were raised on purpose; anything else is a bug and shows itself."""
    errors: list[IngestError] = []
    try:
        yield
    except* IngestError as group:
        errors += leaves(group)
    # Not in the handler: before Python 3.11.4 what is raised there comes out in a group, SystemExit too.
    if errors:
        for text in dict.fromkeys(error.detail for error in errors):
            print(f"ingest: {text}", file=sys.stderr)
        sys.exit(max(map(_exit_code, errors)))


def _exit_code(error: IngestError) -> int:
    if isinstance(error, localload.Interrupted):
        return 128 + error.number  # as a shell says it
    return USAGE if isinstance(error, SettingsError) or error.code == "E_OPTION" else FAILED


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ingest")
def commands() -> None:
    """Load CSV files of any size into PostgreSQL, every good row exactly once, every bad row kept with its reason.

    Settings come from the environment and from a file .env; DATABASE_URL unset means an embedded PostgreSQL.
    """


def _listening(command: Callable[..., None]) -> Callable[..., None]:
    host = click.option("--host", help="Address to listen on (HOST, 127.0.0.1).")
    port = click.option("--port", type=int, help="Port to listen on, 0 for any free one (PORT, 8000).")
    return host(port(command))


def _serve(host: str | None, port: int | None, *, api: bool, worker: bool) -> None:
    settings = read_settings(host=host, port=port)
    logs.configure(settings.log_level, settings.log_format)
    # Half of what there is to import is for HTTP, and only those who serve should wait for it.
    from ingest import service

    with database_dsn(settings) as dsn:
        trio.run(service.serve, settings, dsn, service.Roles(api=api, worker=worker), partial(print, flush=True))


@commands.command()
@_listening
def serve(host: str | None, port: int | None) -> None:
    """Run the whole service: API and worker in one process."""
    _serve(host, port, api=True, worker=True)


@commands.command()
@_listening
def api(host: str | None, port: int | None) -> None:
    """Run the API alone; workers run elsewhere on the same database and storage."""
    _serve(host, port, api=True, worker=False)


@commands.command()
@_listening
def worker(host: str | None, port: int | None) -> None:
    """Run a worker alone; its port answers /health only."""
    _serve(host, port, api=False, worker=True)


@commands.command("migrate")
@click.option("--dry-run", is_flag=True, help="Print what would be applied and change nothing.")
def migrate_command(dry_run: bool) -> None:
    """Bring the schema `ingest` of the database up to date."""
    settings = read_settings()
    logs.configure(settings.log_level, settings.log_format)
    with database_dsn(settings) as dsn:
        names = trio.run(partial(migrate, dsn, dry_run=dry_run))
    for name in names:
        click.echo(f"{'would apply' if dry_run else 'applied'} {name}")
    if not names:
        click.echo("nothing to apply")


@commands.command("psql", context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL ARGUMENTS...]")
def psql_command(arguments: tuple[str, ...]) -> None:
    """Open psql on the service's database; the embedded one needs no password and no installation."""
    settings = read_settings()
    logs.configure("WARNING", settings.log_format)
    with database_dsn(settings) as dsn:
        sys.exit(subprocess.run([bin_path() / "psql", dsn, *arguments]).returncode)


for command in (load_command, datasets_group, keys_group, *COMMANDS):
    commands.add_command(command)
