"""Objects on the local disk: whole or not at all, read exactly, and never anybody else's file."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ingest.errors import SettingsError, SourceChanged, StorageError
from ingest.objectkeys import chunk_key, chunk_prefix
from ingest.objects import Source
from ingest.settings import Settings
from ingest.storage import LocalStorage, Storage, StoredObject, open_storage

JOB = UUID("01900000-0000-7000-8000-000000000001")
KEY = chunk_key(JOB, 1)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path)


def store(storage: Storage, key: str, data: bytes) -> None:
    writer = storage.create(key)
    writer.write(data)
    writer.seal()


async def contents(storage: Storage, key: str, offset: int, length: int) -> bytes:
    async with storage.open(key) as reader:
        return await reader.read(offset, length)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def test_an_object_is_read_back_in_parts(storage: Storage) -> None:
    """Any stretch of it, exactly."""
    store(storage, KEY, b"0123456789")
    assert await contents(storage, KEY, 0, 10) == b"0123456789"
    assert await contents(storage, KEY, 3, 4) == b"3456"
    assert await contents(storage, KEY, 10, 0) == b""


async def test_an_object_appears_when_it_is_sealed(storage: Storage, tmp_path: Path) -> None:
    """Before that only a temporary file is there; after it nobody can write to it."""
    writer = storage.create(KEY)
    writer.write(b"abc")
    assert files(tmp_path) == [f"{KEY}.partial"]
    with pytest.raises(SourceChanged):
        await contents(storage, KEY, 0, 3)

    writer.seal()
    assert files(tmp_path) == [KEY]
    assert stat.S_IMODE((tmp_path / KEY).stat().st_mode) == 0o440
    assert storage.statistics().objects_written == 1
    assert storage.statistics().bytes_written == writer.size == 3


def test_a_discarded_object_is_gone(storage: Storage, tmp_path: Path) -> None:
    """Discarding twice, or after sealing, does nothing more; writing to it is refused."""
    writer = storage.create(KEY)
    writer.discard()
    writer.discard()
    assert files(tmp_path) == []
    with pytest.raises(StorageError):
        writer.write(b"x")

    sealed = storage.create(KEY)
    sealed.seal()
    sealed.discard()
    assert files(tmp_path) == [KEY]


async def test_a_missing_object_is_a_change_of_the_source(storage: Storage) -> None:
    """No retry can bring it back."""
    with pytest.raises(SourceChanged) as raised:
        await contents(storage, KEY, 0, 1)
    assert raised.value.code == "E_SOURCE_MISSING"


async def test_an_object_that_is_too_short_is_noticed(storage: Storage) -> None:
    """Fewer bytes than asked for are never returned."""
    store(storage, KEY, b"abc")
    with pytest.raises(SourceChanged, match="ends at byte 3"):
        await contents(storage, KEY, 1, 3)


async def test_a_local_file_is_read_where_it_lies(storage: Storage, tmp_path: Path) -> None:
    """Its key survives any name, and removing the key leaves the file alone."""
    path = tmp_path / "ä b?c#d%25.csv"
    path.write_bytes(b"id\n1\n")
    key = Source.of_file(path).key()
    assert await contents(storage, key, 3, 2) == b"1\n"

    await storage.remove(key)
    assert path.exists()


@pytest.mark.parametrize("change", ["size", "time", "removed", "replaced"])
async def test_a_local_file_that_has_changed_is_not_read(storage: Storage, tmp_path: Path, change: str) -> None:
    """Size and modification time are compared when it is opened."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"id\n1\n")
    source = Source.of_file(path)
    match change:
        case "size":
            with path.open("ab") as file:
                file.write(b"2\n")
            os.utime(path, ns=(0, source.mtime_ns or 0))
        case "time":
            os.utime(path, ns=(0, 1))
        case "removed":
            path.unlink()
        case "replaced":
            path.with_name("other").write_bytes(b"id\n2\n")
            os.utime(path.with_name("other"), ns=(0, 1))
            path.with_name("other").rename(path)
    with pytest.raises(SourceChanged):
        await contents(storage, source.key(), 0, 1)


async def test_a_local_file_that_changes_while_it_is_read_is_noticed(storage: Storage, tmp_path: Path) -> None:
    """The bytes are not given out."""
    path = tmp_path / "file.csv"
    path.write_bytes(b"id\n1\n")
    async with storage.open(Source.of_file(path).key()) as reader:
        assert await reader.read(0, 2) == b"id"
        os.utime(path, ns=(0, 1))
        with pytest.raises(SourceChanged, match="has changed"):
            await reader.read(0, 2)


def test_only_a_file_can_be_read_in_place(tmp_path: Path) -> None:
    """Folders, pipes and devices have no bytes to refer to."""
    with pytest.raises(StorageError, match="not a file"):
        Source.of_file(tmp_path)


async def test_removing_is_repeatable(storage: Storage, tmp_path: Path) -> None:
    """An object that has gone is as good as removed; the folder of a job goes with its last object."""
    store(storage, KEY, b"x")
    store(storage, chunk_key(JOB, 2), b"y")
    await storage.remove(KEY)
    await storage.remove(KEY)
    assert files(tmp_path) == [chunk_key(JOB, 2)]

    await storage.remove(chunk_key(JOB, 2))
    assert not (tmp_path / chunk_prefix(JOB)).exists()
    assert storage.statistics().objects_removed == 2


