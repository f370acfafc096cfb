"""The `ingest` command: arguments and environment become Settings, then the service or one task runs.

What goes wrong on purpose is one line on standard error; exit codes are 0 done, 1 failed, 2 wrong usage or settings,
3 loaded but with rejects.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import trio

from ingest import __version__, localload, logs, memory
from ingest.budget import Budget
from ingest.database import migrate
from ingest.database.embedded import bin_path
from ingest.datasetcommands import datasets_group
from ingest.dialectflags import dialect_flags, told
from ingest.dialectoptions import dialect_of
from ingest.environment import database_dsn, read_settings
from ingest.errors import IngestError, SettingsError, StorageError, leaves
from ingest.job import DEFAULT_PRIORITY, JobMode
from ingest.keycommands import keys_group
from ingest.receiving import UploadOptions
from ingest.remotecommands import COMMANDS, server_option

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


def _local(context: click.Context, argument: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    for name in files:
        if "://" in name and not Path(name).exists():
            raise click.BadParameter(f"{name[:50]!r} is no local file; this version loads from no s3:// or other URL")
    return files


@commands.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", callback=_local)
@click.option("--dataset", required=True, help="Where the rows go: a dataset's name or schema.table.")
@click.option(
    "--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="A value that the dataset asks for."
)
@dialect_flags
@click.option(
    "--mode",
    type=click.Choice([mode.value for mode in JobMode]),
    default=JobMode.BATCHES.value,
    show_default=True,
    help="What of a file is seen in the table: each batch at once, the whole or nothing, never anything.",
)
@click.option("--max-rejects", help="Stop a file with more rejected records than this: a count, or a share like 5%.")
@click.option(
    "--rejects",
    "rejects_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="OUT.csv",
    help="Write the rejected records to this file, to be corrected; for one FILE only.",
)
@server_option
@click.option("--json", "as_json", is_flag=True, help="Print the jobs as JSON, for scripts.")
@click.option("--quiet", is_flag=True, help="Show no progress bar.")
def load(
    files: tuple[str, ...],
    dataset: str,
    parameters: tuple[str, ...],
    mode: str,
    max_rejects: str | None,
    rejects_path: Path | None,
    server: str | None,
    as_json: bool,
    quiet: bool,
    **dialect: str | None,
) -> None:
    """Load local files (- for standard input) straight into the database; with --server, send them to a service.

    A load that was killed goes on where it was when the same command is given again: nothing is loaded twice.
    """
    if server is not None:
        _check_output(rejects_path, files)
        given = {"mode": mode, "max_rejects": max_rejects or ""}
        sent = {**_parameters(parameters), **told(dialect), **{name: value for name, value in given.items() if value}}
        from ingest import remote

        with _writing(rejects_path) as write:
            remote.load(server, files, dataset, sent, as_json=as_json, quiet=quiet, write_rejects=write)
    settings = read_settings()
    logs.configure("WARNING" if settings.log_level == "INFO" else settings.log_level, settings.log_format)
    _check_output(rejects_path, files)
    options = UploadOptions(
        dataset=dataset,
        filename="",
        dialect=dialect_of(told(dialect)),
        told=told(dialect),
        priority=DEFAULT_PRIORITY,
        bytes_total=None,
        mode=JobMode(mode),
        budget=None if max_rejects is None else Budget.parse(max_rejects),
        parameters=_parameters(parameters),
    )
    paths = [None if name == "-" else Path(name) for name in files]
    with database_dsn(settings) as dsn, _writing(rejects_path) as write:
        load = partial(localload.load_files, quiet=quiet or as_json, write_rejects=write)
        views = trio.run(load, settings, dsn, paths, options)
    localload.show(views, as_json=as_json)
    sys.exit(localload.exit_code(views))


def _parameters(pairs: Sequence[str]) -> dict[str, str]:
    wrong = [pair for pair in pairs if not pair.partition("=")[1]]
    if wrong:
        raise click.UsageError(f"--parameter must be NAME=VALUE, not {wrong[0][:50]!r}")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def _check_output(path: Path | None, files: Sequence[str]) -> None:
    if path is None:
        return
    if len(files) > 1:
        raise click.UsageError("--rejects takes the rejects of one FILE: files may have different columns")
    if path.exists() and Path(files[0]).exists() and path.samefile(files[0]):
        raise click.UsageError("--rejects names the FILE itself, which would be overwritten")


@contextmanager
def _writing(path: Path | None) -> Iterator[Callable[[bytes], object] | None]:
    """Open the file for the rejects; there is one afterwards also when there are none, so that no old one misleads."""
    if path is None:
        yield None
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", code="E_OUTPUT") from error
    with file:
        yield file.write


for command in (datasets_group, keys_group, *COMMANDS):
    commands.add_command(command)
