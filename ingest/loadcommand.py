"""`ingest load`: files of this machine, straight into the database or to a service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click
import trio

from ingest import localload, localshow, logs
from ingest.budget import Budget
from ingest.commandfiles import writing
from ingest.dialectflags import dialect_flags, told
from ingest.dialectoptions import dialect_of
from ingest.environment import database_dsn, read_settings
from ingest.job import DEFAULT_PRIORITY, JobMode
from ingest.receiving import UploadOptions
from ingest.remotecommands import server_option


def _local(context: click.Context, argument: click.Parameter, files: tuple[str, ...]) -> tuple[str, ...]:
    for name in files:
        if "://" in name and not Path(name).exists():
            raise click.BadParameter(f"{name[:50]!r} is no local file; this version loads from no s3:// or other URL")
    return files


@click.command("load")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", callback=_local)
@click.option(
    "--dataset",
    "--into",
    "dataset",
    required=True,
    help="Where the rows go: a dataset's name, schema.table, or new:schema.table to make the table.",
)
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
def load_command(
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

        with _output(rejects_path) as write:
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
    with database_dsn(settings) as dsn, _output(rejects_path) as write:
        work = partial(localload.load_files, quiet=quiet or as_json, write_rejects=write)
        views = trio.run(work, settings, dsn, paths, options)
    localshow.show(views, as_json=as_json)
    sys.exit(localshow.exit_code(views))


@contextmanager
def _output(path: Path | None) -> Iterator[Callable[[bytes], object] | None]:
    if path is None:
        yield None
        return
    with writing(path) as file:
        yield file.write


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
