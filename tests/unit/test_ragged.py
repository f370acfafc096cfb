"""Records with too many fields: read in the one way that fits types and the sound records, or not at all."""

from __future__ import annotations

import time

import pytest

from ingest.dialect import Dialect
from ingest.reading.ragged import columns_of, repaired
from ingest.reading.tokens import tokens

DIALECT = Dialect()
TEXTS = ("text", "text", "text")
# A number that is always there, a word that is always quoted, a note that is there or not.
SOUND = (b'1,"a",x', b'2,"b",', b'3,"c",y')
# None is quoted.
BARE = (b"1,a,x", b"2,b,y", b"3,c,z")


def read(record: bytes, types: tuple[str, ...], sound: tuple[bytes, ...] = (), dialect: Dialect = DIALECT) -> object:
    """The texts of a record's fields, None where it stays as it is."""
    columns = columns_of(types, [tokens(each, dialect) for each in sound], dialect)
    found = repaired(tokens(record, dialect), columns, dialect.delimiter.encode())
    return None if found is None else [field.text.decode() for field in found]


@pytest.mark.parametrize(
    ("record", "types", "sound", "expected"),
    [
        (b"1,a,b,2", ("integer", "text", "integer"), (), ["1", "a,b", "2"]),
        (b"1,a,b,c,d,2", ("integer", "text", "integer"), (), ["1", "a,b,c,d", "2"]),
        (b"a,b,c,d", TEXTS, (), None),
        (b"1,2,3,4", ("integer", "integer", "integer"), (), None),
        (b"1,a,2,", ("integer", "text", "integer"), (), None),
        (b"1,a,2,", ("integer", "text", "integer"), (b"1,a,2",) * 3, ["1", "a", "2"]),
        (b"1,a,,,2", ("integer", "text", "integer"), (), ["1", "a", "2"]),
        (b"1,,,2", ("integer", "text", "integer"), (), ["1", "", "2"]),
        (b'1,a,b,"c",d,e', TEXTS, (), ["1,a,b", "c", "d,e"]),
        (b'1,"a",b,"c"', TEXTS, (), None),
        (b'1,2,"a",x', TEXTS, SOUND, ["1,2", "a", "x"]),
        (b'1,,"a",x', TEXTS, SOUND, ["1", "a", "x"]),
        (b'1,"a",x,', TEXTS, SOUND, ["1", "a", "x"]),
        (b'1,"a",,x', TEXTS, SOUND, ["1", "a", "x"]),
        (b'1,"a",,', TEXTS, SOUND, ["1", "a", ""]),
        (b'1,"a",y,x', TEXTS, SOUND, ["1", "a", "y,x"]),
        (b"1,a,x", TEXTS, SOUND, None),
        (b'1,"a"', TEXTS, SOUND, None),
        (b'1,a,"b",c', ("integer", "text", "text"), BARE, None),
    ],
)  # fmt: skip
def test_the_one_way_that_fits_is_taken(
    record: bytes, types: tuple[str, ...], sound: tuple[bytes, ...], expected: object
) -> None:
    assert read(record, types, sound) == expected


def test_quotes_that_are_needed_say_nothing_of_a_column() -> None:
    """There a field without them is as good as one with them."""
    sound = (b'1,"a,b",x', b'2,"b,c",y', b'3,"c,d",z')
    assert read(b"1,a,,x", TEXTS, sound) == ["1", "a", "x"]
    assert read(b"1,a,,x", TEXTS, SOUND) is None


def test_two_sound_records_say_nothing() -> None:
    """Chance may have filled a column."""
    types = ("integer", "text", "integer")
    assert read(b"1,a,2,", types, (b"1,a,2",) * 2) is None


def test_words_between_walls_in_a_file_with_spaces() -> None:
    """On both sides of a quoted field at once."""
    dialect = Dialect(delimiter=" ")
    types = ("integer", "text", "text", "text")
    sound = tuple(b'%d Pier "clear, dry" trip' % n for n in range(3))
    assert read(b'7 Mill Point to Pier "wet, cold" extra trip', types, sound, dialect) == [
        "7", "Mill Point to Pier", "wet, cold", "extra trip",
    ]  # fmt: skip


def test_the_time_for_a_record_is_bounded() -> None:
    """However many fields it has; a second is some hundred times what it takes."""
    began = time.monotonic()
    for width, fields in ((3, 2000), (9, 27), (1600, 1601), (1000, 2000)):
        read(b",".join([b"1"] * fields), ("text",) * width)
    assert time.monotonic() - began < 1.0
