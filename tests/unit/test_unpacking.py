"""Unpacking: the same bytes however the file is cut, members and all; damage, ends and bombs are found."""

from __future__ import annotations

import bz2
import gzip
import random
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from ingest.compression import Compression, compression_of_bytes, compression_of_coding, compression_of_name
from ingest.errors import FileError, RequestError
from ingest.unpacking import GRACE_BYTES, MAX_EMPTY_MEMBERS, PIECE_BYTES, Unpacker, unpacked_start

PACK = {
    Compression.GZIP: lambda data: gzip.compress(data, 6, mtime=0),
    Compression.ZSTD: zstd.compress,
    Compression.BZIP2: bz2.compress,
}
SKIPPABLE = b"\x53\x2a\x4d\x18\x05\x00\x00\x00hello"

each_kind = pytest.mark.parametrize("kind", list(Compression))


def unpack(
    packed: bytes, declared: Compression | None = None, *, cuts: list[int] | None = None, **limits: int
) -> tuple[bytes, Unpacker]:
    """Feed a file in pieces that end at `cuts`, draining after each."""
    unpacker = Unpacker(declared, max_bytes=limits.get("max_bytes"), max_ratio=limits.get("max_ratio"))
    out = bytearray()

    def drain() -> None:
        while True:
            piece = unpacker.next()
            assert len(piece) <= max(PIECE_BYTES, len(packed))
            out.extend(piece)
            if not unpacker.more:
                return

    places = [0, *sorted(cuts or []), len(packed)]
    for start, end in pairwise(places):
        unpacker.feed(packed[start:end])
        drain()
    unpacker.finish()
    drain()
    return bytes(out), unpacker


