"""What a person sees of a file before it is loaded."""

from __future__ import annotations

import pytest

from ingest.datasetfiles import known_definitions
from ingest.definitions.defined import DefinedDataset
from ingest.definitions.detection import AutoDataset
from ingest.definitions.preview import preview, read_sample
from ingest.definitions.tables import TableDataset, TargetColumn
from ingest.dialect import Dialect
from ingest.errors import FileError
from tests.exports import kickstarter, pledges

SHIPPED = {one.name: DefinedDataset(definition=one, version=1) for one in known_definitions(None)}
TABLE = TableDataset(
    name="public.t", schema="public", table="t",
    columns=tuple(TargetColumn(name=name, type="text", required=name == "id", generated=False, is_key=False) for name in ("id", "name")),
)  # fmt: skip


def seen(data: bytes, name: str = "customers", dialect: Dialect | None = None) -> dict[str, object]:
    """The preview of a file for a shipped dataset."""
    dataset = {"auto": AutoDataset(datasets=tuple(SHIPPED.values())), "public.t": TABLE, **SHIPPED}[name]
    return preview(data, dataset, dialect or Dialect(), max_record_bytes=100_000)  # type: ignore[arg-type]


def test_the_mapping_with_the_alias_that_matched() -> None:
    """And the type that the text is read as."""
    found = seen(b"E-Mail Address,FULL NAME\na@b.c,A\n")
    assert found["columns"] == [
        {"name": "E-Mail Address", "column": "email", "matched": "e-mail address", "type": "text"},
        {"name": "FULL NAME", "column": "name", "matched": "full name", "type": "text"},
    ]
    assert (found["rows"], found["problems"], found["missing"]) == ([["a@b.c", "A"]], [], [])


def test_the_dataset_is_recognised() -> None:
    """With platform and certainty; what is left out is named."""
    found = seen(kickstarter(list(pledges(50))).encode(), "auto")
    assert (found["dataset"], found["platform"], found["problems"]) == ("crowdfunding", "kickstarter", [])
    assert found["certainty"] == 0.85  # 22 of 28 columns, and the marks
    assert isinstance(found["rows"], list)
    assert len(found["rows"]) == 20
    assert found["ignored"] == [
        "Billing State/Province", "Billing Country", "Shipping Country Name", "Shipping Country Code",
        "Shipping Delivery Notes", "[Addon: 1] Dice, Metal",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "name", "problems"),
    [
        (b"name,x\nA,1\n", "customers", ["missing: 'email'", "unknown: 'x'"]),
        (b"email,E-Mail\na@b.c,1\n", "customers", ["more than once: 'email'"]),
        (b"email,name\na@b.c\n\n,B,C\n", "customers", [
            "line 2 has 1 fields, the header has 2", "line 4 has 3 fields, the header has 2",
            "email must have a value, but is empty on line 4",
        ]),
        (b"email;name\na;b\n", "customers", ["missing: 'email'", "unknown: 'email;name'", "the header seems to be written with the delimiter ';'"]),
        (b"email,name\na@b.c,\xe9\n", "customers", ["some bytes are not UTF-8: convert the file to UTF-8"]),
        (b"name,colour\n", "public.t", ["missing: 'id'", "unknown: 'colour'"]),
        (b"id,name,_line\n1,a,7\n", "public.t", []),
        (b"email,order id,total,whatever\n", "crowdfunding", []),
    ],
)  # fmt: skip
def test_problems_are_said_in_words(data: bytes, name: str, problems: list[str]) -> None:
    """Those that the first rows show."""
    assert seen(data, name)["problems"] == problems


def test_an_incomplete_last_record_is_left_out() -> None:
    """A sample ends anywhere; a file without line end at all has one record."""
    sample = read_sample(b'a,b\n1,"x\ny"\n2,z', Dialect(), max_record_bytes=1000)
    assert sample.rows == ((2, ["1", "x\ny"]),)
    assert read_sample(b"a\n1", Dialect(), max_record_bytes=1000).rows == ((2, ["1"]),)


def test_line_separators_of_other_worlds_end_no_line() -> None:
    """Only LF does."""
    sample = read_sample("a,b\n1,x\u2028y\x0bz\n2,w\n".encode(), Dialect(), max_record_bytes=1000)
    assert [line for line, _ in sample.rows] == [2, 3]


def test_long_values_are_cut() -> None:
    """A preview is for a person."""
    assert seen(b"email\n" + b"x" * 5000 + b"\n")["rows"] == [["x" * 200]]


def test_what_cannot_be_read_is_refused() -> None:
    """Like an upload, with the same codes."""
    for data, code in ((b"", "E_EMPTY"), (b"PK\x03\x04", "E_NOT_CSV"), (b'"a', "E_QUOTE_OPEN")):
        with pytest.raises(FileError) as raised:
            seen(data)
        assert raised.value.code == code
    with pytest.raises(FileError) as unsure:
        seen(b"x,y\n1,2\n", "auto")
    assert unsure.value.code == "E_DATASET_UNSURE"
