"""The headers of the tus protocol, read and written. Pure: text in, values out."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime

from ingest.errors import RequestError

VERSION = "1.0.0"
# What every answer carries.
OWN = (("Tus-Resumable", VERSION),)
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration"
ALGORITHMS = ("sha1", "sha256")
MEDIA_TYPE = b"application/offset+octet-stream"

# What browsers' clients say about the file of their own accord; none of it is an option.
ABOUT_THE_FILE = frozenset({"filename", "filetype", "name", "type", "relativePath"})

WHOLE = re.compile(rb"[0-9]{1,18}", re.ASCII)
KEY = re.compile(r"[!-+\--~]+", re.ASCII)  # printable, without blank and comma

Fields = Mapping[bytes, bytes]


def check_version(fields: Fields) -> None:
    """Raise RequestError (E_TUS_VERSION) unless the client speaks the version that we do."""
    if fields.get(b"tus-resumable") != VERSION.encode():
        raise RequestError(f"the header Tus-Resumable must be {VERSION}", code="E_TUS_VERSION")


def offset(fields: Fields) -> int:
    """Return Upload-Offset. Raises RequestError (E_TUS_HEADER)."""
    found = _whole(fields, b"upload-offset")
    if found is None:
        raise _wrong("Upload-Offset is missing")
    return found


def length(fields: Fields) -> int | None:
    """Return Upload-Length, or None when it is not given. Raises RequestError (E_TUS_HEADER)."""
    return _whole(fields, b"upload-length")


def new_length(fields: Fields) -> int | None:
    """Return the length of a new upload, None when the client defers it. Raises RequestError (E_TUS_HEADER)."""
    found, deferred = length(fields), fields.get(b"upload-defer-length")
    if deferred not in (None, b"1"):
        raise _wrong("Upload-Defer-Length must be 1")
    if (found is None) == (deferred is None):
        raise _wrong("either Upload-Length or Upload-Defer-Length: 1 must be given")
    return found


def metadata(fields: Fields) -> dict[str, str]:
    """Return Upload-Metadata by key. Raises RequestError (E_TUS_HEADER) when it is malformed or repeats a key."""
    text = fields.get(b"upload-metadata", b"").decode("latin-1").strip()
    values: dict[str, str] = {}
    for pair in text.split(",") if text else ():
        key, _, value = pair.strip().partition(" ")
        if not KEY.fullmatch(key) or key in values:
            raise _wrong(f"Upload-Metadata has a key twice, or one that is none: {key[:50]!r}")
        values[key] = _decoded(key, value)
    return values


def split_metadata(values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name of the file, and the request options."""
    options = {key: value for key, value in values.items() if key not in ABOUT_THE_FILE}
    return values.get("filename") or values.get("name", ""), options


class Checksum:
    """What the bytes of one request must add up to."""

    def __init__(self, algorithm: str, expected: bytes) -> None:
        self._digest = hashlib.new(algorithm, usedforsecurity=False)
        self._expected = expected
        if len(expected) != self._digest.digest_size:
            raise _wrong(f"Upload-Checksum is no {algorithm}")

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)

    def verify(self) -> None:
        """Raise RequestError (E_CHECKSUM) unless the bytes were those announced."""
        if not hmac.compare_digest(self._digest.digest(), self._expected):
            raise RequestError(
                f"the bytes of this request do not have the {self._digest.name} that Upload-Checksum announced; "
                "they were dropped",
                code="E_CHECKSUM",
            )


def checksum(fields: Fields) -> Checksum | None:
    """Return the checksum that was announced, if there is one. Raises RequestError (E_TUS_HEADER)."""
    text = fields.get(b"upload-checksum")
    if text is None:
        return None
    algorithm, _, value = text.decode("latin-1").partition(" ")
    if algorithm not in ALGORITHMS:
        raise _wrong(f"Upload-Checksum: the algorithm must be {' or '.join(ALGORITHMS)}")
    return Checksum(algorithm, _base64("Upload-Checksum", value))


def http_date(moment: datetime) -> str:
    """Return a time as HTTP writes it, in whole seconds."""
    return format_datetime(moment.astimezone(UTC), usegmt=True)


def _whole(fields: Fields, name: bytes) -> int | None:
    text = fields.get(name)
    if text is None:
        return None
    if not WHOLE.fullmatch(text):
        raise _wrong(f"{name.decode().title()} must be a whole number, 0 or more")
    return int(text)


def _decoded(key: str, value: str) -> str:
    try:
        return _base64(f"Upload-Metadata, {key[:50]}", value).decode()
    except UnicodeDecodeError as error:
        raise _wrong(f"Upload-Metadata, {key[:50]}: the value must be UTF-8") from error


def _base64(what: str, value: str) -> bytes:
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise _wrong(f"{what}: the value must be base64") from error


def _wrong(text: str) -> RequestError:
    return RequestError(text, code="E_TUS_HEADER")
