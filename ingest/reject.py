"""A reject: a record that could not be loaded, and why. A pure value."""

from __future__ import annotations

from typing import NamedTuple

# The part of a value or a record that is kept for a person to look at; a longer one is cut and marked.
MAX_VALUE_CHARS = 1024
MAX_RAW_BYTES = 4096


class Reject(NamedTuple):
    """One reason why one record was not loaded. `line` is its first physical line in the file, from 1.

    `byte_offset` counts from the start of the file. `raw` is the record as it was sent, without its line end,
    at most MAX_RAW_BYTES of it; `truncated` says that value or raw were cut. A tuple, because it is made in a fifth of
    the time of a frozen dataclass, and bad files make many.
    """

    line: int
    byte_offset: int
    column: str | None
    value: str | None
    code: str
    sqlstate: str | None
    message: str
    raw: bytes
    truncated: bool = False
