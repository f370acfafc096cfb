"""The keys of objects: `chunks/<job>/<ordinal>`, ordinal 0 being the spool of a resumable upload."""

from __future__ import annotations

import re
from uuid import UUID

from ingest.objects import TEMPORARY
from ingest.packing import PACKED

CHUNKS = "chunks"
# Whatever else lies in the folder is not ours: it is neither listed nor removed.
KEY = re.compile(rf"{CHUNKS}/[0-9A-Za-z-]+/[0-9]+({re.escape(PACKED)})?({re.escape(TEMPORARY)})?")
SPOOL = re.compile(rf"{CHUNKS}/[0-9A-Za-z-]+/0+")
PREFIX = re.compile(rf"{CHUNKS}/[0-9A-Za-z-]+")


def chunk_prefix(job_id: UUID) -> str:
    """Return the prefix of a job's objects."""
    return f"{CHUNKS}/{job_id}"


def chunk_key(job_id: UUID, ordinal: int, *, packed: bool = False) -> str:
    """Return the key of a job's chunk, `packed` if it is to be stored compressed."""
    return f"{chunk_prefix(job_id)}/{ordinal:06d}{PACKED if packed else ''}"


def spool_key(job_id: UUID) -> str:
    """Return the key of the object that all chunks of a resumable upload lie in."""
    return chunk_key(job_id, 0)


def is_spool(key: str) -> bool:
    """Say whether an object may hold several chunks, and so is needed as long as their job is."""
    return SPOOL.fullmatch(key) is not None
