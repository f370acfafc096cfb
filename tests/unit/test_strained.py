"""Malformed records among others, found for all of them at once: the same ones as when each is looked at by itself."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ingest.batch import Batch
from ingest.errors import RowError
from ingest.loading.screening import records_of, screened
from ingest.loading.strained import strain
from tests.unit.test_screening import batch

FIELDS = st.sampled_from([b"1", b"", b'"a"', b'"a,b"', b'"a""b"', b'""', b'""""', "é".encode(), b"now"])
ODD = st.sampled_from([b'a"b', b'a"b"', b'"a"b', b'"a', b"\x00", b"\xff", b' "a"', b'"a" ', b'"', b'a"', b'"a"b"c"'])
LINES = st.lists(FIELDS, min_size=2, max_size=2) | st.lists(FIELDS | ODD, min_size=1, max_size=4)
ENDS = st.sampled_from([b"\n", b"\r\n"])


def of_lines(lines: list[bytes], end: bytes) -> Batch:
    """A batch of two columns of text, every line of it taken for a record, as the file was cut."""
    found = batch(end.join(lines) + end, "text", "text")
    return replace(found, range=replace(found.range, records=len(lines), lines=len(lines)))


def test_the_header_once_more_is_no_record() -> None:
    """Also where a byte order mark before its quotes makes it malformed."""
    given = of_lines([b"1,2", b'\xef\xbb\xbf"c1","c2"', b"3,4"], b"\n")
    spec = replace(given.chunk.spec, header=("c1", "c2"))
    data, _, [reject] = strain(replace(given, chunk=replace(given.chunk, spec=spec)), 100)
    assert (data, reject.code, reject.line) == (b"1,2\n3,4\n", "E_HEADER_REPEAT", 11)


@given(st.lists(LINES.map(b",".join).filter(bool), min_size=1, max_size=12), ENDS)
def test_the_malformed_ones_are_those_that_looking_at_each_finds(lines: list[bytes], end: bytes) -> None:
    given = of_lines(lines, end)
    where = records_of(given)
    if where.start.size != len(lines):  # quotes that swallow lines: not for this way
        with pytest.raises(RowError):
            strain(given, 100)
        return
    broken, sound = screened(given, where)
    if not broken:
        with pytest.raises(RowError):
            strain(given, 100)
        return
    data, kept, rejects = strain(given, 100)
    assert kept.tolist() == [i for i, _ in sound]
    assert data == b"".join(record + end for _, record in sound)
    assert rejects == broken


def test_rejects_are_made_for_as_many_as_there_is_room_for() -> None:
    given = of_lines([b"1,2,3"] * 5 + [b"1,2"], b"\n")
    data, kept, rejects = strain(given, 2)
    assert (data, kept.tolist(), [reject.line for reject in rejects]) == (b"1,2\n", [5], [10, 11])
    assert strain(given, 0)[2] == []


@pytest.mark.parametrize("lines", [[b"1", b'"a\nb",2'], [b"1,2"]])
def test_what_is_not_a_line_each_or_all_well_formed_is_left_to_others(lines: list[bytes]) -> None:
    """A record of several lines, and a batch in which nothing is malformed."""
    with pytest.raises(RowError):
        strain(batch(b"\n".join(lines) + b"\n", "text", "text"), 100)
