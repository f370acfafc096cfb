"""Rejected records as lines of CSV: what stands in them is what stood in the file, and what is wrong is said behind."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.dialect import Dialect
from ingest.loading.fields import fields
from ingest.rejectcsv import RejectLines
from ingest.spec import Column, LoadSpec, Plan


def lines(*header: str, dialect: Dialect | None = None) -> RejectLines:
    """The lines of a job whose file has this header."""
    return RejectLines(
        LoadSpec(
            dataset="t", schema="public", table="t", columns=(Column(name="a", type="text"),),
            dialect=dialect or Dialect(), header=header,
        )
    )  # fmt: skip


def row(raw: str | bytes, **changes: Any) -> dict[str, Any]:
    """A rejected record."""
    text, bare = (raw, None) if isinstance(raw, str) else (None, raw)
    reasons = {"columns": "a", "codes": "E_TYPE", "messages": "no number", "truncated": False}
    return {"line": 7, "raw": text, "raw_bytes": bare, **reasons, **changes}


def test_the_header_is_the_files_own() -> None:
    """In its order; a job without one has the columns' names."""
    assert lines("b", "A x").header() == b"b,A x,_line,_column,_code,_error\n"
    assert lines().header() == b"a,_line,_column,_code,_error\n"
    assert lines("a;b", "=c", dialect=Dialect(delimiter=";")).header() == b'"a;b";\'=c;_line;_column;_code;_error\n'


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("1,2", "1,2"),
        ('1,"x, ""y"""', '1,"x, ""y"""'),
        ('"",', '"",'),  # an empty text and NULL stay apart
        ('"a\nb",2', '"a\nb",2'),
        (",", ","),
        ("1", "1,"),  # a field too few
        ("1,2,3,", '1,"2,3,"'),  # two too many
        ('1,2,"x,y"', '1,"2,x,y"'),
        ("=1+1,-5", "'=1+1,-5"),
        ('"-1+1","a\rb"', '\'-1+1,"a\rb"'),
        (b"caf\xe9,a\x00b", "caf\\xe9,a\\x00b"),
        (" a ,b", '" a ",b'),
        ('"open,b', '"open,b",'),  # of a record that was cut
    ],
)
def test_a_record_is_written_as_it_was(raw: str | bytes, written: str) -> None:
    """With as many fields as the header has."""
    assert lines("a", "b").record(row(raw)).decode() == f"{written},7,a,E_TYPE,no number\n"


def test_null_is_written_as_the_file_writes_it() -> None:
    """And a text that looks like it is quoted; padding is NULL."""
    dialect = Dialect(delimiter="\t", quote="'", null="NA")
    written = lines("a", "b", "c", dialect=dialect).record(row("NA\t'NA'", columns=None)).decode()
    assert written == "NA\t'NA'\tNA\t7\tNA\tE_TYPE\tno number\n"
    assert fields(b"NA\t'NA'\tNA", dialect) == [None, b"NA", None]


def test_what_came_back_keeps_its_apostrophe_and_gets_no_other() -> None:
    """Otherwise one more would be left with every round of corrections."""
    plan = Plan(fields=(), targets=(), parent_line=1)
    spec = LoadSpec(
        dataset="t", schema="public", table="t", columns=(), dialect=Dialect(), header=("a", "_line"), plan=plan
    )
    again = RejectLines(spec)
    assert again.record(row("'=1+1,7")).decode().startswith("'=1+1,")
    assert again.record(row("=1+1,7")).decode().startswith("'=1+1,")


def test_a_message_is_guarded_too() -> None:
    """A column may have any name, and a message quote anything."""
    assert lines("a").record(row("1", columns="=a", messages='"x", y')).decode() == '1,7,\'=a,E_TYPE,"""x"", y"\n'


def test_the_columns_of_an_earlier_export_are_left_out() -> None:
    """A corrected file that was rejected again says where its records are in itself."""
    again = lines("a", "_line", "_column", "_code", "_error", "b")
    assert again.header() == b"a,b,_line,_column,_code,_error\n"
    assert again.record(row("1,3,a,E_TYPE,no number,x")) == b"1,x,7,a,E_TYPE,no number\n"