@each_kind
@given(data=st.data())
def test_the_bytes_are_the_same_wherever_the_file_is_cut(kind: Compression, data: st.DataObject) -> None:
    """One member or many, empty ones too, declared or seen."""
    parts = data.draw(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
    packed = b"".join(PACK[kind](part) for part in parts)
    cuts = data.draw(st.lists(st.integers(0, len(packed)), max_size=8))
    declared = data.draw(st.sampled_from([None, kind]))
    out, unpacker = unpack(packed, declared, cuts=cuts)
    assert (out, unpacker.compression, unpacker.bytes_out) == (b"".join(parts), kind, len(out))


@given(blocks=st.lists(st.binary(max_size=20), max_size=8))
def test_blocks_that_were_fed_in_a_row_come_out_in_a_row(blocks: list[bytes]) -> None:
    """Each as it was, once it is known that the file is not compressed."""
    unpacker = Unpacker(None, max_bytes=None, max_ratio=None)
    for block in [b"plain text", *blocks]:
        unpacker.feed(block)
    out = []
    while unpacker.more:
        out.append(bytes(unpacker.next()))
    assert out == [b"plain text", *filter(None, blocks)]


@given(content=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_what_is_not_compressed_comes_out_as_it_is(content: bytes, cuts: list[int]) -> None:
    """Also when it is shorter than any magic."""
    if compression_of_bytes(content) is None:
        out, unpacker = unpack(content, cuts=[min(cut, len(content)) for cut in cuts])
        assert (out, unpacker.compression) == (content, None)


@each_kind
def test_large_files_come_in_bounded_pieces(kind: Compression) -> None:
    """Several pieces of one block, and several blocks for one piece."""
    noise = random.Random(1).randbytes(700_000)
    content = noise + b"0" * 5 * PIECE_BYTES + noise
    packed = PACK[kind](content)
    assert unpack(packed, cuts=list(range(0, len(packed), 65_536)))[0] == content
    assert unpack(packed)[0] == content


@each_kind
def test_a_cut_file_is_an_error_wherever_it_is_cut(kind: Compression) -> None:
    """Never taken for a shorter file."""
    packed = PACK[kind](b"id,name\n1,a\n" * 20)
    for end in range(len(packed)):
        with pytest.raises(FileError, match=r"it ends before its data does|another kind"):
            unpack(packed[:end], kind)


@each_kind
@pytest.mark.parametrize("tail", [b"\n", b"\0", b"garbage", b"x" * 100_000, b"\x1f\x8b", b"BZh"])
def test_what_follows_the_last_member_is_an_error(kind: Compression, tail: bytes) -> None:
    """Padding too: it is not what was packed."""
    with pytest.raises(FileError, match=r"something else|it ends before") as refused:
        unpack(PACK[kind](b"a\n1\n") + tail)
    assert refused.value.code == "E_COMPRESSED"


@each_kind
def test_a_changed_byte_is_found(kind: Compression) -> None:
    """By the checksums of the formats."""
    content = random.Random(2).randbytes(2000)
    packed = bytearray(
        zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1})
        if kind is Compression.ZSTD
        else PACK[kind](content)
    )
    packed[len(packed) // 2] ^= 1
    with pytest.raises(FileError, match="cannot be unpacked"):
        unpack(bytes(packed), kind)


@each_kind
def test_another_kind_than_declared_is_an_error(kind: Compression) -> None:
    """A CSV file that is named .gz has been unpacked by somebody, or is something else: the client must say."""
    with pytest.raises(FileError, match="another kind"):
        unpack(b"id,name\n1,a\n2,b\n3,c\n" * 5, kind)


def test_skippable_frames_are_skipped() -> None:
    """As parallel zstd writes them; also as the first thing in the file."""
    packed = SKIPPABLE + zstd.compress(b"a\n") + SKIPPABLE + zstd.compress(b"1\n") + SKIPPABLE
    for cut in range(len(packed)):
        assert unpack(packed, cuts=[cut])[0] == b"a\n1\n"


def test_a_window_that_would_take_the_memory_is_refused() -> None:
    """With advice."""
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    compressor = zstd.ZstdCompressor(options=options)
    packed = compressor.compress(b"a\n") + compressor.flush()
    with pytest.raises(FileError, match="window of more than 8 MiB"):
        unpack(packed)


@each_kind
def test_the_bytes_that_come_out_are_limited(kind: Compression) -> None:
    """Exactly at the limit is allowed."""
    packed = PACK[kind](b"x" * 10_000)
    assert len(unpack(packed, max_bytes=10_000)[0]) == 10_000
    with pytest.raises(RequestError, match="MAX_UPLOAD_BYTES") as refused:
        unpack(packed, max_bytes=9_999)
    assert refused.value.code == "E_DECOMPRESSED_LIMIT"


def drop_all(unpacker: Unpacker, packed: bytes) -> None:
    for start in range(0, len(packed), 65_536):
        unpacker.feed(packed[start : start + 65_536])
        while unpacker.more:
            unpacker.next()


@each_kind
def test_a_bomb_costs_bounded_memory_and_output(kind: Compression) -> None:
    """A gigabyte of zeros in a few KB or a megabyte is given up soon after the grace, a piece at a time."""
    packed = PACK[kind](b"\0" * (256 << 20))
    assert len(packed) * 200 < 256 << 20
    unpacker = Unpacker(None, max_bytes=None, max_ratio=200)
    tracemalloc.start()
    with pytest.raises(RequestError, match="MAX_COMPRESSION_RATIO"):
        drop_all(unpacker, packed)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert unpacker.bytes_out <= max(GRACE_BYTES, 200 * unpacker.bytes_in) + PIECE_BYTES
    assert peak_bytes < 8 * PIECE_BYTES


@each_kind
def test_empty_members_are_limited(kind: Compression) -> None:
    """They cost time and bring nothing."""
    empty = PACK[kind](b"")
    assert unpack(PACK[kind](b"a") + empty * MAX_EMPTY_MEMBERS)[0] == b"a"
    with pytest.raises(FileError, match="empty parts"):
        unpack(empty * (MAX_EMPTY_MEMBERS + 1), kind)


def test_the_empty_file_is_not_compressed() -> None:
    """Unless it was said to be."""
    assert unpack(b"")[0] == b""
    with pytest.raises(FileError, match="ends before"):
        unpack(b"", Compression.GZIP)


def test_raw_deflate_is_not_taken_for_gzip() -> None:
    """zlib would read it with other settings."""
    with pytest.raises(FileError):
        unpack(zlib.compress(b"a\n"), Compression.GZIP)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv.gz", "gzip"), ("A.CSV.GZ", "gzip"), ("a.zst", "zstd"), ("a.bz2", "bzip2"), ("a.csv", None), ("gz", None)],
)
def test_kinds_by_name(name: str, kind: str | None) -> None:
    """By the ending, whatever its case."""
    assert compression_of_name(name) == kind


def test_kinds_by_content_encoding() -> None:
    """One that is understood, or none."""
    assert compression_of_coding(" GZIP ") is Compression.GZIP
    assert compression_of_coding("identity") is None
    for coding in ("br", "gzip, gzip", "deflate"):
        with pytest.raises(RequestError, match="not understood"):
            compression_of_coding(coding)


@each_kind
def test_the_start_of_a_cut_file_can_be_looked_at(kind: Compression) -> None:
    """For a preview; what is not compressed is returned as it is."""
    content = b"id,name\n" + random.Random(3).randbytes(100_000)
    packed = PACK[kind](content)
    assert content.startswith(unpacked_start(packed[:-1000]))
    assert unpacked_start(content) == content
