"""Which columns of a staging table COPY reads by itself: only those of which it makes what the plan would, or nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingest.dialect import Dialect
from ingest.loading.shape import Shape, shape_of
from ingest.spec import Column, Field, LoadSpec, Plan

NUMBER = Field(name="n", type="integer", position=0)
TEXT = Field(name="t", type="text", position=1, trim=False)


def shape(*fields: Field, null: str = "", parent_line: int | None = None) -> Shape | None:
    """The shape for a file of three columns."""
    spec = LoadSpec(
        dataset="d",
        schema="public",
        table="t",
        columns=tuple(Column(name=name, type="text") for name in "abc"),
        dialect=Dialect(null=null),
    )
    return shape_of(spec, Plan(fields=fields, targets=(), parent_line=parent_line))


def test_numbers_are_values_though_they_are_trimmed() -> None:
    """Their type passes over blanks; an empty one in quotes is NULL, as trimming would have it."""
    assert shape(NUMBER, TEXT) == Shape(("integer", "text", "text"), frozenset({0, 1}), frozenset({0}))


def test_an_empty_text_is_null_where_the_field_says_so() -> None:
    found = shape(NUMBER, replace(TEXT, nulls=("",)))
    assert found is not None
    assert found.nulls == {0, 1}


@pytest.mark.parametrize(
    "field",
    [
        replace(NUMBER, nulls=("n/a",)),
        replace(NUMBER, words=(("none", "0"),)),
        replace(NUMBER, format="1.234,56"),
        replace(NUMBER, default="7"),
        replace(NUMBER, type="integer[]"),
        replace(NUMBER, type="character(3)"),
        replace(NUMBER, type="text"),
        replace(NUMBER, type="json"),
    ],
    ids=lambda field: f"{field.type} {field.nulls or field.words or field.format or field.default or ''}",
)
def test_what_copy_would_read_otherwise_is_a_text(field: Field) -> None:
    found = shape(field, TEXT)
    assert found is not None
    assert (found.types[0], found.values) == ("text", {1})


def test_an_empty_text_is_no_null_to_copy_where_another_word_is() -> None:
    assert shape(NUMBER, null="NA") is None
    assert shape(replace(NUMBER, trim=False), null="NA") is not None


def test_two_fields_of_one_column_must_read_it_alike() -> None:
    assert shape(NUMBER, replace(NUMBER, name="m", type="bigint")) is None
    assert shape(NUMBER, replace(NUMBER, name="m")) == Shape(
        ("integer", "text", "text"), frozenset({0}), frozenset({0})
    )


def test_corrected_rejects_are_texts() -> None:
    """Their formulas were guarded."""
    assert shape(NUMBER, TEXT, parent_line=2) is None
