"""Chunks that are stored compressed are read like the others, and damage is found."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import SourceChanged
from ingest.objectkeys import chunk_key
from ingest.objects import LocalReader, ObjectWriter, Source
from ingest.packing import PIECE_BYTES, PackedReader, PackedWriter
from ingest.storage import LocalStorage
from tests.unit.test_storage import JOB, contents, files, store

KEY = chunk_key(JOB, 1, packed=True)


@given(st.lists(st.binary(max_size=400), max_size=6), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 500))))
def test_any_stretch_is_read_exactly(parts: list[bytes], stretches: list[tuple[int, int]]) -> None:
    """Forwards, backwards, overlapping, and not beyond the end."""
    content = b"".join(parts)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "object"
        writer = PackedWriter(ObjectWriter(path, lambda size: None))
        for part in parts:
            writer.write(part)
        writer.seal()
        assert writer.size == path.stat().st_size
        reader = PackedReader(LocalReader(Source(path)))
        for start, length in stretches:
            offset = min(start, len(content))
            expected = content[offset : offset + length]
            assert reader.read(offset, len(expected)) == expected
        with pytest.raises(SourceChanged):
            reader.read(len(content), 1)
        reader.close()


async def test_large_objects_take_less_room(tmp_path: Path) -> None:
    """Many pieces, read from anywhere."""
    storage, content = LocalStorage(tmp_path), b"".join(b"%d,name,true\n" % n for n in range(300_000))
    assert len(content) > 4 * PIECE_BYTES
    store(storage, KEY, content)
    assert storage.statistics().bytes_written * 3 < len(content)
    for offset in (0, 5, len(content) - 100, PIECE_BYTES - 1, 3 * PIECE_BYTES):
        assert await contents(storage, KEY, offset, 100) == content[offset : offset + 100]
    assert await contents(storage, KEY, 0, len(content)) == content


async def test_compressed_and_plain_objects_lie_side_by_side(tmp_path: Path) -> None:
    """Listed, found and removed alike; unsealed ones too."""
    storage, plain = LocalStorage(tmp_path), chunk_key(JOB, 2)
    store(storage, KEY, b"packed")
    store(storage, plain, b"plain")
    storage.create(chunk_key(JOB, 3, packed=True)).write(b"x")
    assert await contents(storage, KEY, 0, 6) == b"packed"
    assert await contents(storage, plain, 0, 5) == b"plain"
    assert sorted(stored.key for stored in await storage.listing()) == [KEY, plain, f"{chunk_key(JOB, 3)}.zst.partial"]
    await storage.remove(KEY)
    await storage.remove_all(f"chunks/{JOB}")
    assert files(tmp_path) == []


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
async def test_a_damaged_object_is_never_read_as_something_else(tmp_path: Path, harm: str) -> None:
    """It is worth no other try."""
    storage, content = LocalStorage(tmp_path), random.Random(1).randbytes(50_000)
    store(storage, KEY, content)
    path = tmp_path / KEY
    data = bytearray(path.read_bytes())
    path.unlink()
    if harm != "gone":
        data[25_000] ^= 1
        path.write_bytes(data if harm == "changed" else data[:-10])
    with pytest.raises(SourceChanged):
        await contents(storage, KEY, 0, len(content))
