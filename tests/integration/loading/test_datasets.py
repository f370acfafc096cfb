"""What the catalogue says about a table: its columns, and whether the order of records matters."""

from __future__ import annotations

import pytest

from ingest.database import Database
from ingest.datasets import Datasets
from ingest.definitions.tables import TableDataset
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.spec import Column
from tests.conftest import Psql

PUBLIC = frozenset({"public"})


async def found(database: Database, name: str = "public.t") -> TableDataset:
    """The dataset of a table."""
    dataset = await Datasets(database, PUBLIC).find(name)
    assert isinstance(dataset, TableDataset)
    return dataset


async def test_columns_as_the_catalogue_has_them(database: Database, psql: Psql) -> None:
    """Types with their lengths; what must be given, what fills itself, what is computed, what is the key."""
    psql("create type mood as enum ('ok'); create table t (id bigint generated always as identity primary key, "
         "n numeric(8,2) not null, v varchar(5) default 'x', m mood, d timestamptz not null default now(), "
         "twice numeric generated always as (n * 2) stored, gone int, \"Odd, \"\"Name\"\"\" text); "
         "alter table t drop column gone")  # fmt: skip
    columns = (await found(database)).columns
    assert [(c.name, c.type, c.required, c.generated, c.is_key) for c in columns] == [
        ("id", "bigint", False, False, True),
        ("n", "numeric(8,2)", True, False, False),
        ("v", "character varying(5)", False, False, False),
        ("m", "mood", False, False, False),
        ("d", "timestamp with time zone", False, False, False),
        ("twice", "numeric", False, True, False),
        ('Odd, "Name"', "text", False, False, False),
    ]


@pytest.mark.parametrize(
    ("table", "loaded", "keyed"),
    [
        ("create table t (a int, b int)", "ab", False),
        ("create table t (a int primary key, b int)", "ab", True),
        ("create table t (a int primary key, b int)", "b", False),
        ("create table t (a int, b int, unique (a, b))", "b", True),
        ("create table t (a int unique deferrable initially deferred, b int)", "ab", True),
        ("create table t (a int, b int); create unique index on t (b) where a > 0", "b", True),
        ("create table t (a int, b text); create unique index on t (lower(b))", "a", True),
        ("create table t (a int, b int generated always as (a + 1) stored unique)", "a", True),
        ("create table t (a int4range, b int, exclude using gist (a with &&))", "a", True),
        ("create table t (a int, b int); create index on t (a)", "ab", False),
        ("create table p (a int primary key); create table t (a int references p, b int)", "ab", False),
        ("create table t (a int default 1 unique, b int references t (a))", "b", True),
        ("create table t (a int, b int) partition by range (a); create table t1 partition of t (unique (b)) "
         "for values from (0) to (9)", "b", True),
        ("create table t (a int, b int, primary key (a)) partition by range (a)", "a", True),
    ],
)  # fmt: skip
async def test_when_the_order_of_records_matters(
    database: Database, psql: Psql, table: str, loaded: str, keyed: bool
) -> None:
    """Where a key, or a reference to the table itself, looks at a column that the file fills."""
    psql(table)
    columns = [Column(name=name, type="integer") for name in loaded]
    assert (await found(database)).is_keyed(columns) is keyed


async def test_only_tables_of_allowed_schemas(database: Database, psql: Psql) -> None:
    """Any other name is unknown: other schemas, views, the catalogue, our own tables, no name at all."""
    psql("create table t (a int); create view v as select 1 as a; create sequence s")
    for name in ("public.v", "public.s", "public.none", "ingest.jobs", "pg_catalog.pg_class", "t", ".", "", "a\x00b.c"):
        with pytest.raises(RequestError) as raised:
            await found(database, name)
        assert raised.value.code == "E_DATASET_UNKNOWN"


async def test_all_datasets(database: Database, psql: Psql) -> None:
    """The definitions first, then the tables by name, partitioned ones once."""
    psql("create table b (a int); create table a (a int) partition by range (a); "
         "create table a1 partition of a for values from (0) to (9); comment on table b is 'letters'")  # fmt: skip
    listed = await Datasets(database, PUBLIC).all()
    assert [(dataset.name, dataset.to_json()["description"]) for dataset in listed if "." in dataset.name][:2] == [
        ("public.a", None),
        ("public.b", "letters"),
    ]
    assert [dataset.name for dataset in listed[:2]] == ["crowdfunding", "customers"]
    assert "public.a1" not in {dataset.name for dataset in listed}


async def test_a_header_is_mapped_to_columns(database: Database, psql: Psql) -> None:
    """In the file's order; to the letter first, else without case, spaces and Unicode forms."""
    psql('create table t (id int, "Id" int, naïve text, "two words" text)')
    spec = (await found(database)).spec(["Id", " TWO WORDS ", "NAI\u0308VE", "id"], dialect=Dialect(), parameters={})
    assert spec.plan is None
    assert [column.name for column in spec.columns] == ["Id", "two words", "naïve", "id"]


async def test_a_header_that_does_not_fit(database: Database, psql: Psql) -> None:
    """Everything that is wrong is named at once."""
    psql("create table t (id int not null, a text, b text generated always as (a) stored, c int not null default 1)")
    with pytest.raises(FileError) as raised:
        (await found(database)).spec(["a", "A", "b", "x"], dialect=Dialect(), parameters={})
    error = raised.value
    assert error.code == "E_HEADER_MISMATCH"
    assert error.facts == {"missing": ["id"], "unknown": ["b", "x"], "duplicate": ["a"]}
    assert "missing: 'id'; unknown: 'b', 'x'; more than once: 'a'" in error.detail
