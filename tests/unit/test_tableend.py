"""Where a table ends: at its header, once more, whatever comes with it and however the stream is cut into blocks."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from ingest.dialect import Dialect
from ingest.errors import FileError
from ingest.reading.batches import BatchCut
from ingest.splitter import Splitter
from ingest.tableend import TableCuts

COMMA = Dialect(on_ragged="merge")
HEADER = ("id", "name", "note")
FIRST = b'1,a,b\n2,"c\nd",e\n'


def cuts_of(
    data: bytes,
    *,
    block_bytes: int = 1 << 20,
    header: tuple[str, ...] = HEADER,
    dialect: Dialect = COMMA,
    max_record_bytes: int = 1000,
    ended: bool = False,
) -> list[BatchCut]:
    """The batches of what follows the header."""
    splitter = Splitter(
        dialect, first_line=2, single_column=len(header) == 1, batch_records=100, batch_bytes=1 << 20,
        max_record_bytes=max_record_bytes, width=len(header),
    )  # fmt: skip
    cuts = TableCuts(splitter, dialect, header, max_record_bytes, ended=ended)
    blocks = (data[start : start + block_bytes] for start in range(0, len(data), block_bytes))
    return [*(cut for block in blocks for cut in cuts.feed(block)), *cuts.finish()]


def end_of(cuts: Iterable[BatchCut]) -> int | None:
    """Where the table ends; None where it goes on to the end of the file."""
    ends = [0]
    for cut in cuts:
        if cut.behind:
            return ends[-1]
        ends.append(cut.end)
    return None


@pytest.mark.parametrize(
    "again",
    [
        b"id,name,note",
        b"\xef\xbb\xbfid,name,note",
        b'"id","name","note"',
        b' id , "name" ,note',
        b"id,name",
        b"id,name,note,more",
        b'id,name,note,"more\nof it"',
        b"id,name,note\r",
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 7, 64, 1 << 20])
def test_the_header_once_more_ends_the_table(again: bytes, block_bytes: int) -> None:
    """Whole, or as one with fewer or more columns; every record is in a batch, those behind it in marked ones."""
    cuts = cuts_of(FIRST + again + b"\n1,x,y\n2,z\n", block_bytes=block_bytes)
    assert end_of(cuts) == len(FIRST)
    assert [(cut.records, cut.lines, cut.behind) for cut in cuts] == [(2, 3, False), (3, 3 + again.count(b"\n"), True)]


@pytest.mark.parametrize(
    "line",
    [
        b"id",
        b"id,x,note",
        b"id,names,note",
        b"xid,name,note",
        b"id,name,notes",
        b"#id,name,note",
        b'7,"\nid,name,note\n",x',
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_what_only_looks_like_the_header_does_not(line: bytes, block_bytes: int) -> None:
    """A name alone, other names, or the header inside of a text."""
    cuts = cuts_of(FIRST + line + b"\n3,x,y\n", block_bytes=block_bytes)
    assert (end_of(cuts), sum(cut.records for cut in cuts)) == (None, 4)


@pytest.mark.parametrize(
    ("dialect", "data"),
    [
        (Dialect(newline="cr"), b"1,a,b\rid,name,note\r2,c,d\r"),
        (Dialect(delimiter="||"), b"1||a||b\nid||name||note\n2||c||d\n"),
        (Dialect(quote="'"), b"1,a,b\n'id','name','note'\n2,c,d\n"),
        (Dialect(quote="", escape="\\"), b"1,a,b\nid,name,note\n2,c,d\n"),
        (Dialect(comment="#"), b"1,a,b\n#id,name\nid,name,note\n2,c,d\n"),
    ],
)
def test_in_any_dialect(dialect: Dialect, data: bytes) -> None:
    """The line end of the dialect is what a header stands behind."""
    cuts = cuts_of(data, dialect=dialect)
    assert [(cut.records, cut.behind) for cut in cuts] == [(1, False), (2, True)]


def test_a_list_of_words_may_hold_the_name_of_its_column() -> None:
    assert end_of(cuts_of(b"a\nid\nb\n", header=("id",))) is None


def test_the_header_at_once_and_without_a_line_end() -> None:
    """A table without records, and a second one."""
    assert [(cut.records, cut.behind) for cut in cuts_of(b"id,name,note")] == [(1, True)]


def test_what_follows_a_table_that_has_ended_lies_behind_it() -> None:
    """As for an upload that is gone on with; headers count no more."""
    cuts = cuts_of(FIRST + b"id,name,note\n", ended=True)
    assert [(cut.records, cut.behind) for cut in cuts] == [(3, True)]


def test_a_line_without_end_is_not_kept() -> None:
    """Neither before nor behind the end of the table."""
    for start in (b"", b"id,name,note\n"):
        with pytest.raises(FileError, match="MAX_RECORD_BYTES"):
            cuts_of(start + b"x" * 2000, block_bytes=100)
