"""What a dialect may be, and the stable code for what it may not."""

from __future__ import annotations

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


@pytest.mark.parametrize("delimiter", ["", ",,", "\n", "\r", "\x00", "\x7f", "é", '"', "a", "0", ".", "\\"])
def test_delimiters_that_cannot_be_used(delimiter: str) -> None:
    """Line ends, several or wide characters, the quote, and what COPY could mistake for data."""
    with pytest.raises(RequestError) as raised:
        Dialect(delimiter=delimiter)
    assert (raised.value.code, raised.value.facts) == ("E_OPTION", {"option": "delimiter"})


@pytest.mark.parametrize("quote", ["", '""', "\n", "é", "\x00", "0", "a", "Z"])
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
