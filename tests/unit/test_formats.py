"""Formats by example: what they accept, and what they make of it. PostgreSQL's regular expressions are tried elsewhere."""

from __future__ import annotations

import re

import pytest

from ingest.formats import parse_format


def undone(example: str, type_name: str, text: str) -> str | None:
    """What is left of a text, or None when it is not written like the example."""
    found = parse_format(example, type_name)
    if not re.search(found.pattern, text):
        return None
    for pattern, replacement in found.replacements:
        text = re.sub(pattern, replacement, text)
    return text


@pytest.mark.parametrize(
    ("example", "type_name", "text", "expected"),
    [
        ("DD/MM/YYYY", "date", "31/1/1999", "1999-1-31"),
        ("DD/MM/YYYY", "date", "1999-01-31", None),
        ("MM/DD/YYYY", "date", "01/31/1999", "1999-01-31"),
        ("DD.MM.YYYY", "date", "31x01x1999", None),
        ("YYYYMMDD", "date", "19990131", "1999-01-31"),
        ("YYYYMMDD", "date", "1999131", None),
        ("DD/MM/YYYY HH:MI", "timestamp", "31/01/1999 7:05", "1999-01-31 7:05:00"),
        ("1.234,56", "numeric", "1.234.567,8", "1234567.8"),
        ("1.234,56", "numeric", "-1234,5", "-1234.5"),
        ("1.234,56", "numeric", "1.23,4", None),
        ("1.234,56", "numeric", "1,234.56", None),
        ("1.234", "integer", "12.345", "12345"),
        ("$1,200.50", "numeric(10,2)", "$1,200.50", "1200.50"),
        ("$1,200.50", "numeric", "-$1,200", "-1200"),
        ("$1,200.50", "numeric", "($3.50)", "-3.50"),
        ("$1,200.50", "numeric", "1200", "1200"),
        ("$1,200.50", "numeric", "CA$ 1,200.50", "1200.50"),
        ("$1,200.50", "numeric", "SEK 1,000.00", "1000.00"),
        ("$1,200.50", "numeric", "12.50 €", "12.50"),
        ("$1,200.50", "numeric", "1e5", None),
        ("$1,200.50", "numeric", "Rs.500", "500"),
        ("$1,200.50", "numeric", "Kr. 1,200", "1200"),
        ("$1,200.50", "numeric", "Rs. 1,234.50", "1234.50"),
        ("$1,200.50", "numeric", "(Fr. 20)", "-20"),
        ("1.234,56", "numeric", "500 kr.", None),
        ("1.234,56 kr", "numeric", "1.500 kr.", "1500"),
        ("$1,200.50", "numeric", "dollars 5", None),
        ("1,200.50", "numeric", "$5", None),
        ("1 234,56 €", "numeric", "12\u202f345,6 €", "12345.6"),
        ("0,5", "double precision", "3,25", "3.25"),
        ("0,5", "double precision", "3.25", None),
    ],
)
def test_a_text_is_read_like_the_example_or_not_at_all(
    example: str, type_name: str, text: str, expected: str | None
) -> None:
    """Nothing is guessed: what is written otherwise is refused."""
    assert undone(example, type_name, text) == expected


@pytest.mark.parametrize(
    ("example", "type_name"),
    [("DD/MM", "date"), ("DD/MM/YYYY/DD", "date"), ("YYYY-MM-DDx", "date"), ("abc", "numeric"), ("1", "text")],
)
def test_what_is_no_format_is_refused_in_words(example: str, type_name: str) -> None:
    """The sentence says what a format looks like, or where one may stand."""
    with pytest.raises(ValueError, match=r"like|for dates and numbers"):
        parse_format(example, type_name)
