"""Definitions that are suggested: each must be right, and load what it was made from."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.definitions.columntypes import name_of, type_of
from ingest.definitions.infer import definition_of_sample, definition_of_table
from ingest.definitions.model import Definition
from ingest.definitions.planning import plan_load
from ingest.definitions.preview import Sample, read_sample
from ingest.definitions.tables import TableDataset, TargetColumn
from ingest.definitions.text import read_definition
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.spec import Merge


def sample(data: bytes) -> Sample:
    """A sample of a file."""
    return read_sample(data, Dialect(), max_record_bytes=100_000, most_rows=100)


def inferred(data: bytes) -> Definition:
    """The definition that is suggested for a file."""
    return read_definition(definition_of_sample(sample(data), name="f", table="f"), "f.toml")


@pytest.mark.parametrize(
    ("values", "type_name"),
    [
        (["1", "-20", "0"], "bigint"),
        (["007"], "text"),
        (["1", "02"], "text"),
        (["12345678901234567890"], "numeric"),
        (["1.50", "2"], "numeric"),
        (["1,5"], "text"),
        (["\u0661"], "text"),
        (["1e5"], "text"),
        (["NaN"], "text"),
        (["2026-02-28"], "date"),
        (["2026-02-30"], "text"),
        (["01/02/2026"], "text"),
        (["20260102"], "bigint"),
        (["2026-01-02T03:04:05Z", "2026-01-02 03:04:05.123+02:00"], "timestamptz"),
        (["2026-01-02 03:04"], "timestamp"),
        (["2026-01-02 25:04"], "text"),
        (["yes", "NO", "t"], "boolean"),
        (["1", "yes"], "text"),
        (["01a202c9-1d7a-7516-8a27-1f34e4228070"], "uuid"),
        (["today"], "text"),
        ([], "text"),
    ],
)
def test_a_type_must_fit_every_value(values: list[str], type_name: str) -> None:
    """And lose nothing."""
    assert type_of(values) == type_name


def test_a_definition_for_a_file() -> None:
    """Names that can be written, the file's as aliases, a table that would fit."""
    text = definition_of_sample(sample("Order No.,Name,Größe,1st\n1,a,007,\n2,,8,\n".encode()), name="f", table="f")
    assert 'CREATE TABLE f ("order_no" bigint, "name" text, "gr_sse" text, "column_4_1st" text);' in text
    definition = read_definition(text, "f.toml")
    assert {name: column.type for name, column in definition.columns.items()} == {
        "order_no": "bigint", "name": "text", "gr_sse": "text", "column_4_1st": "text",
    }  # fmt: skip
    assert (definition.columns["order_no"].aliases, definition.columns["gr_sse"].aliases) == ((), ("Größe",))
    assert plan_load(
        definition, ["Order No.", "Name", "Größe", "1st"], version=1, dialect=Dialect(), parameters={}
    ).plan


def test_columns_of_the_same_name() -> None:
    """Are left out, and the file can be loaded all the same, unless there are no others."""
    definition = inferred(b"a,b,A,a!\n1,2,3,4\n")
    assert (list(definition.columns), definition.unknown_columns) == (["b"], "ignore")
    with pytest.raises(FileError) as raised:
        inferred(b"a,A\n1,2\n")
    assert raised.value.code == "E_HEADER"


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30), min_size=1, max_size=8),
    st.lists(st.text("019.-: TZaé\"#'\\", max_size=12), max_size=8),
)
def test_any_file_can_be_loaded_by_its_suggestion(names: list[str], values: list[str]) -> None:
    """Whatever its columns are called."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(
        [names, (values + [""] * len(names))[: len(names)]]
    )
    try:
        found = sample(text.getvalue().encode())
        suggested = definition_of_sample(found, name="f", table="f")
    except FileError:
        return  # a name of blanks alone, or all the same
    definition = read_definition(suggested, "f.toml")
    spec = plan_load(definition, found.header.names, version=1, dialect=Dialect(), parameters={})
    assert spec.plan is not None
    assert all(field.given for field in spec.plan.fields)


def table(*names: str) -> TableDataset:
    """A table whose first column is its key, and whose last one is generated."""
    columns = tuple(
        TargetColumn(
            name=name, type="numeric(8,2)", required=place == 1, generated=place == len(names) - 1, is_key=place == 0
        )
        for place, name in enumerate(names)
    )
    return TableDataset(name="s.t", schema="s", table="t", columns=columns)


@pytest.mark.parametrize("names", [("id", "amount", "twice"), ("Id", 'Odd, "Name"', "plain", "twice")])
def test_a_definition_for_a_table(names: tuple[str, ...]) -> None:
    """Its own columns, an upsert by its key; names that a dataset cannot have are mapped."""
    definition = read_definition(definition_of_table(table(*names), name="t"), "t.toml")
    [target] = definition.tables
    assert (target.schema_and_table, target.key, target.mode) == (("s", "t"), (names[0],), Merge.UPSERT)
    assert list(target.pairs(definition.columns)) == list(names[:-1])
    assert all(column.required and column.type == "numeric(8,2)" for column in list(definition.columns.values())[:2])
    spec = plan_load(definition, names[:-1], version=1, dialect=Dialect(), parameters={})
    assert spec.plan is not None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Order No.", "order_no"),
        ("2026", "file_2026"),
        ("名前", "file"),
        ("__a__", "a"),
        ("x" * 99, "x" * 60),
        ("É", "file"),
    ],
)
def test_names_that_can_be_written(text: str, name: str) -> None:
    """Small letters, digits and _, a letter first."""
    assert name_of(text, "file") == name
