"""Storage: where the objects of chunks are kept. Writing is done inside worker threads, all else awaits them.

A key is one of `objectkeys`, or the `file://` URL of a local file that is read where it lies and never removed.
Threads are not abandoned on cancellation: a call that was begun is waited for, so nothing happens behind one's back.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import trio

from ingest.errors import SettingsError, SourceChanged, StorageError
from ingest.objectkeys import CHUNKS, KEY, PREFIX, SPOOL
from ingest.objects import FILE_SCHEME, TEMPORARY, LocalReader, ObjectWriter, Source, disk_errors, make_folder
from ingest.packing import PACKED, PackedReader, PackedWriter
from ingest.settings import Settings
from ingest.spool import Spool, make_spool

T = TypeVar("T")

# Threads that may wait for the disk at once; more of them would only queue up inside the kernel.
THREADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """An object, or (`temporary`) what is there of one that is not sealed; `age_s` since it was last written to."""

    key: str
    bytes: int
    age_s: float
    temporary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageStatistics:
    """What was done since the start, and how many threads are at it now."""

    objects_written: int
    bytes_written: int
    objects_removed: int
    threads_busy: int


class ObjectReader:
    """An object that is open for reading."""

    def __init__(self, reader: LocalReader | PackedReader, limiter: trio.CapacityLimiter) -> None:
        self._reader = reader
        self._limiter = limiter

    async def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`. Cancellation waits for the disk.

        Raises SourceChanged when these are not the bytes that were received, StorageError when the disk fails.
        """
        return await self.read_as(offset, length, bytes)

    async def read_as(self, offset: int, length: int, made: Callable[[bytes], T]) -> T:
        """Read the same, and return what `made` makes of it in the same trip to a thread."""
        return await trio.to_thread.run_sync(lambda: made(self._reader.read(offset, length)), limiter=self._limiter)


class LocalStorage:
    """Objects in a folder of the local disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._limiter = trio.CapacityLimiter(THREADS)
        self._lock = threading.Lock()  # the counts are changed from worker threads
        self._written = self._written_bytes = self._removed = 0

    def create(self, key: str) -> ObjectWriter | PackedWriter:
        """Begin to write an object; for use inside a worker thread, since it and its writer block on the disk."""
        writer = ObjectWriter(self._path(key, KEY), self._count_written)
        return PackedWriter(writer) if key.endswith(PACKED) else writer

    def make_spool(self, key: str) -> None:
        """Make an empty spool; for use inside a worker thread."""
        make_spool(self._path(key, SPOOL))

    def open_spool(self, key: str) -> Spool:
        """Open a spool for writing; for use inside a worker thread."""
        return Spool(self._path(key, SPOOL))

    @asynccontextmanager
    async def open(self, key: str) -> AsyncIterator[ObjectReader]:
        """Open an object, or the local file that a `file://` key refers to.

        Raises SourceChanged when it has gone (E_SOURCE_MISSING) or is not what was received.
        """
        reader = await self._in_thread(partial(self._open, key))
        try:
            yield ObjectReader(reader, self._limiter)
        finally:
            reader.close()

    async def read_as(self, key: str, offset: int, length: int, made: Callable[[bytes], T]) -> T:
        """Return what `made` makes of `length` bytes of an object from `offset`, in one trip to a thread."""
        return await self._in_thread(lambda: made(self._read(key, offset, length)))

    async def remove(self, key: str) -> None:
        """Remove an object if it is there. A local file that a `file://` key refers to is not ours and stays."""
        if not key.startswith(FILE_SCHEME):
            await self._in_thread(partial(self._remove, self._path(key, KEY)))

    async def remove_all(self, prefix: str, *, but: str | None = None) -> None:
        """Remove every object of a job (prefix `chunks/<job>`) but the one with key `but`, unsealed ones too."""
        await self._in_thread(partial(self._remove_folder, self._path(prefix, PREFIX), but))

    async def listing(self) -> list[StoredObject]:
        """Return all objects, unsealed ones too."""
        return await self._in_thread(lambda: list(self._listing()))

    def statistics(self) -> StorageStatistics:
        """Return what was done since the start."""
        return StorageStatistics(
            objects_written=self._written,
            bytes_written=self._written_bytes,
            objects_removed=self._removed,
            threads_busy=self._limiter.borrowed_tokens,
        )

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)

    def _path(self, key: str, allowed: re.Pattern[str]) -> Path:
        if not allowed.fullmatch(key):
            raise StorageError(f"{key[:200]!r} is not the key of an object")
        return self._root / key

    def _open(self, key: str) -> LocalReader | PackedReader:
        source = Source.of_key(key) if key.startswith(FILE_SCHEME) else Source(self._path(key, KEY))
        opened = LocalReader(source)
        return PackedReader(opened) if source.size_bytes is None and key.endswith(PACKED) else opened

    def _read(self, key: str, offset: int, length: int) -> bytes:
        reader = self._open(key)
        try:
            return reader.read(offset, length)
        finally:
            reader.close()

    def _count_written(self, size: int) -> None:
        with self._lock:
            self._written += 1
            self._written_bytes += size

    def _remove(self, path: Path) -> None:
        try:
            with disk_errors(path.name):
                path.unlink()
        except SourceChanged:
            return  # it had gone already, which is all that was wanted
        with self._lock:
            self._removed += 1
        try:
            path.parent.rmdir()
        except OSError:
            pass  # the folder holds other objects of the job

    def _remove_folder(self, folder: Path, but: str | None) -> None:
        for path in _entries(folder):
            key = f"{CHUNKS}/{folder.name}/{path.name}"
            if key != but and KEY.fullmatch(key):
                self._remove(path)

    def _listing(self) -> Iterator[StoredObject]:
        for path in chain.from_iterable(map(_entries, _entries(self._root / CHUNKS))):
            key = path.relative_to(self._root).as_posix()
            if KEY.fullmatch(key) and (status := _status(path)):
                yield StoredObject(
                    key=key,
                    bytes=status.st_size,
                    age_s=max(0.0, time.time() - status.st_mtime),
                    temporary=key.endswith(TEMPORARY),
                )


# The only kind there is so far; whoever is given a storage names it so.
Storage = LocalStorage


def open_storage(settings: Settings) -> Storage:
    """Return the storage that STORAGE_URL names, `objects` in INGEST_HOME when it is unset, and make its folder.

    Raises SettingsError when the URL is of another kind or the folder cannot be written to.
    """
    root = settings.data_dir.absolute() / "objects" if settings.storage_url is None else _folder(settings.storage_url)
    try:
        make_folder(root)
    except OSError as error:
        raise SettingsError(f"the storage folder {root} cannot be made: {error.strerror}") from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise SettingsError(f"the storage folder {root} cannot be written to")
    return LocalStorage(root)


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        # Only the scheme is shown: another kind of URL may hold a password.
        raise SettingsError(f"STORAGE_URL={parts.scheme}:...: allowed is file:///absolute/path")
    return Path(unquote(parts.path))


def _entries(folder: Path) -> list[Path]:
    """Return what lies in a folder; nothing when it has gone meanwhile, or is a file. Raises StorageError."""
    if not folder.is_dir():
        return []
    try:
        with disk_errors(folder.name):
            return list(folder.iterdir())
    except SourceChanged:
        return []


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None  # removed, or sealed under its final name, since the folder was read
