"""A spool: the one file that the bytes of a resumable upload are written to, whatever requests bring them.

Everything here blocks on the disk and belongs into a worker thread. Whoever writes holds the file's lock, which the
system takes back when the process dies, so a second request can tell a dead holder from one that is still writing.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ingest.errors import SourceChanged, StorageError
from ingest.objects import create_file, disk_errors, flush_folder

# What errors call it: its file name says nothing to a client.
NAME = "the upload's file"


def make_spool(path: Path) -> None:
    """Make an empty spool that outlasts a power cut. Raises StorageError when there is one, or no room."""
    with disk_errors(NAME):
        fd = create_file(path)
        try:
            os.fchmod(fd, 0o640)  # a worker of another account may read it as soon as the upload is complete
        finally:
            os.close(fd)
        flush_folder(path.parent)


class Spool:
    """An open spool. Raises SourceChanged (E_SOURCE_MISSING) when it has gone, StorageError when the disk fails."""

    def __init__(self, path: Path) -> None:
        with disk_errors(NAME):
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def lock(self) -> bool:
        """Take the lock unless somebody else has it; it is given back by `close`, or by the end of the process."""
        with disk_errors(NAME):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    def write(self, data: bytes | bytearray, offset: int) -> None:
        """Write `data` at `offset`; durable after `flush`."""
        rest = memoryview(data)
        with disk_errors(NAME):
            while rest.nbytes:  # a disk that is nearly full takes a part, and says so only when asked again
                written = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[written:], offset + written

    def flush(self) -> None:
        """Return when all that was written is on the disk.

        After an error the pages may be lost: nothing written since the last flush counts, and is to be written again.
        """
        with disk_errors(NAME):
            os.fsync(self._fd)

    def seal(self, length: int) -> None:
        """Cut off what a request wrote beyond `length` without being acknowledged; durable."""
        with disk_errors(NAME):
            os.ftruncate(self._fd, length)
            os.fsync(self._fd)

    def protect(self) -> None:
        """Make the file read-only; nobody can open it as a spool any more."""
        with disk_errors(NAME):
            os.fchmod(self._fd, 0o440)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly `length` bytes from `offset`."""
        with disk_errors(NAME):
            data = os.pread(self._fd, length, offset)
        if len(data) != length:
            raise SourceChanged(f"{NAME} holds fewer bytes than were received")
        return data

    def close(self) -> None:
        """Close the file and give the lock back."""
        try:
            os.close(self._fd)
        except OSError as error:
            raise StorageError(f"{NAME}: {error.strerror}") from error
