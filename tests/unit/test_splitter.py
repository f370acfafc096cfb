"""The splitter against `csv.reader` and against the rule written out byte by byte."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.batches import BatchCut
from ingest.reading.records import records
from ingest.splitter import PIECE_BYTES, Splitter

COMMA = Dialect()
NO_LIMIT = 1 << 40


def split(
    data: bytes,
    *,
    blocks: list[int] | None = None,
    dialect: Dialect = COMMA,
    first_line: int = 1,
    single_column: bool = False,
    batch_records: int = NO_LIMIT,
    batch_bytes: int = NO_LIMIT,
    max_record_bytes: int = NO_LIMIT,
) -> list[BatchCut]:
    splitter = Splitter(
        dialect,
        first_line=first_line,
        single_column=single_column,
        batch_records=batch_records,
        batch_bytes=batch_bytes,
        max_record_bytes=max_record_bytes,
    )
    bounds = [0, *sorted(blocks or []), len(data)]
    cuts = [cut for start, end in pairwise(bounds) for cut in splitter.feed(data[start:end])]
    return cuts + splitter.finish()


@dataclass
class Plain:
    """The rule of the splitter, one byte at a time: what is too slow for the service and easy to believe."""

    single_column: bool
    batch_records: int
    batch_bytes: int
    cuts: list[BatchCut] = field(default_factory=list)
    records: list[tuple[int, int, int, int]] = field(default_factory=list)

    def read(self, data: bytes) -> Plain:
        odd, start, fields, line, first = False, 0, 1, 1, 1
        self.begin, self.counts = 0, [0, 0, 0]
        for at, byte in enumerate(data):
            odd ^= byte == ord('"')
            fields += byte == ord(",") and not odd
            line += byte == ord("\n")
            self.counts[1] += byte == ord("\n")
            if byte == ord("\n") and not odd:
                self.end(data, start, at + 1, first, fields)
                start, fields, first = at + 1, 1, line
        if odd:
            raise FileError("open", code="E_QUOTE_OPEN")
        if start < len(data):
            self.counts[1] += 1
            self.counts[0] += 1
            half = data.endswith(b"\r") and (self.single_column or len(data) - start > 1)
            self.records.append((start, len(data) - half, first, fields))
        if self.begin < len(data):
            self.cuts.append(BatchCut(len(data), *self.counts))
        return self

    def end(self, data: bytes, start: int, end: int, line: int, fields: int) -> None:
        stop = end - 2 if data[start:end].endswith(b"\r\n") else end - 1
        if start == stop and not self.single_column:
            self.counts[2] += 1
        else:
            self.counts[0] += 1
            self.records.append((start, stop, line, fields))
        if self.counts[0] >= self.batch_records or end - self.begin >= self.batch_bytes:
            self.cuts.append(BatchCut(end, *self.counts))
            self.begin, self.counts = end, [0, 0, 0]


# Text that is mostly structure; the filler makes records longer than a word of 64 bits.
raw_csv = st.lists(st.sampled_from(["a", ",", '"', '""', "\n", "\r\n", "\r", "é", "x" * 70]), max_size=40).map(
    lambda parts: "".join(parts).encode()
)
limits = st.integers(1, 12) | st.just(NO_LIMIT)
sizes = st.integers(1, 300) | st.just(NO_LIMIT)


@given(raw_csv, st.data(), limits, sizes, st.booleans())
def test_any_bytes_in_any_blocks_are_cut_as_the_plain_rule_cuts_them(
    data: bytes, draw: st.DataObject, batch_records: int, batch_bytes: int, single_column: bool
) -> None:
    """The cuts, or the error, are those of the rule, wherever the blocks end."""
    blocks = draw.draw(st.lists(st.integers(0, len(data)), max_size=20))
    plain = Plain(single_column, batch_records, batch_bytes)
    found: object
    expected: object
    try:
        expected = plain.read(data).cuts
    except FileError as error:
        expected = error.code
    try:
        found = split(
            data,
            blocks=blocks,
            single_column=single_column,
            batch_records=batch_records,
            batch_bytes=batch_bytes,
        )
    except FileError as error:
        found = error.code

    assert found == expected


cells = st.text(st.sampled_from('ab,"\n\ré;'), max_size=8)
rows = st.lists(st.lists(cells, min_size=2, max_size=4), max_size=12)


def render(rows: list[list[str]], ends: list[str], blank_before: list[int], final: bool) -> str:
    """Write rows as CSV, each its line end and blank lines before it; the last has no line end when not `final`."""
    out = []
    for row, end, blanks in zip(rows, ends, blank_before, strict=True):
        line = io.StringIO()
        csv.writer(line).writerow(row)
        out.append(end * blanks + line.getvalue().removesuffix("\r\n") + end)
    text = "".join(out)
    return text if final or not rows else text.removesuffix(ends[-1])


@given(rows, st.data(), limits, sizes)
def test_batches_hold_what_csv_reader_reads(
    rows: list[list[str]], draw: st.DataObject, batch_records: int, batch_bytes: int
) -> None:
    """Batches follow each other without a gap, and each holds whole records: those of csv.reader, with its lines."""
    ends = draw.draw(st.lists(st.sampled_from(["\n", "\r\n"]), min_size=len(rows), max_size=len(rows)))
    blanks = draw.draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
    data = render(rows, ends, blanks, draw.draw(st.booleans())).encode()
    blocks = draw.draw(st.lists(st.integers(0, len(data)), max_size=20))

    cuts = split(data, blocks=blocks, batch_records=batch_records, batch_bytes=batch_bytes)

    bounds = [0, *(cut.end for cut in cuts)]
    assert bounds[-1] == len(data)
    assert bounds == sorted(set(bounds))
    read: list[list[str]] = []
    for (start, end), cut in zip(pairwise(bounds), cuts, strict=True):
        text = data[start:end].decode()
        batch = list(csv.reader(io.StringIO(text, newline="")))
        assert cut.records == sum(1 for row in batch if row)
        assert cut.blank_lines == sum(1 for row in batch if not row)
        assert cut.lines == text.count("\n") + (not text.endswith("\n"))
        read += [row for row in batch if row]
    assert read == rows


@given(rows, st.integers(1, 10**6))
def test_records_are_those_of_csv_reader(rows: list[list[str]], first_line: int) -> None:
    """Start, end, fields and first line of each record agree with csv.reader's rows and line numbers."""
    data = render(rows, ["\r\n"] * len(rows), [1] * len(rows), final=False).encode()
    found = records(data, COMMA, first_line, single_column=False)

    parts = [data[start:end].decode() for start, end in zip(found.start, found.end, strict=True)]
    assert [row for part in parts for row in csv.reader(io.StringIO(part, newline=""))] == rows
    assert found.fields.tolist() == [len(row) for row in rows]
    assert found.line.tolist() == [first_line + data[:start].count(b"\n") for start in found.start]


