"""The files of the page, read once from the package: what a browser is sent, byte for byte."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "web" / "page"
# What else lies in the folder is not served.
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file and its media type; `packed` is the body as gzip makes it."""

    media_type: str
    body: bytes
    packed: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """Return the files by name; later changes of them are not seen."""
    paths = (path for path in FOLDER.iterdir() if path.suffix in MEDIA_TYPES)
    return {path.name: _asset(path) for path in paths}


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    return Asset(MEDIA_TYPES[path.suffix], body, gzip.compress(body, mtime=0))
