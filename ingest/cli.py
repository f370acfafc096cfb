"""The `ingest` command: arguments and environment become Settings, then the service or one task runs.

What goes wrong on purpose is one line on standard error; exit codes are 0 done, 1 failed, 2 wrong usage or settings,
3 loaded but with rejects.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module

import click

from ingest import __version__, logs, memory
from ingest.database.embedded import bin_path
from ingest.environment import database_dsn, read_settings
from ingest.errors import IngestError, Interrupted, SettingsError, leaves
from ingest.remotecommands import COMMANDS

FAILED, USAGE, WITH_REJECTS = 1, 2, 3

# Commands that take a while to import, with their module, their name there, and the beginning of their help.
LATER = {
    "datasets": (
        "ingest.datasetcommands",
        "datasets_group",
        "List, show, check and apply the datasets that rows can be loaded into.",
    ),
    "keys": (
        "ingest.keycommands",
        "keys_group",
        "Create, list and revoke API keys. Talks to the database, not to a server.",
    ),
    "load": (
        "ingest.loadcommand",
        "load_command",
        "Load local files (- for standard input) straight into the database; with --server, send them to a service.",
    ),
}


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
    if isinstance(error, Interrupted):
        return 128 + error.number  # as a shell says it
    return USAGE if isinstance(error, SettingsError) or error.code == "E_OPTION" else FAILED


class Commands(click.Group):
    """The commands; those of LATER are imported when they are called, and not for the help of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in LATER:
            return super().get_command(ctx, cmd_name)
        module, name, _ = LATER[cmd_name]
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for each command."""
        room = formatter.width - 6 - max(map(len, self.list_commands(ctx)))
        lines = {name: command.get_short_help_str(room) for name, command in self.commands.items()}
        lines |= {name: click.Command(name, help=text).get_short_help_str(room) for name, (_, _, text) in LATER.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(lines.items()))


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
    memory.put_off_collecting()
    # What there is to import takes as long as the start of PostgreSQL, so it is imported meanwhile.
    with ThreadPoolExecutor(max_workers=1) as beside:
        importing = beside.submit(import_module, "ingest.service")
        with database_dsn(settings) as dsn:
            importing.result()
            beside.shutdown()
            import trio

            from ingest import service

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
    # Only who asks for it waits for the import.
    import trio

    from ingest.database import migrate

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


for command in COMMANDS:
    commands.add_command(command)
