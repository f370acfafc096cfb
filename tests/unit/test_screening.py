"""What is found before PostgreSQL sees the bytes. That PostgreSQL agrees is shown by the loading tests."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from ingest.batch import Batch
from ingest.chunk import BatchRange, Chunk, ChunkCut
from ingest.dialect import Dialect
from ingest.loading.screening import has_copy_end, malformed, may_copy, may_stage, records_of, reject_of, screened
from ingest.reading.records import records
from ingest.reject import MAX_RAW_BYTES, MAX_VALUE_CHARS
from ingest.spec import Column, LoadSpec

COMMA = Dialect()


def batch(data: bytes, *types: str, blank_lines: int = 0) -> Batch:
    """A batch that begins at byte 1000 and line 10 of its file, for columns c1, c2, ..."""
    columns = tuple(Column(name=f"c{i}", type=name) for i, name in enumerate(types, 1))
    spec = LoadSpec(dataset="public.t", schema="public", table="t", columns=columns, dialect=COMMA)
    cut = ChunkCut(
        ordinal=1, object_key="k", object_offset=0, length_bytes=1000, file_offset=900, first_line=2,
        ends=[1000], records=[1], lines=[1], blank_lines=[0],
    )  # fmt: skip
    chunk = Chunk(id=1, job_id=UUID(int=1), epoch=1, attempt=1, spec=spec, cut=cut)
    found = records(data, COMMA, 10, len(types) == 1)
    lines = data.count(b"\n") + (not data.endswith(b"\n"))
    extent = BatchRange(
        start=100, end=100 + len(data), first_line=10, records=len(found.start), lines=lines, blank_lines=blank_lines
    )
    return Batch(chunk=chunk, range=extent, data=data)


@pytest.mark.parametrize("data", [b"\\.\n", b"a\n\\.\n", b"a\n\\.", b"\\.", b"a\r\n\\.\r\n", b'"x\n\\.\ny"\n'])
def test_a_line_that_ends_a_copy_is_found(data: bytes) -> None:
    """Alone on a line, also inside quotes, also without a line end after it."""
    assert has_copy_end(data)
    assert not may_copy(batch(data, "text"))


@pytest.mark.parametrize("data", [b"a\\.\n", b"\\.a\n", b"\\..\n", b" \\.\n", b"\\\n.\n", b"", b"..\n"])
def test_other_backslashes_are_data(data: bytes) -> None:
    """Only the two bytes alone on a line are special."""
    assert not has_copy_end(data)
    assert may_copy(batch(data, "text"))


def test_blank_lines_are_not_for_copy() -> None:
    """COPY would read one as a record with a column missing."""
    assert not may_copy(batch(b"1,2\n\n", "text", "text", blank_lines=1))


MOVING = [
    "now",
    "TODAY",
    "Tomorrow",
    "yesterday",
    "tomorrow 10:00",
    "today10:00",
    "10:00today",
    "_now",
    "now_",
    " now ",
]


@pytest.mark.parametrize("word", MOVING)
@pytest.mark.parametrize("type_name", ["date", "timestamp with time zone", "time without time zone", "date[]"])
def test_moving_dates_are_found(word: str, type_name: str) -> None:
    """In every spelling that PostgreSQL reads as a date, in the first record and the last, quoted or not."""
    assert not may_copy(batch(f"{word},x\n2020-01-01,y\n".encode(), type_name, "text"))
    assert not may_copy(batch(f'x,2020-01-01\ny,"{word}"'.encode(), "text", type_name))


@pytest.mark.parametrize("data", [b"now,2020-01-01\n", b"x,2020-01-01\nknown today,\n", b"x,Monday\n", b"x,snow\n"])
def test_the_same_words_elsewhere_are_data(data: bytes) -> None:
    """In a text column, or as part of another word."""
    assert may_copy(batch(data, "text", "date"))


@pytest.mark.parametrize("type_name", ["text", "interval", "tsvector", "integer"])
def test_only_dates_can_move(type_name: str) -> None:
    """Other types read the words as what they are."""
    assert may_copy(batch(b"now,today\n", type_name, type_name))


@pytest.mark.parametrize(
    ("record", "field_count", "code", "part"),
    [
        (b"a", 1, "E_COLUMNS", "1 fields, fewer than the 2 columns"),
        (b"a,b,c", 3, "E_COLUMNS", "3 fields, more than the 2 columns"),
        (b"a,\x00", 2, "E_NUL", "NUL"),
        (b"a,b\xff\xfe", 2, "E_UTF8", "byte 4 of the record (0xff)"),
        (b"a,\xed\xa0\x80", 2, "E_UTF8", "byte 3"),
        (b"a\r,b", 2, "E_LINE_END", "carriage return"),
        (b'"a\r",b\r', 2, "E_LINE_END", "carriage return"),
        (b'a"b,c"', 1, "E_QUOTE_BARE", "field 1 holds a quote without beginning with one"),
        (b'"b"c,d,e', 3, "E_QUOTE_TRAIL", "field 1 goes on after its closing quote"),
        (b'"b\n"c,d', 2, "E_QUOTE_TRAIL", "1 more line was taken"),
        (b'a,b"\nc,d"', 2, "E_QUOTE_BARE", "1 more line was taken for a part of the record"),
        (b"a,b,", 3, "E_COLUMNS", "trailing delimiter"),
        (b"'a,b',c", 3, "E_COLUMNS", "quoted with '"),
    ],
)
def test_malformed_records_say_what_is_wrong(record: bytes, field_count: int, code: str, part: str) -> None:
    """A stable code and a sentence that names the place."""
    wrong = malformed(record, field_count, 2, COMMA)
    assert wrong is not None
    assert wrong[0] == code
    assert part in wrong[1]


@pytest.mark.parametrize("record", [b"a,b", b",", b'"a\r\nb",c', "é,\U0001f600".encode(), b"\\.,\\."])
def test_well_formed_records(record: bytes) -> None:
    """Carriage returns inside quotes and any valid text are fine."""
    assert malformed(record, 2, 2, COMMA) is None


@pytest.mark.parametrize("data", [b'a,b"\nc"\n', b'"a\n"b,c\n', b'x,y\na"b\nc",d\n'])
def test_stray_quotes_that_take_lines_with_them_are_not_for_copy(data: bytes) -> None:
    """COPY would make one row of several lines, without an error."""
    found = batch(data, "text", "text")
    assert not may_copy(found)
    assert not may_stage(found)


@pytest.mark.parametrize(("data", "code"), [(b'a,b"c"d\n', "E_QUOTE_BARE"), (b'"a"b,c\n', "E_QUOTE_TRAIL")])
def test_stray_quotes_inside_of_a_field_are_not_for_copy(data: bytes, code: str) -> None:
    """COPY would drop them without an error."""
    found = batch(data, "text", "text")
    assert not may_copy(found)
    assert not may_stage(found)
    assert [reject.code for reject in screened(found, records_of(found))[0]] == [code]


@pytest.mark.parametrize("data", [b'a,"b""c"\n', b'"x\ny",z\n', b'"",""\n'])
def test_other_quotes_are_for_copy(data: bytes) -> None:
    """Those around a field, doubled inside it."""
    found = batch(data, "text", "text")
    assert may_copy(found)
    assert may_stage(found)
    assert screened(found, records_of(found))[0] == []


def with_header(data: bytes, *names: str) -> Batch:
    """A batch of a file with this header."""
    found = batch(data, *(["text"] * len(names)))
    return replace(found, chunk=replace(found.chunk, spec=replace(found.chunk.spec, header=names)))


@pytest.mark.parametrize(
    "line", ["id,a.b", "\ufeffid,a.b", '"id","a.b"', ' id , "a.b"', '\ufeff"id",a.b', "id,a.b\u200b", "id,a.b\r"]
)
def test_the_header_once_more_is_no_record(line: str) -> None:
    """However it is written this time; its neighbours are."""
    found = with_header(f"1,x\n{line}\n2,y\n".encode(), "id", "a.b")
    assert not may_copy(found)
    assert not may_stage(found)
    broken, sound = screened(found, records_of(found))
    assert [(reject.code, reject.line) for reject in broken] == [("E_HEADER_REPEAT", 11)]
    assert [record for _, record in sound] == [b"1,x", b"2,y"]


@pytest.mark.parametrize("line", ["id,a-b", "id,a.b,c", "id,a.bc", "id,", "xid,a.b", "ID,a.b", '"x\nid,a.b",y'])
def test_what_only_looks_like_the_header_is_a_record(line: str) -> None:
    """Every name counts, to the letter."""
    found = with_header(f"1,x\n{line}\n2,y\n".encode(), "id", "a.b")
    assert may_copy(found)
    assert screened(found, records_of(found))[0] == [] or line.count(",") != 1


def test_a_header_of_many_long_names_is_told_by_all_of_them() -> None:
    """The search looks at the beginning, the comparison at the whole."""
    names = [f"{'é' * 150}{n}" for n in range(12)]
    other = [*names[:-1], "x"]
    data = "\n".join(",".join(line) for line in (other, names, other)).encode()
    found = with_header(data, *names)
    assert [reject.line for reject in screened(found, records_of(found))[0]] == [11]
    assert not may_copy(found)
    assert may_copy(with_header(",".join(other).encode(), *names))


def test_the_name_of_the_only_column_may_be_a_value() -> None:
    """Unless a byte order mark says that another file begins there."""
    assert may_copy(with_header(b"a\nword\n", "word"))
    assert not may_copy(with_header(b"a\n\xef\xbb\xbfword\n", "word"))


def test_a_reject_says_where_in_the_file() -> None:
    """The offset counts from the start of the file: chunk, batch and record added up."""
    reject = reject_of(batch(b"", "integer", "text"), line=12, start=7, record=b'1,"x""y"', code="E", message="m",
                       column="c2")  # fmt: skip
    assert (reject.line, reject.byte_offset, reject.value, reject.raw) == (12, 900 + 100 + 7, 'x"y', b'1,"x""y"')
    assert not reject.truncated


@pytest.mark.parametrize(
    ("column", "value"),
    [("c1", "1"), ("c3", None), ("c1, c2", "1, b"), ("c1, c3", "1, "), ("c3, c4", None), ("c9", None), (None, None)],
)
def test_a_reject_shows_the_values_of_its_columns(column: str | None, value: str | None) -> None:
    """One column's value, several joined, none where the file has none."""
    reject = reject_of(batch(b"", "text", "text", "text", "text"), line=1, start=0, record=b"1,b,,", code="E",
                       message="m", column=column)  # fmt: skip
    assert reject.value == value


def test_long_values_and_records_are_cut_and_marked() -> None:
    """A person sees the beginning; nothing is kept without bound."""
    shown = reject_of(
        batch(b"", "text"), line=1, start=0, record=b"x" * 5000, code="E", message="m" * 5000, column="c1"
    )
    assert (len(shown.value or ""), len(shown.raw), len(shown.message)) == (MAX_VALUE_CHARS, MAX_RAW_BYTES, 1024)
    assert shown.truncated
