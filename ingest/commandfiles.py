"""The files that a person names on the command line: opened, or refused in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ingest.errors import StorageError


@contextmanager
def reading(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read. Raises StorageError (E_INPUT)."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", code="E_INPUT") from error
    with file:
        yield file


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to write anew, `-` for standard output. Raises StorageError (E_OUTPUT).

    There is a file afterwards also when nothing was written, so that no old one misleads.
    """
    if str(path) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        file = path.open("wb")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}", code="E_OUTPUT") from error
    with file:
        yield file
