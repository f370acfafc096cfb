"""Records of any dialect -> as COPY reads them: the same fields that Python's csv reads, or a fault."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.loading.fields import fields
from ingest.reading.canonical import CANONICAL, Canonical, canonical, layout_of
from ingest.reading.records import records
from ingest.reading.tokens import MOST, tokens
from ingest.reading.transcoding import SentOffsets, Transcoder, sent_bytes, sent_length
from ingest.splitter import Splitter

WIDTH = 3
DIALECTS: list[tuple[Dialect, dict[str, Any]]] = [
    (Dialect(delimiter=";", trim=True), {"delimiter": ";", "skipinitialspace": True}),
    (Dialect(quote="'", newline="cr"), {"quotechar": "'", "lineterminator": "\r"}),
    (Dialect(delimiter="\u00a6"), {"delimiter": "\u00a6"}),
    (Dialect(delimiter="|", quote="", escape="\\"), {"delimiter": "|", "quoting": csv.QUOTE_NONE, "escapechar": "\\"}),
    (Dialect(escape="\\", on_ragged="pad"), {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}),
    (Dialect(delimiter="\t", on_quote="keep"), {"delimiter": "\t"}),
]  # fmt: skip
CELLS = st.text(alphabet="ab,;|\t\"'\\ \n\u00a6é", max_size=6).map(str.strip)


def read(data: bytes, types: tuple[str, ...] = ("text",) * WIDTH, leniently: bool = True, **options: Any) -> Canonical:
    """The records of a file of some columns."""
    dialect, width = Dialect(**options), len(types)
    where = records(data, dialect, 1, width == 1, width, 1 << 20)
    return canonical(data, dialect, where, layout_of(dialect, width, types), leniently=leniently)


def texts(read: Canonical) -> list[list[str | None]]:
    """The fields of canonical records, as COPY reads them."""
    found = records(read.data, read.dialect, 1, False)
    return [
        [None if value is None else value.decode() for value in fields(read.data[start:end], CANONICAL)]
        for start, end in zip(found.start, found.end, strict=True)
    ]


@pytest.mark.parametrize(("dialect", "how"), DIALECTS, ids=lambda value: "" if isinstance(value, dict) else None)
@given(rows=st.lists(st.lists(CELLS, min_size=WIDTH, max_size=WIDTH).filter(any), max_size=8))
def test_what_csv_writes_in_a_dialect_comes_out_as_it_was(
    dialect: Dialect, how: dict[str, Any], rows: list[list[str]]
) -> None:
    """Cut by the splitter in blocks, found again by the worker, read, and written for COPY."""
    if dialect.newline == "cr" or not dialect.quote:
        rows = [[cell.replace("\n", "") for cell in row] for row in rows]
        rows = [row for row in rows if any(row)]
    file = io.StringIO(newline="")
    csv.writer(file, **{"lineterminator": "\n"} | {k: v for k, v in how.items() if k != "skipinitialspace"}).writerows(
        rows
    )
    data = file.getvalue().encode()
    splitter = Splitter(
        dialect, first_line=1, single_column=False, batch_records=1000, batch_bytes=1 << 20, max_record_bytes=1 << 20,
        width=WIDTH,
    )  # fmt: skip
    cuts = [*splitter.feed(data), *splitter.finish()]
    where = records(data, dialect, 1, False, WIDTH, 1 << 20)
    assert sum(cut.records for cut in cuts) == len(where.start) == len(rows)
    found = canonical(data, dialect, where, layout_of(dialect, WIDTH, ("text",) * WIDTH), leniently=True)
    assert found.faults == {}
    assert [[value or "" for value in row] for row in texts(found)] == rows


@pytest.mark.parametrize(
    ("record", "types", "options", "expected"),
    [
        (b"1,a", ("integer", "text", "date"), {"on_ragged": "pad"}, ["1", "a", None]),
        (b"1,a,,,", ("integer", "text", "date"), {"on_ragged": "pad"}, ["1", "a", None]),
        (b"1,a,2024-01-02,x", ("integer", "text", "date"), {"on_ragged": "pad"}, ["1", "a", "2024-01-02", "x"]),
        (b"1,a, b,2024-01-02", ("integer", "text", "date"), {"on_ragged": "merge"}, ["1", "a, b", "2024-01-02"]),
        (b"1,a,b,c", ("integer", "text", "text"), {"on_ragged": "merge"}, ["1", "a", "b", "c"]),
        (b"1,2,3,4", ("integer", "integer", "integer"), {"on_ragged": "merge"}, ["1", "2", "3", "4"]),
        (b'1,a"b,c', ("integer", "text", "text"), {"on_quote": "keep"}, ["1", 'a"b', "c"]),
        (b'1,"a"b",c', ("integer", "text", "text"), {"on_quote": "keep"}, ["1", 'a"b', "c"]),
        (b'1,"ab,c', ("integer", "text", "text"), {"on_quote": "keep"}, ["1", '"ab', "c"]),
        (b'1,"a"b,c', ("integer", "text", "text"), {"on_quote": "keep"}, ["1", '"a"b', "c"]),
        (b"1;;2;3", ("integer", "text"), {"delimiter": ";", "columns": ("a", "", "b", "")}, ["1", "2"]),
        (b'1,"",NA', ("integer", "text", "text"), {"null": "NA", "trim": True}, ["1", "", None]),
    ],
)  # fmt: skip
def test_records_that_need_leniency(record: bytes, types: Any, options: Any, expected: list[str | None]) -> None:
    """What is padded, merged, kept; and what no option makes whole stays as it is, to be rejected."""
    dialect = Dialect(**options)
    width = len(dialect.columns) or len(types)
    where = records(record, dialect, 1, False, width, 1 << 20)
    found = canonical(record, dialect, where, layout_of(dialect, width, types), leniently=True)
    assert (texts(found), found.faults) == ([expected], {})


def test_a_fault_is_a_record_of_its_own() -> None:
    """So that numbers stay those of the file."""
    found = read(b'1, 2,3\n4,"5"6,7\n8,9,a\rb\n"x,1,2\n', trim=True)
    assert found.faults == {1: (2, "trail"), 2: (3, "cr"), 3: (1, "open")}
    assert found.start.tolist() == [0, 6, 9, 12]


def test_many_delimiters_take_no_memory() -> None:
    """Behind the fields that a table may have, the rest is one."""
    assert len(tokens(b"," * 100_000, Dialect())) == len(tokens(b'""' + b"," * 100_000, Dialect())) == MOST + 1


ENCODINGS = ["cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "koi8-r", "cp037", "gbk"]


@pytest.mark.parametrize("encoding", ENCODINGS)
@given(
    text=st.text(alphabet="ab,\n\u20ac\u044f\u4f60\U0001f600\u00e9", max_size=40), blocks=st.lists(st.integers(1, 7))
)
def test_any_blocks_are_transcoded_alike_and_back(encoding: str, text: str, blocks: list[int]) -> None:
    """Characters may be cut anywhere; every place is found again in the file as it was sent."""
    text = text.encode(encoding, "ignore").decode(encoding)
    data = text.encode(encoding)
    transcoder, found, at = Transcoder(encoding), b"", 0
    for size in [*blocks, len(data)]:
        found += bytes(transcoder.feed(data[at : at + size]))
        at += size
    found += bytes(transcoder.feed(b"", ended=True))
    assert found.decode() == text
    assert sent_bytes(found, transcoder.encoding) == data[transcoder.bom_bytes :]
    offsets = SentOffsets(transcoder.encoding, 0)
    offsets.take(found)
    for end in range(len(text) + 1):
        part = text[:end].encode()
        assert sent_length(part, transcoder.encoding) == len(text[:end].encode(transcoder.encoding))
    assert offsets.up_to(len(found)) == 0
    assert offsets.up_to(len(found)) == len(data) - transcoder.bom_bytes


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "gbk"])
@given(data=st.binary(max_size=40))
def test_bytes_that_mean_nothing_survive(encoding: str, data: bytes) -> None:
    """They are no UTF-8, and can be turned back."""
    transcoder = Transcoder(encoding)
    found = bytes(transcoder.feed(data)) + bytes(transcoder.feed(b"", ended=True))
    if encoding != "utf-16-le" or len(data) % 2 == 0:
        assert sent_bytes(found, encoding) == data[transcoder.bom_bytes :]
