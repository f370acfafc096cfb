"""What the beginning of a file says: its kind, its encoding, the names in its header, and where the records begin."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.definitions.positions import with_hint
from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.header import Header, HeaderReader

COMMA = Dialect()


def read(
    data: bytes, *, blocks: list[int] | None = None, max_record_bytes: int = 10_000, dialect: Dialect = COMMA
) -> tuple[Header, bytes]:
    """Read a header the way an upload does; return it and all that follows it."""
    reader = HeaderReader(dialect, max_record_bytes=max_record_bytes)
    bounds = [0, *sorted(blocks or []), len(data)]
    pieces = [data[start:end] for start, end in pairwise(bounds)]
    for number, piece in enumerate(pieces):
        if header := reader.feed(piece):
            return header, header.rest + b"".join(pieces[number + 1 :])
    header = reader.finish()
    return header, header.rest


def refusal(data: bytes, **options: int) -> FileError:
    with pytest.raises(FileError) as raised:
        read(data, **options)  # type: ignore[arg-type]
    return raised.value


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"PK\x03\x04rest", "Excel workbook"),
        (b"PK\x05\x06rest", "ZIP"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Excel workbook"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"%PDF-1.7", "PDF"),
        (b"\x7fELF\x02", "program"),
        (b"\x89PNG\r\n", "PNG"),
        (b"a,\x00b\n1,2\n", "NUL"),
        (b"a,b\n1," + 9 * b"\x00 x" + b"\n", "NUL"),
    ],
)
def test_what_is_not_csv_is_refused_by_what_it_looks_like(start: bytes, says: str) -> None:
    """Binary files never get as far as a header; the message says what they seem to be."""
    error = refusal(start)
    assert error.code == "E_NOT_CSV"
    assert says in error.detail


def test_a_few_nuls_after_the_header_are_the_records_matter() -> None:
    """They cost their records, not the file, wherever they are."""
    assert read(b"a,b\n1," + 8 * b"\x00 x" + b"\n")[0].names == ("a", "b")


def test_a_header_may_begin_like_a_magic_number() -> None:
    """Two letters make no ZIP archive."""
    assert read(b"PK,name\n1,2\n")[0].names == ("PK", "name")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
def test_other_encodings_with_a_mark_are_named(encoding: str) -> None:
    """A byte order mark says which encoding it is, and the message says what to do."""
    error = refusal("\ufeffa,b\n1,2\n".encode(encoding))
    assert error.code == "E_ENCODING"
    assert encoding[:6].upper() in error.detail
    assert "UTF-8" in error.detail


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_suspected(encoding: str) -> None:
    """A NUL beside every letter is UTF-16, not a binary file."""
    assert refusal("name,e-mail\nJürgen,j@example.org\n".encode(encoding)).code == "E_ENCODING_SUSPECT"


def test_a_header_in_another_encoding_is_refused() -> None:
    """The byte at fault is named."""
    error = refusal("größe,b\n1,2\n".encode("cp1252"))
    assert (error.code, error.facts) == ("E_ENCODING", {"line": 1})
    assert "0xf6" in error.detail


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b"\n\r\n\n", b"\xef\xbb\xbf\r\n", b"\n" * 100_000])
def test_a_file_without_a_header_is_empty(data: bytes) -> None:
    """Nothing, a BOM or blank lines are no file."""
    assert refusal(data).code == "E_EMPTY"


def test_the_bom_is_no_part_of_the_first_name() -> None:
    """Offsets stay those of the file, with its BOM."""
    header, rest = read(b"\xef\xbb\xbfid,name\r\n1,x\r\n")
    assert header == Header(names=("id", "name"), end=12, next_line=2, rest=b"1,x\r\n")
    assert rest == b"1,x\r\n"


def test_names_lose_what_nobody_sees() -> None:
    """White space and zero-width characters around a name go, and it is composed (NFC)."""
    assert read("\u200bid\u200b,\u00a0name\t,cafe\u0301 \n".encode())[0].names == ("id", "name", "café")


def test_blank_lines_before_the_header_are_skipped_and_counted() -> None:
    """However many they are, the lines after them keep their numbers."""
    header, rest = read(b"\n" * 50_000 + b"\r\n\nid,name\n1,x\n", blocks=list(range(0, 50_000, 977)))
    assert (header.names, header.end, header.next_line, rest) == (("id", "name"), 50_011, 50_004, b"1,x\n")


@pytest.mark.parametrize("data", [b"id,name", b"id,name\n", b"id,name\r\n"])
def test_a_file_may_be_its_header(data: bytes) -> None:
    """With or without a line end."""
    assert read(data)[0] == Header(names=("id", "name"), end=len(data), next_line=2, rest=b"")


names = st.lists(st.text(st.sampled_from('ab,"\n\ré'), min_size=1, max_size=9), min_size=1, max_size=5).filter(
    lambda row: all(name.strip() for name in row)
)


@given(names, st.sampled_from([b"", b"\xef\xbb\xbf"]), st.integers(0, 5000), st.data())
def test_any_header_in_any_blocks_is_that_of_csv_reader(
    names: list[str], bom: bytes, rows: int, draw: st.DataObject
) -> None:
    """The names, the line and the byte after the header do not depend on how the bytes came."""
    line = io.StringIO()
    csv.writer(line).writerow(names)
    record = line.getvalue().encode()
    data = bom + record + b"1,2\n" * rows
    header, rest = read(data, blocks=draw.draw(st.lists(st.integers(0, len(data)), max_size=9)))

    assert header.names == tuple(name.strip() for name in next(csv.reader(io.StringIO(line.getvalue(), newline=""))))
    assert (header.end, header.next_line) == (len(bom + record), 1 + record.count(b"\n"))
    assert rest == b"1,2\n" * rows


@pytest.mark.parametrize("final", [b"", b"1,2\r"])
def test_line_ends_of_cr_alone_are_refused(final: bytes) -> None:
    """They would make one giant record of the file; short or long, it is refused as what it is."""
    assert refusal(b"id,name\r1,x\r" + final * 10).code == "E_LINE_END"
    assert refusal(b"id,name\r1,x\r" + b"1,2\r" * 10_000).code == "E_LINE_END"


def test_a_cr_inside_quotes_is_text() -> None:
    """Only a CR outside quotes ends lines."""
    assert read(b'id,"na\rme"\r\n')[0].names == ("id", "na\rme")


def test_a_header_without_end_stops_at_the_limit() -> None:
    """A file without a newline is refused once its first record is too long, not when it has been read."""
    assert refusal(b"a" * 10_001).code == "E_RECORD_TOO_LARGE"
    assert read(b"a" * 9_999 + b"\n")[0].names == ("a" * 9_999,)


def test_an_open_quote_in_the_header_is_named() -> None:
    """The line is that of the quote."""
    error = refusal(b'\n\nid,"name\n1,x\n')
    assert (error.code, error.facts) == ("E_QUOTE_OPEN", {"line": 3})


LENIENT = Dialect(on_ragged="merge", on_quote="keep")


@pytest.mark.parametrize("line", [b",a,b", b"a,,b", b"a,b,"])
def test_a_delimiter_too_many_in_the_header_makes_no_column(line: bytes) -> None:
    """Where ragged records are not all rejected, and the record behind it has as many fields as there are names."""
    header, rest = read(line + b"\n1,2\n", dialect=LENIENT)
    assert (header.names, header.width, rest, header.next_line) == (("a", "b"), 2, b"1,2\n", 2)
    assert refusal(line + b"\n1,2\n").code == "E_HEADER_EMPTY"


@pytest.mark.parametrize("data", [b",a,b\n0,1,2\n", b",a,b\n", b",a,b\n1,2", b"a,b,\n1,2,\n"])
def test_a_column_of_records_without_a_name_is_refused_all_the_same(data: bytes) -> None:
    """What pandas writes: to drop the name alone would move all values into other columns."""
    with pytest.raises(FileError, match="E_HEADER_EMPTY"):
        read(data, dialect=LENIENT)


def test_names_that_are_told_stand_for_a_header_with_a_delimiter_too_many() -> None:
    header, _ = read(b"x,,y\n1,2\n", dialect=replace(LENIENT, columns=("a", "b")))
    assert header.names == ("a", "b")


@pytest.mark.parametrize("behind", [b"1,2,3\n", b'1,"2,5",3\n4,5,6\n'])
def test_an_open_quote_in_the_header_may_be_kept(behind: bytes) -> None:
    """It is a part of the name, the header ends with its line, and what follows are records."""
    header, rest = read(b'a,"b,"c"\r\n' + behind, dialect=LENIENT)
    assert (header.names, rest, header.next_line, header.end) == (("a", '"b', "c"), behind, 2, 10)


def test_an_open_quote_is_kept_however_long_the_file_is() -> None:
    """What is held of it until then is bounded, and nothing is lost."""
    behind = b"1,2,3\n" * 5000
    header, rest = read(b'a,"b,c\n' + behind, dialect=LENIENT, blocks=[*range(1000, 30_000, 1000)])
    assert (header.names, rest) == (("a", '"b', "c"), behind)


@pytest.mark.parametrize("data", [b'a,"b,c\n1,2\n', b'a,"b,c\n', b'\na,"b,c\n1,2,3\n'])
def test_an_open_quote_in_a_header_that_does_not_fit_its_records_is_named(data: bytes) -> None:
    with pytest.raises(FileError, match="E_QUOTE_OPEN"):
        read(data, dialect=LENIENT)


def test_a_header_that_is_not_csv_is_refused() -> None:
    """Text after a closing quote has no meaning in CSV."""
    assert refusal(b'id,"na"me\n').code == "E_HEADER"


def test_a_column_without_a_name_is_refused() -> None:
    """Its place is named."""
    error = refusal(b"\nid,,name\n")
    assert (error.code, error.facts) == ("E_HEADER_EMPTY", {"line": 2, "column": 2})


def test_more_columns_than_a_table_can_have_are_refused() -> None:
    """1600 are still taken."""
    assert len(read(b",".join([b"a"] * 1600) + b"\n")[0].names) == 1600
    assert refusal(b",".join([b"a"] * 1601) + b"\n").code == "E_TOO_MANY_COLUMNS"


def test_another_delimiter_is_pointed_out() -> None:
    """A header that does not fit and has a single name may be written with another delimiter."""
    error = FileError("does not fit", code="E_HEADER_MISMATCH", unknown=["x"])
    header = Header(names=("id;name;city",), end=0, next_line=2, rest=b"")
    hinted = with_hint(error, ["id;name;city"], header, COMMA)
    assert (hinted.code, hinted.facts) == ("E_HEADER_MISMATCH", {"unknown": ["x"], "delimiter_seen": ";"})
    assert with_hint(error, ["id"], header, COMMA) is error
    assert with_hint(error, ["id", "a;b"], header, COMMA) is error


@pytest.mark.parametrize("line", [b"sep=;\n", b'"sep=;"\r\n', b"\xef\xbb\xbfSEP=;"])
def test_the_line_that_tells_excel_the_delimiter_is_no_header(line: bytes) -> None:
    """What to do about it is said, whatever delimiter the request names."""
    error = refusal(line + b"a;b\n" if line.endswith(b"\n") else line)
    assert (error.code, error.facts) == ("E_HEADER_MISMATCH", {"line": 1, "delimiter_seen": ";"})
    assert "remove it, and say delimiter=;" in error.detail
