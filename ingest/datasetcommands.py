"""`ingest datasets`: what can be loaded into, and the definitions that say how."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from ingest import logs
from ingest.database import migrate_database, open_database
from ingest.datasetfiles import known_definitions, read_definition_file
from ingest.datasets import Dataset, Datasets
from ingest.definitions.columntypes import name_of
from ingest.definitions.infer import definition_of_sample, definition_of_table
from ingest.definitions.model import Definition
from ingest.definitions.preview import read_sample
from ingest.definitions.tables import TableDataset
from ingest.definitions.text import DefinitionError, read_definition
from ingest.dialectflags import dialect_flags, told
from ingest.dialectoptions import dialect_of
from ingest.environment import database_dsn, read_settings
from ingest.errors import StorageError

SAMPLE_BYTES = 1024 * 1024
SAMPLE_ROWS = 10_000
WRONG = 2  # the exit code of a definition with mistakes


@click.group("datasets")
def datasets_group() -> None:
    """List, show, check and apply the datasets that rows can be loaded into."""


@datasets_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_command(as_json: bool) -> None:
    """List the datasets."""
    found = [dataset.to_json() for dataset in _ask(lambda datasets: datasets.all())]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for dataset in found:
        click.echo(f"{dataset['name']:<30} {dataset['table']}, {len(dataset['columns'])} columns, {dataset['mode']}")


@datasets_group.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def show_command(name: str, as_json: bool) -> None:
    """Show a dataset: its columns with their other names and rules, its tables and its parameters."""
    dataset: Dataset = _ask(lambda datasets: datasets.find(name))
    shown = dataset.to_json()
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(_headline(shown))
    for column in shown["columns"]:
        click.echo(f"  {column['name']:<30} {column['type']:<30} {', '.join(_notes(column))}".rstrip())
    for target in shown.get("targets", [])[1:]:
        click.echo(f"also fills {target['table']}: {target['mode']} by {', '.join(target['key']) or 'nothing'}")
    for parameter, said in shown.get("parameters", {}).items():
        click.echo(f"takes {parameter}: {said.get('description', '')}".rstrip(": "))


@datasets_group.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
def check_command(files: tuple[Path, ...]) -> None:
    """Check definitions and print every mistake with its line; the database is not asked."""
    wrong = False
    for path in files:
        try:
            definition = read_definition_file(path)
        except DefinitionError as error:
            wrong = True
            for fault in error.faults:
                click.echo(fault, err=True)
        else:
            click.echo(f"{path}: dataset {definition.name}, {len(definition.columns)} columns")
    if wrong:
        sys.exit(WRONG)


@datasets_group.command("apply")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
def apply_command(file: Path) -> None:
    """Check a definition and store it in the database, as a new version if it says anything new."""
    definition = read_definition_file(file)
    version = _ask(partial(_apply, definition))
    click.echo(f"dataset {definition.name} is at version {version}")


@datasets_group.command("infer")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
@click.option("--table", help="Take the columns of this table (schema.table) instead of a file's.")
@click.option("--name", help="The dataset's name (default: that of the file or table).")
@dialect_flags
def infer_command(file: Path | None, table: str | None, name: str | None, **dialect: str | None) -> None:
    """Write a definition that loads FILE, or files for a table, to standard output: a beginning to be worked on."""
    if (file is None) == (table is None):
        raise click.UsageError("name either a FILE or a --table")
    if table is not None:
        dataset = _ask(lambda datasets: datasets.find(table))
        if not isinstance(dataset, TableDataset):
            raise click.UsageError(f"{table} is a dataset already; --table takes schema.table")
        text = definition_of_table(dataset, name=name or name_of(dataset.table, "table"))
    else:
        assert file is not None
        look = partial(read_sample, max_record_bytes=SAMPLE_BYTES, most_rows=SAMPLE_ROWS)
        sample = look(_beginning(file), dialect_of(told(dialect)), told=told(dialect))
        own = name or name_of(file.name.partition(".")[0], "file")
        text = definition_of_sample(sample, name=own, table=own)
    read_definition(text, "the suggestion")  # a name from outside may be wrong
    click.echo(text, nl=False)


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SAMPLE_BYTES)
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", code="E_SOURCE_MISSING") from error


async def _apply(definition: Definition, datasets: Datasets) -> int:
    await datasets.defined()  # so that a file of the same name that is read at each start is older than this
    return await datasets.save(definition)


def _headline(shown: dict[str, Any]) -> str:
    parts = [f"{shown['name']} -> {shown['table']}", shown["mode"] if shown.get("version") else ""]
    if shown.get("key"):
        parts.append(f"key {', '.join(shown['key'])}")
    if shown.get("version"):
        parts += [f"order {shown['order']}", f"version {shown['version']}"]
    return ", ".join(part for part in parts if part)


def _notes(column: dict[str, Any]) -> list[str]:
    words = [word for word, name in (("required", "required"), ("key", "is_key")) if column.get(name)]
    rules = ("parameter", "default", "format", "min", "max", "min_length", "max_length", "pattern", "one_of")
    words += [f"{rule} {_text(column[rule])}" for rule in rules if column.get(rule)]
    words += ["e-mail"] if column.get("email") else []
    return words + ([f"also {_text(column['aliases'])}"] if column.get("aliases") else [])


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _ask(question: Callable[[Datasets], Awaitable[Any]]) -> Any:
    settings = read_settings()
    logs.configure("WARNING", settings.log_format)
    definitions = known_definitions(settings.datasets_dir)

    async def ask(dsn: str) -> Any:
        async with open_database(dsn, pool_size=2, name="ingest datasets") as database:
            await migrate_database(database)
            return await question(Datasets(database, settings.allowed_schemas, definitions))

    with database_dsn(settings) as dsn:
        return trio.run(ask, dsn)
