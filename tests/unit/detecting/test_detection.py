"""What is detected, why, and as which options."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from urllib.parse import parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.detecting import Detected, detect, detect_encoding
from ingest.dialect import Dialect
from ingest.dialectoptions import dialect_of
from ingest.errors import RequestError
from tests.unit.detecting import tables
from tests.unit.detecting.accuracy import detected, knows
from tests.unit.detecting.labelled import COMMA, SEMICOLON, files, written


def of(text: str, **options: str) -> Detected:
    """What is detected in a whole file."""
    return detect(text.encode(), ended=True, given=options)


@pytest.mark.parametrize(
    ("text", "dialect"),
    [
        ("a,b\n1,2\n", Dialect()),
        ("a;b\n1,5;2,5\n", Dialect(delimiter=";")),
        ("sep=|\na|b\n1|2\n", Dialect(delimiter="|", skip_rows=1)),
        ("Sales\nof May\n\na\tb\tc\n1\t2\t3\n4\t5\t6\n", Dialect(delimiter="\t", skip_rows=3)),
        ("Sales;;\n;;\na;b;c\n1;2;3\n4;5;6\n", Dialect(delimiter=";", skip_rows=2)),
        ("\n\na,b\n1,2\n", Dialect()),
        ("1,2\n3,4\n", Dialect(header_rows=0)),
        ("a||b\n1||2\n", Dialect(delimiter="||")),
        ("a, b\n1, 2\n", Dialect(delimiter=", ")),
        ("a  | b\n1  | 2\n22 | 3\n", Dialect(delimiter="|", trim=True)),
        ("'a','b'\n'x, y','2'\n", Dialect(quote="'")),
        ('a,b\n"x \\" y",2\n', Dialect(escape="\\")),
        ("a,b\nx\\, y,2\nz\\, y,3\n", Dialect(quote="", escape="\\")),
        ('a\tb\n5"\t1\n6"\t2\n7" or 8"\t3\n', Dialect(delimiter="\t", quote="")),
        ("a,b\r1,2\r3,4\r", Dialect(newline="cr")),
        ("a,b\r\n1,2\r\n", Dialect()),
        ("name\nHello, world\nIt works\nToo slow, too big, too late\n", Dialect(delimiter="\t")),
        ('name\n"Hello, world"\n"a, b"\n', Dialect()),
        ("a,b,c\n1,2,3\n4,5,6\n7,8,9\n\n(3 rows)\n", Dialect(footer_rows=1)),
        ("a,b,c\n" + "1,2,3\n" * 5000 + "\nTotal: 3\nand more\n", Dialect(footer_rows=2)),
        ("a,b,c\n" + "1,2,3\n" * 500 + "1", Dialect()),
        ("# one\na,b\n1,2\n# two\n3,4\n", Dialect(comment="#")),
        ("a,a,b,b\nx,y,x,y\n1,2,3,4\n5,6,7,8\n", Dialect(header_rows=2)),
        ("b,c\n" * 30, Dialect()),
        ("", Dialect()),
        ("\n\n", Dialect()),
    ],
)
def test_a_dialect_is_found(text: str, dialect: Dialect) -> None:
    """And nothing else is as good."""
    found = of(text)
    assert (found.dialect, found.alternatives) == (dialect, ())


def test_a_record_that_was_cut_is_no_footer() -> None:
    """It must be rejected, not left out."""
    assert of("name,b,c\nx,2,3\ny,5,6\nz,8,9\nBo").dialect.footer_rows == 0
    assert of("id,b,c\n1,2,3\n4,5,6\n7,8,9\n10").dialect.footer_rows == 0


def test_the_end_is_only_judged_when_it_is_there() -> None:
    """A sample ends anywhere."""
    text = b"a,b,c\n1,2,3\n4,5,6\n7,8,9\n\n(3 rows)\n"
    assert detect(text, ended=False).dialect.footer_rows == 0


def test_two_readings_that_are_as_good_are_both_named() -> None:
    """As the options that pin each."""
    found = of("a,b;c\nx,y;z\n")
    delimiters = {
        dialect_of(dict(parse_qsl(options, keep_blank_values=True))).delimiter for options in found.alternatives
    }
    assert delimiters == {",", ";"}
    assert found.options in found.alternatives


def test_the_dataset_decides_between_them() -> None:
    """Its columns are the strongest evidence."""
    found = detect(b"a,b;c\nx,y;z\n", ended=True, expected=knows(["a", "b;c"]))
    assert (found.dialect, found.alternatives) == (Dialect(), ())
    found = detect(b"a,b;c\nx,y;z\n", ended=True, expected=knows(["a,b", "c"]))
    assert (found.dialect, found.alternatives) == (Dialect(delimiter=";"), ())


def test_a_header_that_the_dataset_knows_does_not_make_sense_of_nonsense() -> None:
    """One line with another delimiter does not change how the others are read."""
    text = "a b c\n" + "1,x y,3\n" * 20
    assert detect(text.encode(), ended=True, expected=knows(["a", "b", "c"])).dialect.delimiter == ","


def test_a_header_that_the_dataset_knows_is_found_below_others() -> None:
    """Titles may look like a header too."""
    text = b"x,y,z\nthe,real,one\na,b,c\n1,2,3\n"
    found = detect(text, ended=True, expected=knows(["a", "b", "c"]))
    assert (found.dialect.skip_rows, found.names) == (2, ("a", "b", "c"))
    assert any("line 3" in sentence and "100%" in sentence for sentence in found.evidence)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"delimiter": ","}, Dialect()),
        ({"quote": "none"}, Dialect(delimiter=";", quote="")),
        ({"header": "false"}, Dialect(delimiter=";", header_rows=0)),
        ({"header_rows": "2"}, Dialect(delimiter=";", header_rows=2)),
        ({"skip_rows": "1"}, Dialect(delimiter=";", skip_rows=1, header_rows=0)),
        ({"skip_rows": "1", "header": "true"}, Dialect(delimiter=";", skip_rows=1)),
        ({"null": "-", "on_ragged": "pad"}, Dialect(delimiter=";", null="-", on_ragged="pad")),
        ({"delimiter": "auto", "encoding": "auto"}, Dialect(delimiter=";")),
        ({"comment": "1"}, Dialect(delimiter=";", comment="1")),
    ],
)
def test_what_is_given_wins(options: dict[str, str], expected: Dialect) -> None:
    """Whatever the bytes say; the rest is still detected."""
    assert of("a;b\n1;2\n3;4\n5;6\n", **options).dialect == expected


def test_what_is_given_is_checked() -> None:
    """As it is without detection."""
    with pytest.raises(RequestError):
        of("a,b\n", delimiter="")


@pytest.mark.parametrize("file", files()[::9], ids=lambda file: file.name)
def test_the_options_pin_what_was_detected(file) -> None:  # type: ignore[no-untyped-def]
    """Given back, they leave nothing to detect, and mean the same."""
    found = detected(file, expecting=False)
    assert dialect_of(dict(parse_qsl(found.options, keep_blank_values=True))) == found.dialect


def test_the_evidence_is_for_people() -> None:
    """A sentence for each thing that is not as usual."""
    found = of("Report\n\na;b;c\n1;2;'x;y'\n4;5;'z'\n7;8;'u'\n")
    assert found.evidence == (
        "The delimiter is ';': 4 of 4 records looked at have 3 fields.",
        "The quote is ': 3 fields looked at are in it.",
        "The table begins on line 3; the lines before it are no records of it.",
        "The header is on line 3: it does not look like the records that follow.",
    )


class Asked:
    """A dataset that counts how often it is asked."""

    def __init__(self, names: Sequence[str]) -> None:
        self.times = 0
        self._knows = knows(names)

    def __call__(self, header: Sequence[str]) -> float:
        """Return how well a header is known."""
        self.times += 1
        return self._knows(header)


def test_the_usual_file_is_decided_at_once() -> None:
    """The dataset is asked about one header, and is not asked for long."""
    table = tables.orders(1000)
    data = written([table.names, *table.rows], COMMA).encode()[:65536]
    asked = Asked(table.names)
    found = detect(data, ended=False, expected=asked)
    assert (found.dialect, asked.times) == (Dialect(), 1)


def test_a_dataset_is_not_asked_for_ever() -> None:
    """Its answer may be slow."""
    table = tables.reviews(1000)
    asked = Asked(["nothing", "of", "this"])
    detect(written([table.names, *table.rows], SEMICOLON).encode()[:65536], ended=False, expected=asked)
    assert asked.times < 250


@pytest.mark.parametrize(
    "make", [tables.orders, tables.invoices, tables.reviews, tables.survey], ids=lambda make: make.__name__
)
def test_it_takes_little_time(make) -> None:  # type: ignore[no-untyped-def]
    """Under 30 ms for 64 KiB, by the processor's clock; what measures coverage would take half of that, and rests."""
    table = make(2000)
    data = written([table.names, *table.rows], SEMICOLON).encode()[:65536]
    took, tracer = [], sys.gettrace()
    sys.settrace(None)
    try:
        for _ in range(5):
            began = time.thread_time()
            detect(data, ended=False, encoding=detect_encoding(data, ended=False))
            took.append(time.thread_time() - began)
    finally:
        sys.settrace(tracer)
    assert min(took) < 0.030


