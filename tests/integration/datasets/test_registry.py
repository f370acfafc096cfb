"""Definitions in the database: versions, which one holds, and whether the tables can take what a plan brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.database import Database
from ingest.datasetfiles import known_definitions
from ingest.datasets import Datasets
from ingest.definitions.defined import DefinedDataset
from ingest.definitions.model import Definition
from ingest.definitions.text import DefinitionError, read_definition
from ingest.dialect import Dialect
from ingest.errors import RequestError, SettingsError
from ingest.spec import LoadSpec
from tests.conftest import Psql

NONE: frozenset[str] = frozenset()
PEOPLE = """
name = "people"
table = "people"
key = ["id"]
mode = "upsert"
[columns.id]
type = "bigint"
[columns.name]
type = "text"
"""
FITTING = "create table people (id bigint primary key, name text)"


def people(old: str = "", new: str = "") -> Definition:
    """The definition, with something changed in it."""
    assert old in PEOPLE
    return read_definition(PEOPLE.replace(old, new), "people.toml")


async def spec_of(datasets: Datasets, name: str, *header: str) -> LoadSpec:
    """The spec of a file for a dataset."""
    dataset = await datasets.find(name)
    return dataset.spec(header, dialect=Dialect(), parameters={})


async def test_a_definition_gets_a_version_when_it_says_something_new(database: Database, psql: Psql) -> None:
    """However often it is stored, and by however many processes."""
    datasets = Datasets(database, NONE, ())
    versions = [
        await datasets.save(people("bigint", kind)) for kind in ("bigint", "bigint", "integer", "integer", "bigint")
    ]
    assert versions == [1, 1, 2, 2, 3]
    assert (
        psql("select version, definition #>> '{columns,id,type}' from ingest.datasets order by 1")
        == "1|bigint\n2|integer\n3|bigint"
    )
    spec = await spec_of(datasets, "people", "id", "name")
    assert (spec.version, spec.dataset, spec.columns[0].type) == (3, "people", "bigint")


async def test_files_are_stored_when_they_are_first_asked_for(database: Database, psql: Psql) -> None:
    """Once by each process; what was applied since holds until the next start."""
    first = Datasets(database, NONE, [people()])
    assert [dataset.name for dataset in await first.defined()] == ["people"]
    await Datasets(database, NONE, ()).save(people("bigint", "integer"))
    assert (await spec_of(first, "people", "id")).version == 2
    again = Datasets(database, NONE, [people()])
    assert (await spec_of(again, "people", "id")).version == 3
    assert psql("select count(*) from ingest.datasets") == "3"


async def test_a_dataset_that_nobody_defined_is_unknown(database: Database) -> None:
    """A name without a dot is never a table."""
    for name in ("nobody", "people\x00", "", "auto.x"):
        with pytest.raises(RequestError) as raised:
            await Datasets(database, frozenset({"public"}), ()).find(name)
        assert raised.value.code == "E_DATASET_UNKNOWN"


async def test_a_definition_of_another_version_of_the_program_is_named(database: Database, psql: Psql) -> None:
    """Instead of a traceback."""
    await Datasets(database, NONE, ()).save(people())
    psql("""update ingest.datasets set definition = '{"name": "people", "colour": 1}'""")
    with pytest.raises(RequestError) as raised:
        await Datasets(database, NONE, ()).find("people")
    assert "apply its file again" in raised.value.detail


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("select", "table public.people, which does not exist: create it"),
        ("create table people (id bigint primary key)", "has no column 'name' that can be loaded"),
        (
            "create table people (id bigint primary key, name text generated always as ('x') stored)",
            "has no column 'name'",
        ),
        ("create table people (id bigint primary key, name text, age int not null)", "column 'age' must have a value"),
        ("create table people (id bigint, name text)", "no unique index on its key (id)"),
        (
            "create table people (id bigint, name text); create unique index on people (id) where id > 0",
            "no unique index",
        ),
        ("create table people (id bigint, name text, primary key (id, name))", "no unique index"),
        ("create table people (id bigint unique deferrable, name text)", "no unique index"),
        ("create view people as select 1::bigint as id, 'x' as name", "does not exist"),
    ],
)
async def test_a_table_that_cannot_take_the_rows(database: Database, psql: Psql, table: str, words: str) -> None:
    """Is said before the file is taken in."""
    psql(table)
    datasets = Datasets(database, NONE, [people()])
    with pytest.raises(RequestError) as raised:
        await datasets.ready(await spec_of(datasets, "people", "id", "name"))
    assert raised.value.code == "E_DATASET_TABLE"
    assert words in raised.value.detail


async def test_a_type_that_does_not_exist(database: Database, psql: Psql) -> None:
    """Is named; one that the database defines itself is fine."""
    psql(f"{FITTING}; create type mood as enum ('ok')")
    other = read_definition(PEOPLE.replace('"people"', '"other"', 1).replace('"text"', '"moods"'), "other.toml")
    datasets = Datasets(database, NONE, [people('"text"', '"mood"'), other])
    await datasets.ready(await spec_of(datasets, "people", "id", "name"))
    with pytest.raises(RequestError) as raised:
        await datasets.ready(await spec_of(datasets, "other", "id", "name"))
    assert "type 'moods'" in raised.value.detail


@pytest.mark.parametrize(
    "table",
    [FITTING, "create table people (id bigint, name text, born date, n int not null default 1); create unique index on people (id)"],
)  # fmt: skip
async def test_a_table_that_fits(database: Database, psql: Psql, table: str) -> None:
    """It may have more columns than the dataset, if something fills them."""
    psql(table)
    datasets = Datasets(database, NONE, [people()])
    await datasets.ready(await spec_of(datasets, "people", "id", "name"))


async def test_the_tables_of_a_shipped_dataset_are_made(database: Database, psql: Psql) -> None:
    """When it is first used, not when it is listed."""
    datasets = Datasets(database, NONE)
    assert "customers" in [dataset.name for dataset in await datasets.all()]
    assert psql("select to_regclass('customers') is null") == "t"
    spec = await spec_of(datasets, "customers", "E-Mail Address", "Full Name")
    await datasets.ready(spec)
    assert psql("select to_regclass('customers') is null") == "f"
    assert spec.keyed
    assert spec.plan is not None
    assert spec.plan.targets[0].update == ("name",)


def test_a_folder_of_definitions(tmp_path: Path) -> None:
    """Its files come beside the shipped ones, and win over them."""
    (tmp_path / "a.toml").write_text(PEOPLE)
    (tmp_path / "b.toml").write_text(PEOPLE.replace('"people"', '"customers"'))
    (tmp_path / "notes.txt").write_text("not a definition")
    found = {definition.name: definition for definition in known_definitions(tmp_path)}
    assert {"people", "customers"} <= found.keys()
    assert "id" in found["customers"].columns


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", b"name = ", "a.toml: this is not TOML"),
        ("a.toml", PEOPLE.replace("bigint", "big,int").encode(), "a.toml:7: columns.id.type: must be a type"),
        ("a.toml", PEOPLE.replace('name = "people"', 'name = "auto"').encode(), "a.toml: name: 'auto' is reserved"),
        ("b.toml", PEOPLE.encode(), "b.toml: name: another file of the folder defines 'people' too"),
        ("b.toml", b'name = "\xff"', "b.toml: the file is not UTF-8 (byte 8)"),
        ("b.toml", b"#" * 1_048_577, "b.toml: the file is larger than"),
    ],
)
def test_a_wrong_file_stops_the_start(tmp_path: Path, name: str, text: bytes, words: str) -> None:
    """With one line that names it."""
    (tmp_path / "a.toml").write_text(PEOPLE)
    (tmp_path / name).write_bytes(text)
    with pytest.raises(DefinitionError) as raised:
        known_definitions(tmp_path)
    assert words in raised.value.detail
    assert "\n" not in raised.value.detail


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """It names the setting."""
    with pytest.raises(SettingsError) as raised:
        known_definitions(tmp_path / "none")
    assert "INGEST_DATASETS=" in raised.value.detail


def test_a_dataset_is_shown_whole() -> None:
    """With the defaults that its file leaves out."""
    shown = DefinedDataset(definition=people(), version=7).to_json()
    assert (shown["name"], shown["version"], shown["mode"], shown["key"], shown["order"]) == (
        "people",
        7,
        "upsert",
        ["id"],
        "file",
    )
    assert shown["columns"][1] == {
        "name": "name", "type": "text", "required": False, "aliases": [], "trim": True, "nulls": [""], "words": {},
        "true": [], "false": [], "one_of": [], "email": False,
    }  # fmt: skip
    assert shown["targets"][0]["columns"] == {"id": "id", "name": "name"}
