"""Fields are what COPY would read; the loading tests compare with PostgreSQL itself."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.loading.fields import fields

COMMA = Dialect()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"", [None]),
        (b'""', [b""]),
        (b"a,b", [b"a", b"b"]),
        (b"a,,b", [b"a", None, b"b"]),
        (b'a,"",b', [b"a", b"", b"b"]),
        (b'"a,b",c', [b"a,b", b"c"]),
        (b'"a""b",c', [b'a"b', b"c"]),
        (b'""""', [b'"']),
        (b'""""""', [b'""']),
        (b'"",""', [b"", b""]),
        (b'a"b,c"d,e', [b"ab,cd", b"e"]),
        (b'"a"b', [b"ab"]),
        (b'"a\nb","c\r\nd"', [b"a\nb", b"c\r\nd"]),
        (b'" ", ', [b" ", b" "]),
        (b",", [None, None]),
    ],
)
def test_fields_by_the_rules_of_copy(record: bytes, expected: list[bytes | None]) -> None:
    """Quotes open and close anywhere, doubled ones are quotes, only unquoted text can be NULL."""
    assert fields(record, COMMA) == expected


def test_a_null_text_counts_only_without_quotes() -> None:
    """`NA` is NULL, `"NA"` and an empty field are texts."""
    assert fields(b'NA,"NA",,N"A"', Dialect(null="NA")) == [None, b"NA", b"", b"NA"]


def test_other_delimiters_and_quotes() -> None:
    """The rules are the same in every dialect."""
    assert fields(b"'a;b';'it''s';c,\"d\"", Dialect(delimiter=";", quote="'")) == [b"a;b", b"it's", b'c,"d"']


@given(st.lists(st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"))), min_size=1))
def test_what_is_written_is_read(values: list[str | None]) -> None:
    """Any texts, all quoted, and NULLs between them come back as they were."""
    quoted = ["" if value is None else '"' + value.replace('"', '""') + '"' for value in values]
    found = fields(",".join(quoted).encode(), COMMA)
    assert found == [None if value is None else value.encode() for value in values]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n")), min_size=2))
def test_what_python_writes_is_read(values: list[str]) -> None:
    """The csv module's minimal quoting; it writes an empty text and no text alike."""
    written = io.StringIO()
    csv.writer(written, lineterminator="").writerow(values)
    assert fields(written.getvalue().encode(), COMMA) == [value.encode() if value else None for value in values]
