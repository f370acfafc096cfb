"""A table that is made for a file: its names, its types, and what is refused."""

from __future__ import annotations

import pytest

from ingest.definitions.newtable import NewTable, new_table, with_sample
from ingest.detecting import sample_records
from ingest.dialect import Dialect
from ingest.errors import FileError, IngestError, RequestError
from ingest.header import Header


def columns(data: bytes, names: list[str], dialect: Dialect | None = None, **parameters: str) -> list[str]:
    """The columns of the table that is made for records."""
    dialect = dialect or Dialect()
    table = NewTable(schema="public", table="t", records=sample_records(data, dialect))
    spec = table.spec(names, dialect=dialect, parameters=parameters)
    assert spec.makes == ", ".join(f'"{column.name}" {column.type}' for column in spec.columns)
    return [f"{column.name} {column.type}" for column in spec.columns]


def test_types_are_those_that_all_records_have() -> None:
    """Codes with leading zeros are no numbers."""
    data = b"1,007,1.5,2026-01-02,x\n2,12,2,2026-01-03,\n"
    assert columns(data, ["a", "b", "c", "d", "e"]) == ["a bigint", "b text", "c numeric", "d date", "e text"]
    assert columns(data, ["a", "b", "c", "d", "e"], types="text")[0] == "a text"


def test_the_sample_is_read_in_the_dialect() -> None:
    """Quotes, escapes, delimiters of several characters, NULLs, comments, line ends."""
    assert columns(b"1;'x;y'\n2;'z'\n", ["a", "b"], Dialect(delimiter=";", quote="'")) == ["a bigint", "b text"]
    assert columns(b'"1"||-\n"2"||3\n', ["a", "b"], Dialect(delimiter="||", null="-")) == ["a bigint", "b bigint"]
    assert columns(b"1, 2\r# x\r3, 4\r", ["a", "b"], Dialect(newline="cr", comment="#", trim=True)) == [
        "a bigint",
        "b bigint",
    ]
    assert sample_records(b'"a\\"b",2\n3,4', Dialect(escape="\\")) == [['a"b', "2"]]
    assert sample_records(b"1,2", Dialect()) == [["1", "2"]]


def test_a_value_that_would_change_stays_text() -> None:
    """Spaces are part of a text, not of a number."""
    assert columns(b" 1,2\n", ["a", "b"]) == ["a text", "b bigint"]


def test_names_are_plain_and_no_two_are_the_same() -> None:
    """Whatever the header holds."""
    assert columns(b"", ["Naïve Name", "naive name", 'x"; drop table y;--', "123", "Größe", "a", "A"]) == [
        "na_ve_name text", "naive_name text", "x_drop_table_y text", "column_4_123 text", "gr_sse text", "a text", "a_c7 text",
    ]  # fmt: skip


def test_columns_without_a_header_are_numbered() -> None:
    """So that they can be named at all."""
    header = Header(names=(), end=0, next_line=1, rest=b"1,x\n2,y\n", width=2, first=("1", "x"))
    table = with_sample(NewTable(schema="public", table="t"), header, Dialect(header_rows=0))
    assert table.own_names() == ["column_1", "column_2"]


@pytest.mark.parametrize(
    ("name", "found"),
    [("new:public.t", "public.t"), ("public.t", None), ("new", None), ("news", None)],
)
def test_a_new_table_is_named(name: str, found: str | None) -> None:
    """Anything else is another dataset."""
    table = new_table(name)
    assert (table.name if table else None) == found


@pytest.mark.parametrize(
    "name", ["new:t", "new:public.", "new:.t", 'new:public.t"x', "new:Public.t", "new:a.b.c", "new:public.t\n"]
)
def test_a_name_that_would_need_quotes_is_refused(name: str) -> None:
    """A table that is made should be easy to ask for."""
    with pytest.raises(RequestError):
        new_table(name)


@pytest.mark.parametrize(
    ("names", "parameters", "resubmission", "error"),
    [
        (["a"], {"types": "wild"}, False, RequestError),
        (["a"], {"colour": "red"}, False, RequestError),
        (["a"], {}, True, RequestError),
        ([], {}, False, FileError),
    ],
)
def test_what_cannot_be_is_refused(
    names: list[str], parameters: dict[str, str], resubmission: bool, error: type[IngestError]
) -> None:
    """With the option at fault."""
    table = NewTable(schema="public", table="t", records=[["1"]])
    with pytest.raises(error):
        table.spec(names, dialect=Dialect(), parameters=parameters, resubmission=resubmission)


def test_a_header_is_shown_as_it_will_be() -> None:
    """For a preview."""
    reading = NewTable(schema="public", table="t", records=[["1", "x"]]).read_header(["No", "Name"])
    assert (reading.dataset, reading.types, reading.missing) == ("public.t", {"no": "bigint", "name": "text"}, ())
    unseen = NewTable(schema="public", table="t")
    assert unseen.names_known() == frozenset()
    assert unseen.to_json()["table"] == "public.t"
