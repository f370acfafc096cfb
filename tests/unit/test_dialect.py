"""What a dialect may be, and the stable code for what it may not."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.dialect import Dialect
from ingest.errors import RequestError


@pytest.mark.parametrize(
    ("delimiter", "quote", "null"),
    [(",", '"', ""), (";", "'", "NA"), ("\t", '"', "\\N"), ("|", "~", "-1"), (" ", '"', "?"), (",", '"', "n" * 100)],
)
def test_dialects_that_can_be_told_apart(delimiter: str, quote: str, null: str) -> None:
    """Any printable ASCII delimiter and quote and any NULL text without them."""
    dialect = Dialect(delimiter=delimiter, quote=quote, null=null)
    assert dialect.to_json() == {"delimiter": delimiter, "quote": quote, "null": null}
    assert Dialect(**dialect.to_json()) == dialect


@pytest.mark.parametrize(
    "delimiter", ["", "a1", "," * 9, "||\n", '|"|', "\n", "\r", "\x00", "\x7f", "é", '"', "a", "0", ".", "\\"]
)
def test_delimiters_that_cannot_be_used(delimiter: str) -> None:
    """Line ends, letters, more than eight characters, the quote, and what COPY could mistake for data."""
    with pytest.raises(RequestError) as raised:
        Dialect(delimiter=delimiter)
    assert (raised.value.code, raised.value.facts) == ("E_OPTION", {"option": "delimiter"})


@pytest.mark.parametrize("quote", ['""', "\n", "é", "\x00", "0", "a", "Z"])
def test_quotes_that_cannot_be_used(quote: str) -> None:
    """A letter or a digit as quote would stand inside nearly every value."""
    with pytest.raises(RequestError) as raised:
        Dialect(quote=quote)
    assert (raised.value.code, raised.value.facts) == ("E_OPTION", {"option": "quote"})


@pytest.mark.parametrize("null", ["a,b", 'N"A', "N\nA", "N\rA", "n" * 101])
def test_nulls_that_cannot_be_used(null: str) -> None:
    """A NULL text that COPY would refuse, or that is no word."""
    with pytest.raises(RequestError) as raised:
        Dialect(null=null)
    assert (raised.value.code, raised.value.facts) == ("E_OPTION", {"option": "null"})


@pytest.mark.parametrize(
    ("given", "native"),
    [
        ({"quote": ""}, True),
        ({"escape": "\\"}, True),
        ({"encoding": "windows-1252", "skip_rows": 2, "on_ragged": "pad", "comment": "#"}, True),
        ({"quote": "", "escape": "\\"}, False),
        ({"delimiter": "||"}, False),
        ({"delimiter": "\u00a6"}, False),
        ({"newline": "cr"}, False),
        ({"trim": True}, False),
    ],
)
def test_what_copy_reads_as_it_is(given: dict[str, Any], native: bool) -> None:
    """A delimiter of one byte and line ends that it knows; what says otherwise survives being pinned."""
    dialect = Dialect(**given)
    assert dialect.is_native is native
    assert Dialect(**dialect.to_json()) == dialect


def test_an_escape_that_is_the_quote_means_doubled_quotes() -> None:
    """So both ways of saying it are one dialect."""
    assert Dialect(escape='"') == Dialect()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("encoding", "rot13"),
        ("encoding", "utf-7"),
        ("encoding", "unicode-escape"),
        ("encoding", "x\0y"),
        ("escape", ","),
        ("escape", "ab"),
        ("escape", "a"),
        ("newline", "nl"),
        ("header_rows", -1),
        ("skip_rows", 1001),
        ("comment", ",#"),
        ("comment", '"'),
        ("on_ragged", "drop"),
        ("on_quote", "drop"),
    ],
)
def test_what_else_cannot_be(option: str, value: object) -> None:
    """Each is refused by the name of its option."""
    with pytest.raises(RequestError) as raised:
        Dialect(**{option: value})  # type: ignore[arg-type]
    assert (raised.value.code, raised.value.facts) == ("E_OPTION", {"option": option})


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("Windows-1252", "cp1252"),
        ("latin1", "iso8859-1"),
        ("UTF8", "utf-8"),
        ("us-ascii", "utf-8"),
        ("UTF-16LE", "utf-16-le"),
    ],
)
def test_encodings_have_one_name(name: str, codec: str) -> None:
    """That of Python's codec; ASCII is UTF-8."""
    assert Dialect(encoding=name).encoding == codec
