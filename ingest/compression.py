"""How files are compressed, and how that is told: by Content-Encoding, by the name, by the first bytes. Pure values."""

from __future__ import annotations

import re
from enum import StrEnum

from ingest.errors import RequestError

# Bytes that tell every kind apart.
MAGIC_BYTES = 10


class Compression(StrEnum):
    """How a file is compressed; the CHECK constraint on ingest.jobs holds the same words."""

    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"


SUFFIXES = {
    ".gz": Compression.GZIP,
    ".gzip": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
    ".bz2": Compression.BZIP2,
}

# The names in Content-Encoding; bzip2 has none that is registered.
CODINGS = {
    "": None,
    "identity": None,
    "gzip": Compression.GZIP,
    "x-gzip": Compression.GZIP,
    "zstd": Compression.ZSTD,
    "bzip2": Compression.BZIP2,
    "x-bzip2": Compression.BZIP2,
}

MAGIC = (
    (re.compile(rb"\x1f\x8b\x08"), Compression.GZIP),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), Compression.ZSTD),
    (re.compile(rb"BZh[1-9](?:\x31\x41\x59\x26\x53\x59|\x17\x72\x45\x38\x50\x90)"), Compression.BZIP2),
)


def compression_of_coding(coding: str) -> Compression | None:
    """Return what a Content-Encoding stands for. Raises RequestError (415) for one that is not understood."""
    try:
        return CODINGS[coding.strip().lower()]
    except KeyError:
        text = f"Content-Encoding {coding[:50]!r} is not understood; gzip, zstd and bzip2 are, one of them"
        raise RequestError(text, code="E_MEDIA_TYPE", accepted=["gzip", "zstd", "bzip2"]) from None


def compression_of_name(filename: str) -> Compression | None:
    """Return how a file of this name is compressed, by its ending."""
    return next((kind for suffix, kind in SUFFIXES.items() if filename.lower().endswith(suffix)), None)


def compression_of_bytes(start: bytes) -> Compression | None:
    """Return how a file with these first MAGIC_BYTES is compressed."""
    return next((kind for magic, kind in MAGIC if magic.match(start)), None)
