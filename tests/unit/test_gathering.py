"""Pieces that are gathered: nothing lost, large ones not copied, small ones put together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.gathering import SMALL_BYTES, Gathering

SIZES = st.lists(st.sampled_from([0, 1, 7, 1000, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1]), max_size=12)


@given(SIZES)
def test_all_bytes_come_out_in_their_order(sizes: list[int]) -> None:
    gathering, pieces = Gathering(), [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    for piece in pieces:
        gathering.add(piece)
    assert gathering.size == sum(sizes)
    assert bytes(gathering.joined()) == b"".join(gathering.take()) == b"".join(pieces)
    assert gathering.size == 0
    assert gathering.take() == []


def test_a_large_piece_is_not_copied() -> None:
    gathering, piece = Gathering(), bytes(SMALL_BYTES)
    gathering.add(b"a")
    gathering.add(piece)
    gathering.add(b"b")
    assert [taken is piece for taken in gathering.take()] == [False, True, False]


def test_small_pieces_become_few() -> None:
    gathering = Gathering()
    for _ in range(4 * SMALL_BYTES):
        gathering.add(b"x")
    assert [len(piece) for piece in gathering.take()] == [SMALL_BYTES] * 4


def test_what_was_taken_does_not_grow() -> None:
    gathering = Gathering()
    gathering.add(b"a")
    (taken,) = gathering.take()
    gathering.add(b"b")
    assert taken == b"a"
