"""API keys as text: `ing_<prefix>_<secret>`. The prefix finds the key, the secret proves it; only its hash is stored.

SHA-256 and no slow hash: a secret of 256 random bits cannot be guessed however fast the guesses are tried.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

PREFIX_BYTES, SECRET_BYTES = 6, 32
KEY = re.compile(r"ing_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its holder has it."""

    prefix: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """What the holder sends."""
        return f"ing_{self.prefix}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the secret: all that is stored of it."""
        return hashlib.sha256(self.secret.encode()).digest()

    def proves(self, digest: bytes) -> bool:
        """Whether this secret has that hash; takes the same time for every wrong one."""
        return secrets.compare_digest(self.digest, digest)


def new_key() -> ApiKey:
    """Return a key that nobody has."""
    return ApiKey(secrets.token_hex(PREFIX_BYTES), secrets.token_urlsafe(SECRET_BYTES))


def read_key(text: str) -> ApiKey | None:
    """Return the key that a text is, or None."""
    found = KEY.fullmatch(text)
    return ApiKey(found[1], found[2]) if found else None
