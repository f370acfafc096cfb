"""Records that are lines are found where the splitter would find them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batch import Batch
from ingest.bits import BitSet, find
from ingest.dialect import Dialect
from ingest.loading.locating import is_one_line_each, located, located_some
from ingest.reading.records import Records, records


def batch_of(data: bytes) -> tuple[Batch, Records]:
    """A batch of two columns that begins on line 7, and its records as the splitter finds them."""
    where = records(data, Dialect(), 7, False)
    extent = SimpleNamespace(records=where.start.size, lines=where.start.size, first_line=7)
    spec = SimpleNamespace(dialect=Dialect(), columns=(1, 2))
    return cast(Batch, SimpleNamespace(data=data, range=extent, chunk=SimpleNamespace(spec=spec))), where


def places(found: Records) -> list[tuple[int, int, int]]:
    """Where records are: first byte, end, line."""
    return list(zip(found.start.tolist(), found.end.tolist(), found.line.tolist(), strict=True))


@given(st.lists(st.sampled_from(["a,b", "x" * 70 + ",", "1,2\r", ","]), min_size=1, max_size=200), st.booleans())
def test_lines_are_records(lines: list[str], ended: bool) -> None:
    """All of them, and some; with CRLF or LF, with and without a last line end."""
    data = "\n".join(lines).encode() + (b"\n" if ended else b"")
    if not ended:
        data = data.rstrip(b"\r")
    batch, where = batch_of(data)
    assert is_one_line_each(batch)
    assert places(located(batch)) == places(where)
    for some in ([], [0], [len(lines) - 1], list(range(0, len(lines), 3))):
        expected = [places(where)[i] for i in some]
        assert places(located_some(batch, some, None)) == expected == places(located_some(batch, some, where))


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_members_by_their_ranks(count: int) -> None:
    """`nth_each` is `nth` of each."""
    octets = np.frombuffer((b"a" * 9 + b"\n" + b"\n" * 3) * count, np.uint8)
    found = BitSet(find(octets, 10))
    ranks = np.arange(0, found.total, 7)
    assert found.nth_each(ranks).tolist() == [found.nth(int(rank)) for rank in ranks]
