"""The key columns of a batch are cut out exactly as they are written, whatever the dialect and the other fields."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.errors import RowError
from ingest.loading.keys import DIGITS, key_lines
from ingest.reading.records import records

DIALECTS = [Dialect(), Dialect(delimiter=";", quote="'"), Dialect(delimiter="\t")]


@st.composite
def files(draw: st.DrawFn) -> tuple[Dialect, list[list[str]], str, bool]:
    """Lines of as many fields, written and quoted in every way; the line end, and whether the last line has one."""
    dialect = draw(st.sampled_from(DIALECTS))
    quote, width = dialect.quote, draw(st.integers(1, 5))
    plain = st.text("a1é ", min_size=1 if width == 1 else 0, max_size=4)
    special = st.text(f"a{quote}{dialect.delimiter}", max_size=5)
    written = st.one_of(plain, special.map(lambda text: quote + text.replace(quote, quote * 2) + quote))
    lines = draw(st.lists(st.lists(written, min_size=width, max_size=width), min_size=1, max_size=12))
    return dialect, lines, draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans())


@given(files(), st.data())
def test_the_fields_of_the_key_and_nothing_else(
    file: tuple[Dialect, list[list[str]], str, bool], data: st.DataObject
) -> None:
    """Each line: the record's number, then the fields asked for, with their quotes."""
    dialect, lines, line_end, ended = file
    width = len(lines[0])
    if any("".join(line) == "" for line in lines):
        return  # a blank line is no record, and such a batch is never sifted
    columns = sorted(data.draw(st.sets(st.integers(0, width - 1), min_size=1)))
    text = line_end.join(dialect.delimiter.join(line) for line in lines) + (line_end if ended else "")
    raw = text.encode()
    where = records(raw, dialect, 2, width == 1)
    expected = "".join(
        dialect.delimiter.join([f"{number:0{DIGITS}d}", *(line[column] for column in columns)]) + "\n"
        for number, line in enumerate(lines)
    )
    assert key_lines(raw, where, columns, width, dialect).decode() == expected


@pytest.mark.parametrize("raw", [b"1,2\n3\n", b"1\n2,3,4\n", b"1,2,3\n4\n5,6\n"])
def test_another_number_of_fields(raw: bytes) -> None:
    """One field too many here and one too few there do not cancel out."""
    with pytest.raises(RowError):
        key_lines(raw, records(raw, Dialect(), 2, False), [0], 2, Dialect())