@pytest.mark.parametrize(
    "piece",
    [
        b'"',
        b',"""x',
        b',"abc',
        b'"\\',
        b',"\\"',
        b",",
        b";,",
        b"\n",
        b"1:1:",
        b"a ",
        b"#\n",
        b"\0",
        b"\xff",
        b"a" * 900 + b"\xff",
        b"\r",
        b"a;\"'\\|\t, \n",
    ],
)
def test_no_file_takes_long(piece: bytes) -> None:
    """Whatever it is made of: what is looked at is bounded, and no search goes back and forth."""
    data = (piece * 65536)[:65536]
    began = time.thread_time()
    detect(data, ended=False, expected=knows(["a", "b"]), encoding=detect_encoding(data, ended=False))
    assert time.thread_time() - began < 2


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes_are_read_somehow(data: bytes, ended: bool) -> None:
    """Detection is no place to fail."""
    found = detect(data, ended=ended, encoding=detect_encoding(data, ended=ended), expected=knows(["a", "b"]))
    assert found.options


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab1,;|\t\n\r\"'\\# =\ufdd0\ufdd1", max_size=80), st.booleans())
def test_any_signs_are_read_somehow(text: str, ended: bool) -> None:
    """In any order; and the options it ends in are such as can be given."""
    found = detect(text.encode(), ended=ended)
    assert dialect_of(dict(parse_qsl(found.options, keep_blank_values=True))) == found.dialect
