"""The session of a browser as text: a random token, kept in a cookie.

It says nothing of the key that it was begun with; only its SHA-256 is stored, which finds it. As with keys, no slow
hash: 256 random bits cannot be guessed.
"""

from __future__ import annotations

import hashlib
import re
import secrets

# How long a session lasts; nothing prolongs it.
SESSION_S = 12 * 3600
TOKEN_BYTES = 32
TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


def new_token() -> str:
    """Return a token that nobody has."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest_of(token: str) -> bytes | None:
    """Return what is stored of a token; None for what is no token."""
    return hashlib.sha256(token.encode()).digest() if TOKEN.fullmatch(token) else None
