"""Objects on the local disk, one at a time: written so that they appear whole or not at all, read in exact parts.

Everything here blocks on the disk and belongs into a worker thread; `ingest.storage` is the asynchronous side.
An object appears under its name only when all of it is on the disk: written under a temporary name, flushed, made
read-only, renamed, and its folder flushed. After an error in any of these the object is given up and never tried
again on the same file, because a failed fsync may have dropped the very pages it reports.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlsplit

from ingest.errors import SourceChanged, StorageError

TEMPORARY = ".partial"
FILE_SCHEME = "file://"

# No room: in the file system, in the quota, in the size that a file may have.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

# How often a folder is made again that the removal of its last object took away in the meantime.
FOLDER_TRIES = 3


class ObjectWriter:
    """An object that is being written. Any error discards it and raises StorageError (E_STORAGE_FULL without room)."""

    def __init__(self, path: Path, on_sealed: Callable[[int], None]) -> None:
        self.size = 0
        self._path = path
        self._on_sealed = on_sealed
        self._at: Path | None = path.with_name(path.name + TEMPORARY)  # where the bytes are; None once sealed or gone
        with disk_errors(path.name):
            self._fd = create_file(self._at)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`."""
        rest = memoryview(data)
        self.size += rest.nbytes
        with self._or_discard():
            while rest.nbytes:  # a disk that is nearly full takes a part, and says so only when asked again
                rest = rest[os.write(self._fd, rest) :]

    def seal(self) -> None:
        """Make the object appear under its key, durable and read-only."""
        with self._or_discard() as temporary:
            os.fchmod(self._fd, 0o440)
            os.fsync(self._fd)
            self._at = temporary.rename(self._path)
            flush_folder(self._path.parent)
            self._at = None
        os.close(self._fd)
        self._on_sealed(self.size)

    def discard(self) -> None:
        """Remove what was written; does nothing once sealed or discarded."""
        if self._at is not None:
            at, self._at = self._at, None
            os.close(self._fd)
            with disk_errors(self._path.name):
                at.unlink(missing_ok=True)

    @contextmanager
    def _or_discard(self) -> Iterator[Path]:
        if self._at is None:
            raise StorageError(f"{self._path.name} is sealed or discarded")
        try:
            with disk_errors(self._path.name):
                yield self._at
        except StorageError:
            self.discard()
            raise


@dataclass(frozen=True, slots=True)
class Source:
    """Where bytes lie on the disk, and what the file must look like while they are still the ones that were received.

    `size_bytes` and `mtime_ns` are None for our own objects, which nobody changes.
    """

    path: Path
    size_bytes: int | None = None
    mtime_ns: int | None = None

    @classmethod
    def of_file(cls, path: Path) -> Source:
        """Return a local file as it is now. Raises SourceChanged (E_SOURCE_MISSING) or StorageError."""
        with disk_errors(path.name):
            status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise StorageError(f"{path.name or path} is not a file that can be read in parts")
        return cls(path.resolve(), status.st_size, status.st_mtime_ns)

    @classmethod
    def of_key(cls, key: str) -> Source:
        """Read back what `key` wrote."""
        url = urlsplit(key)
        facts = parse_qs(url.query)
        return cls(Path(os.fsdecode(unquote_to_bytes(url.path))), int(facts["size"][0]), int(facts["mtime_ns"][0]))

    def key(self) -> str:
        """Return the object key of a local file that is read where it lies."""
        return f"{FILE_SCHEME}{quote(os.fsencode(self.path))}?size={self.size_bytes}&mtime_ns={self.mtime_ns}"

    def check(self, fd: int) -> None:
        """Raise SourceChanged when the open file is not the one that was received."""
        status = os.fstat(fd)
        if self.size_bytes is not None and (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            raise SourceChanged(f"{self.path.name} has changed since it was received")


class LocalReader:
    """An open source. Raises SourceChanged when it has gone or changed, StorageError when the disk fails."""

    def __init__(self, source: Source) -> None:
        self._source = source
        with disk_errors(source.path.name):
            self._fd = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            source.check(self._fd)
        except SourceChanged:
            self.close()
            raise

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly the bytes [offset, offset + length), as they were received."""
        with disk_errors(self._source.path.name):
            data = b"".join(self._parts(offset, length))
            self._source.check(self._fd)
        return data

    def read_some(self, offset: int, most_bytes: int) -> bytes:
        """Return bytes from `offset` on, as many as the disk gives at once; none at the end of the file."""
        with disk_errors(self._source.path.name):
            return os.pread(self._fd, most_bytes, offset)

    def close(self) -> None:
        """Close the file; no read may be under way."""
        os.close(self._fd)

    def _parts(self, offset: int, length: int) -> Iterator[bytes]:
        while length:
            part = os.pread(self._fd, length, offset)
            if not part:
                raise SourceChanged(f"{self._source.path.name} ends at byte {offset}, before its records do")
            yield part
            offset, length = offset + len(part), length - len(part)


@contextmanager
def disk_errors(name: str) -> Iterator[None]:
    """Raise an OSError about `name` as StorageError, or as SourceChanged (E_SOURCE_MISSING) when the file has gone."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceChanged(f"{name} is no longer there", code="E_SOURCE_MISSING") from error
    except OSError as error:
        code = "E_STORAGE_FULL" if error.errno in FULL else None
        raise StorageError(f"{name}: {error.strerror or error}", code=code) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, so that they outlast a power cut; what is there already stays as it is."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o750, exist_ok=True)
        flush_folder(path.parent)


def flush_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_file(path: Path, tries: int = FOLDER_TRIES) -> int:
    """Create a file that is not there yet, with its folder; return it open for writing. Raises OSError."""
    make_folder(path.parent)
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        if tries == 1:
            raise
        return create_file(path, tries - 1)