@given(raw_csv, st.booleans())
def test_records_agree_with_the_plain_rule(data: bytes, single_column: bool) -> None:
    """Every record of any text outside an open quote is found, with a CR kept unless it belongs to the line end or half of one."""
    if data.count(b'"') % 2:
        data += b'"'
    found = records(data, COMMA, 1, single_column)
    expected = Plain(single_column, NO_LIMIT, NO_LIMIT).read(data).records

    arrays = (found.start, found.end, found.line, found.fields)
    assert list(zip(*(array.tolist() for array in arrays), strict=True)) == expected


@given(raw_csv, st.data(), st.integers(1, 200))
def test_the_size_of_a_record_is_judged_alike_in_any_blocks(data: bytes, draw: st.DataObject, limit: int) -> None:
    """The same record is found too long, with the same line, whether it comes whole or in pieces."""

    def outcome(blocks: list[int]) -> object:
        try:
            return split(data, blocks=blocks, max_record_bytes=limit)
        except FileError as error:
            return error.code, error.facts, error.detail

    whole = outcome([])
    assert outcome(draw.draw(st.lists(st.integers(0, len(data)), max_size=20))) == whole
    assert outcome(list(range(min(len(data), 300)))) == whole


def test_pieces_of_one_block_are_joined() -> None:
    """A block larger than a piece is cut like small ones, with records and doubled quotes across the seams."""
    record = b'12,"a ""quoted""\r\nline",x\r\n'
    data = record * (3 * PIECE_BYTES // len(record) + 1)

    cuts = split(data, batch_records=1000, batch_bytes=PIECE_BYTES)

    assert sum(cut.records for cut in cuts) == data.count(b"12,")
    assert sum(cut.lines for cut in cuts) == data.count(b"\n")
    assert {cut.records for cut in cuts[:-1]} == {1000}


def test_1500_records_are_batches_of_1000_and_500() -> None:
    """The limit of records closes a batch exactly."""
    cuts = split(b"1,2\n" * 1500, batch_records=1000)
    assert cuts == [BatchCut(4000, 1000, 1000, 0), BatchCut(6000, 500, 500, 0)]


def test_a_batch_closes_with_the_record_that_reaches_its_bytes() -> None:
    """A record is never split, so a batch may be longer than its limit."""
    assert [cut.end for cut in split(b"aaa\nbbbbbb,\nccccccc\n"[:20], batch_bytes=5)] == [12, 20]


@pytest.mark.parametrize(("data", "records_"), [(b"", 0), (b"\n\r\n\n", 0), (b"1\n\n2", 2), (b"\r", 1)])
def test_blank_lines_are_no_records(data: bytes, records_: int) -> None:
    """Lines that hold nothing are counted apart; a lone CR is something."""
    assert sum(cut.records for cut in split(data)) == records_


def test_blank_lines_of_a_single_column_are_records() -> None:
    """With one column an empty line is an empty value."""
    assert split(b"1\n\n\n2", single_column=True) == [BatchCut(5, 4, 4, 0)]


def test_other_quotes_do_not_count() -> None:
    """Only the quote of the dialect hides newlines."""
    tick = Dialect(quote="'", delimiter=";")
    assert sum(cut.records for cut in split(b"1;'a\nb'\n\"2;3\n", dialect=tick)) == 2
    assert records(b"1;'a;\nb'\n\"2;3\n", tick, 1, False).fields.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b'1,"a\nb\n', 10),
        (b'1\n2,"a"\n3,x"\n4\n', 12),
        (b'1,"a\nb""\nc""\n', 10),
        (b'"a","b\n"",\nc"",\n', 10),
        (b'"a\nb","c\n', 11),
    ],
)
def test_an_open_quote_is_named_by_the_line_where_it_opens(data: bytes, line: int) -> None:
    """Doubled quotes and closed fields before it do not move the line, nor do blocks of single bytes."""
    for blocks in ([], list(range(len(data)))):
        with pytest.raises(FileError) as raised:
            split(data, blocks=blocks, first_line=10)
        assert (raised.value.code, raised.value.facts) == ("E_QUOTE_OPEN", {"line": line})


def test_a_record_too_long_is_named_by_its_line() -> None:
    """Without quotes the first line of the record is named."""
    with pytest.raises(FileError, match="line 3 is longer than 5 bytes") as raised:
        split(b"1\n1234\n12345\n1\n", max_record_bytes=5)
    assert (raised.value.code, raised.value.facts) == ("E_RECORD_TOO_LARGE", {"line": 3})


def test_an_open_quote_that_swallows_the_file_stops_at_the_limit() -> None:
    """A quote that never closes is found at the limit, not at the end, and named by the line where it opens."""
    splitter = Splitter(
        COMMA, first_line=2, single_column=False, batch_records=100, batch_bytes=4096, max_record_bytes=3 * PIECE_BYTES
    )
    splitter.feed(b'1,x\n2,"good"\n3,a\n4,"bad\n')
    swallowed = b"5,x\n" * (PIECE_BYTES // 4)
    assert splitter.feed(swallowed) == splitter.feed(swallowed) == []
    with pytest.raises(FileError) as raised:
        splitter.feed(swallowed)
    assert (raised.value.code, raised.value.facts["line"]) == ("E_RECORD_TOO_LARGE", 5)
