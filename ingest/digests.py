"""Digests that a client sends with a file, `Repr-Digest` and `Content-Digest` (RFC 9530), and their check. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.errors import RequestError
from ingest.splitter import Block

# The algorithms that RFC 9530 calls active, and the length of their digests; the others are ignored, as it says.
ALGORITHMS = {"sha-256": 32, "sha-512": 64}

# A member of a dictionary of byte sequences (RFC 9651): key=:base64: with parameters, which mean nothing here.
KEY = r"[a-z*][a-z0-9_.*-]*"
BARE = r'(?:"(?:[ !#-\[\]-~]|\\["\\])*"|:[A-Za-z0-9+/=]*:|\?[01]|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|[A-Za-z*][!-+\--:<-~]*)'
MEMBER = re.compile(rf"({KEY})=:([A-Za-z0-9+/=]*):(?:; *{KEY}(?:={BARE})?)*")
BETWEEN = re.compile(r"[ \t]*,[ \t]*")

# No client sends more; a longer field is not worth reading.
MAX_FIELD_CHARS = 4096


@dataclass(frozen=True, slots=True)
class Digest:
    """What the bytes of a file should hash to; `field` is where the client said so."""

    field: str
    algorithm: str
    value: bytes


def digests_from(field: str, value: str) -> tuple[Digest, ...]:
    """Return the digests in a field's value that can be checked.

    Raises RequestError (400) when it is not a dictionary of byte sequences, or a digest has not its algorithm's length.
    """
    value = value.strip(" ")
    if not value or len(value) > MAX_FIELD_CHARS:
        raise _malformed(field)
    found, at = {}, 0
    while member := MEMBER.match(value, at):
        found[member[1]] = _bytes(field, member[2])  # of a repeated key the last one holds
        if member.end() == len(value):
            return tuple(_known(field, found))
        between = BETWEEN.match(value, member.end())
        if between is None:
            break
        at = between.end()
    raise _malformed(field)


class Hashes:
    """The hashes of a file's bytes: always SHA-256, and what the client's digests need."""

    def __init__(self, digests: Sequence[Digest] = ()) -> None:
        names = {"sha-256", *(digest.algorithm for digest in digests)}
        self._digests = digests
        self._hashes = {name: hashlib.new(name.replace("-", "")) for name in sorted(names)}

    def update(self, *blocks: Block) -> None:
        """Take the next bytes."""
        for block in blocks:
            for running in self._hashes.values():
                running.update(block)

    @property
    def sha256(self) -> bytes:
        """The SHA-256 so far."""
        return self._hashes["sha-256"].digest()

    def check(self) -> None:
        """Raise RequestError (422) when the bytes are not those that the client has hashed."""
        for digest in self._digests:
            if not hmac.compare_digest(self._hashes[digest.algorithm].digest(), digest.value):
                text = f"the bytes that came do not have the {digest.algorithm} that {digest.field} says"
                raise RequestError(text, code="E_DIGEST", algorithm=digest.algorithm, field=digest.field)


def _known(field: str, found: dict[str, bytes]) -> list[Digest]:
    for name, length_bytes in ALGORITHMS.items():
        if name in found and len(found[name]) != length_bytes:
            raise _malformed(field)
    return [Digest(field, name, value) for name, value in found.items() if name in ALGORITHMS]


def _bytes(field: str, text: str) -> bytes:
    try:
        # Padding may be left out (RFC 9651, 4.2.7).
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise _malformed(field) from error


def _malformed(field: str) -> RequestError:
    text = f"{field} must be like sha-256=:<base64 of the digest>: (RFC 9530)"
    return RequestError(text, code="E_OPTION", option=field)
