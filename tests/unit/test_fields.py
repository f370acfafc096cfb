"""Fields are what COPY would read; the loading tests compare with PostgreSQL itself."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dialect import Dialect
from ingest.loading.fields import LONG_CHARS, field_at, fields, stray_quote, texts
from ingest.reading.records import records
from ingest.reading.strays import PIECE_BYTES, has_stray_quote

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


@given(
    st.lists(st.one_of(st.none(), st.text(st.sampled_from(',"NA\r\n é'), max_size=6)), min_size=1),
    st.sampled_from(["", "NA"]),
    st.booleans(),
)
def test_texts_are_the_fields(values: list[str | None], null: str, quoted: bool) -> None:
    """Of any record without stray quotes, by whichever way is the quickest."""
    plain = [value for value in values if value is None or not set(value) & set(',"\r\n')]
    written = [null if value is None else '"' + value.replace('"', '""') + '"' for value in values]
    record = ",".join(written if quoted else [null if value is None else value for value in plain]).encode()
    dialect = Dialect(null=null)
    assert list(texts(record, dialect)) == [f if f is None else f.decode() for f in fields(record, dialect)]


def test_texts_of_a_long_record() -> None:
    """Longer than the module csv would read."""
    long = "x" * (3 * LONG_CHARS)
    assert texts(f'"{long}",a'.encode(), COMMA) == [long, "a"]


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


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (b'ab"c', (1, False)),
        (b'1,24" x,"y"', (2, False)),
        (b'a"b"c', (1, False)),
        (b'"a","b"c', (2, True)),
        (b'"a" "b"', (1, True)),
        (b'a""', (1, False)),
        (b'""a', (1, True)),
        (b'\xef\xbb\xbf"a"', (1, False)),
        (b'"a""b","c,""d"""', None),
        (b' "a" ,\t"b"', None),
        (b'"","""",""""""', None),
        (b'"a\r\nb",c', None),
        (b"a'b,c", None),
    ],
)
def test_a_stray_quote_is_found_in_its_field(record: bytes, found: tuple[int, bool] | None) -> None:
    """Which field, and whether something follows the closing quote; white space around quotes is let pass."""
    assert stray_quote(record, COMMA) == found


def test_the_quote_of_the_dialect_is_what_counts() -> None:
    """Another character is no quote."""
    assert stray_quote(b"a'b;\"c", Dialect(quote="'", delimiter=";")) == (1, False)
    assert stray_quote(b"a\"b;'c;'", Dialect(quote="'", delimiter=";")) is None


def stray_in(data: bytes) -> bool:
    return has_stray_quote(data, COMMA)


@given(st.lists(st.sampled_from([b'"', b'""', b",", b"\n", b"\r\n", b"a", b" ", b'","']), max_size=30))
def test_a_batch_with_a_stray_quote_is_never_missed(parts: list[bytes]) -> None:
    """Whatever a single record shows, the whole batch has shown; without white space, the other way round too."""
    data = b"".join(parts)
    data += b'"' * (data.count(b'"') % 2)
    found = records(data, COMMA, 1, True)
    each = [stray_quote(data[start:end], COMMA) for start, end in zip(found.start, found.end, strict=True)]
    assert stray_in(data) or not any(each)
    if b" " not in data:
        assert stray_in(data) == any(each)


@pytest.mark.parametrize("before", [PIECE_BYTES - 3, PIECE_BYTES, 3 * PIECE_BYTES])
def test_a_batch_is_looked_through_in_pieces(before: int) -> None:
    """Quotes that are open where a piece ends are still open in the next one."""
    good = b'"a\nb",\n' * (before // 8)
    assert not stray_in(good)
    assert not stray_in(b'"' + b"x\n" * before + b'"\n')
    assert stray_in(good + b'a"b"\n')
    assert stray_in(b'"' + b"x\n" * before + b'"y\n')


@given(st.text('a",\\', max_size=12).filter(lambda text: text.count('"') % 2 == 0), st.integers(0, 5))
def test_one_field_is_the_same_as_among_all(text: str, place: int) -> None:
    """However it is found: most records have no quote before it."""
    found = fields(text.encode(), COMMA)
    assert field_at(text.encode(), place, COMMA) == (found[place] if place < len(found) else None)