async def test_a_folder_that_was_removed_is_made_again(storage: Storage) -> None:
    """An object may be created after the last one of its job has been removed."""
    store(storage, KEY, b"x")
    await storage.remove(KEY)
    store(storage, chunk_key(JOB, 2), b"y")
    assert await contents(storage, chunk_key(JOB, 2), 0, 1) == b"y"


async def test_everything_of_a_job_is_removed_together(storage: Storage, tmp_path: Path) -> None:
    """Unsealed objects too, but nothing of another job and nothing that is not an object."""
    store(storage, KEY, b"x")
    storage.create(chunk_key(JOB, 2)).write(b"y")
    other = chunk_key(UUID(int=JOB.int + 1), 1)
    store(storage, other, b"z")
    (tmp_path / chunk_prefix(JOB) / "notes.txt").touch()

    await storage.remove_all(chunk_prefix(JOB))
    assert files(tmp_path) == sorted([other, f"{chunk_prefix(JOB)}/notes.txt"])
    await storage.remove_all(chunk_prefix(UUID(int=7)))


async def test_the_listing_has_objects_only(storage: Storage, tmp_path: Path) -> None:
    """Sealed and unsealed ones with size and age, and no file that somebody else has put there."""
    assert await storage.listing() == []
    store(storage, KEY, b"abc")
    os.utime(tmp_path / KEY, (0, 0))
    storage.create(chunk_key(JOB, 2)).write(b"y")
    (tmp_path / chunk_prefix(JOB) / "notes.txt").touch()
    (tmp_path / "report.csv").touch()

    sealed, unsealed = sorted(await storage.listing(), key=lambda stored: stored.key)
    assert (sealed.key, sealed.bytes, sealed.temporary) == (KEY, 3, False)
    assert sealed.age_s > 1e9
    assert unsealed == StoredObject(key=f"{chunk_key(JOB, 2)}.partial", bytes=1, age_s=unsealed.age_s, temporary=True)
    assert unsealed.age_s < 60

    await storage.remove(unsealed.key)
    assert [stored.key for stored in await storage.listing()] == [KEY]


@pytest.mark.parametrize("key", ["chunks/../x/1", "/etc/passwd", "chunks/x", "chunks/x/1/2", "", "chunks/x/a"])
async def test_a_key_cannot_lead_anywhere_else(storage: Storage, key: str) -> None:
    """Whatever is not the key of an object is refused before the disk is touched."""
    for use in (lambda: storage.remove(key), lambda: contents(storage, key, 0, 1)):
        with pytest.raises(StorageError, match="not the key"):
            await use()
    with pytest.raises(StorageError, match="not the key"):
        storage.create(key)


async def test_a_prefix_is_that_of_a_job(storage: Storage) -> None:
    """Not the whole folder, and nothing outside it."""
    for prefix in ("chunks", "chunks/..", "", "chunks/x/1"):
        with pytest.raises(StorageError, match="not the key"):
            await storage.remove_all(prefix)


def test_a_folder_that_cannot_be_made_is_an_error_of_the_storage(storage: Storage, tmp_path: Path) -> None:
    """A file in the place of a folder stops every user, root too."""
    (tmp_path / "chunks").touch()
    with pytest.raises(StorageError) as raised:
        storage.create(KEY)
    assert raised.value.code == "E_STORAGE"


@pytest.fixture
def small_files() -> Iterator[int]:
    """Let this process write no file longer than 64 KiB, which the disk answers much like one that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
    yield 65536
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_room_discards_the_object(storage: Storage, tmp_path: Path, small_files: int) -> None:
    """A part may have been written; nothing of it stays, and the error says that there is no room."""
    writer = storage.create(KEY)
    writer.write(b"x" * (small_files - 10))
    with pytest.raises(StorageError) as raised:
        writer.write(b"x" * 20)
    assert raised.value.code == "E_STORAGE_FULL"
    assert files(tmp_path) == []
    assert storage.statistics().objects_written == 0


@pytest.mark.parametrize("fails", [1, 2])
def test_a_failed_fsync_gives_the_object_up(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: int
) -> None:
    """Of the file or of its folder: no second try on the same file, and nothing under the key."""
    writer = storage.create(KEY)
    writer.write(b"abc")
    calls = []

    def fsync(fd: int) -> None:
        calls.append(fd)
        if len(calls) == fails:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="Input/output error"):
        writer.seal()
    assert files(tmp_path) == []
    with pytest.raises(StorageError):
        writer.seal()
    assert len(calls) == fails


def test_the_storage_is_in_the_home_folder_by_default(tmp_path: Path) -> None:
    """STORAGE_URL names another folder."""
    open_storage(Settings.from_environment({"INGEST_HOME": str(tmp_path / "home")}))
    assert (tmp_path / "home" / "objects").is_dir()
    open_storage(Settings.from_environment({"STORAGE_URL": f"file://{tmp_path}/a%20b"}))
    assert (tmp_path / "a b").is_dir()


@pytest.mark.parametrize("url", ["s3://user:secret@bucket/prefix", "file://elsewhere/path", "file:relative", "/path"])
def test_other_storages_are_refused(url: str) -> None:
    """In one line that says what is allowed, and shows no password."""
    with pytest.raises(SettingsError, match="STORAGE_URL") as raised:
        open_storage(Settings.from_environment({"STORAGE_URL": url}))
    assert "secret" not in str(raised.value)


def test_a_storage_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """The start stops with the folder's name."""
    (tmp_path / "objects").touch()
    with pytest.raises(SettingsError, match="objects"):
        open_storage(Settings.from_environment({"INGEST_HOME": str(tmp_path)}))
