"""Quotes that swallow lines, comments, escapes and other line ends: cut alike in any blocks, and found again in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.batches import BatchCut
from ingest.reading.records import records
from ingest.splitter import Splitter

WIDTH = 3
LIMIT = 300
DIALECTS = [
    Dialect(),
    Dialect(quote="'", delimiter=";"),
    Dialect(escape="\\"),
    Dialect(comment="#"),
    Dialect(comment="//", escape="\\"),
    Dialect(quote=""),
    Dialect(quote="", escape="\\"),
    Dialect(newline="cr"),
    Dialect(newline="cr", comment="#", quote="'"),
    Dialect(delimiter="||"),
    Dialect(trim=True),
]
# Pieces of lines, sound and not, from which any damage can be made.
PIECES = [
    "a",
    ",",
    '"',
    "'",
    ";",
    "\n",
    "\r\n",
    "\r",
    "\\",
    "#",
    "//",
    "|",
    " ",
    '"a,b",c,d\n',
    "1,2,3\n",
    '1,"x\ny",2\n',
]


@dataclass(frozen=True, slots=True)
class Cut:
    """What became of some bytes: batches, or the error that ended them."""

    batches: list[BatchCut]
    error: str = ""


def cut(data: bytes, dialect: Dialect, blocks: list[int], **options: Any) -> Cut:
    """Cut bytes into batches, fed in blocks that end at the given places."""
    given = {"batch_records": 3, "batch_bytes": 1000, "width": WIDTH, **options}
    splitter = Splitter(dialect, first_line=2, single_column=False, max_record_bytes=LIMIT, **given)
    found: list[BatchCut] = []
    try:
        for begin, end in pairwise([0, *sorted(place for place in blocks if place < len(data)), len(data)]):
            found += splitter.feed(data[begin:end])
        found += splitter.finish()
    except FileError as error:
        return Cut(found, f"{error.code} {error.facts.get('line')}")
    return Cut(found)


def lines(data: bytes, **options: Any) -> list[bytes]:
    """The records of a file of three columns, as a worker finds them in its one batch."""
    dialect = Dialect(**options)
    (batch,) = cut(data, dialect, [], batch_records=1000).batches
    found = records(data, dialect, 2, False, WIDTH, LIMIT)
    assert len(found.start) == batch.records
    return [data[start:end] for start, end in zip(found.start, found.end, strict=True)]


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: "-".join(map(str, dialect.to_json().values())))
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=60), blocks=st.lists(st.integers(0, 300), max_size=12))
def test_any_blocks_are_cut_alike_and_each_batch_holds_the_records_that_were_counted(
    dialect: Dialect, pieces: list[str], blocks: list[int]
) -> None:
    """Whatever the damage: the worker sees a batch without what follows it."""
    data = "".join(pieces).encode()
    whole = cut(data, dialect, [])
    assert cut(data, dialect, blocks) == whole
    assert cut(data, dialect, list(range(len(data)))) == whole
    line = 2
    for (start, end), batch in zip(pairwise([0, *(batch.end for batch in whole.batches)]), whole.batches, strict=True):
        found = records(data[start:end], dialect, line, False, WIDTH, LIMIT)
        assert len(found.start) == batch.records
        line += batch.lines


# Each line has three fields where a quote ends a field only before a delimiter; the quotes of the first and last are odd.
UNESCAPED = b'1,"Ramp, 18" raised",x\n2,"The "Long" Run",y\n3,"as "told" here",z\n4,"at 5" low",w\n'


@pytest.mark.parametrize("data", [UNESCAPED, UNESCAPED.replace(b'"', b"'")], ids=["quotes", "apostrophes"])
def test_quotes_inside_of_quoted_fields_swallow_no_lines(data: bytes) -> None:
    """Where nobody escaped them; the lines between are none that are whole by COPY's rule."""
    assert lines(data, quote=chr(data[2])) == data.splitlines()


@pytest.mark.parametrize(
    "data",
    [
        b'1,"Ramp\n18, raised",x\n2,"y",z\n',
        b'1,"a ""b"", and\n ""c""",x\n2,"y",z\n',
    ],
)
def test_a_line_that_is_no_record_by_itself_is_none(data: bytes) -> None:
    """A field of several lines stays one, whether or not its quotes are sound."""
    assert lines(data) == [data[: data.index(b"\n2,")], data[data.index(b"\n2,") + 1 : -1]]
