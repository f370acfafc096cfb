"""The encodings a file may be sent in, by the names that Python's codecs have for them. Pure."""

from __future__ import annotations

import codecs
from functools import lru_cache

from ingest.errors import RequestError

UTF_8 = "utf-8"
# By the names that codecs.lookup returns. A byte order mark decides where the name leaves the order open.
WIDE = frozenset({"utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"})
# Of several bytes a character, without states that outlive it.
EAST_ASIAN = frozenset(
    {"gbk", "gb2312", "gb18030", "big5", "big5hkscs", "cp932", "cp949", "cp950", "shift_jis", "euc_jp", "euc_kr"}
)
# Codecs that read a byte as a character, but are no encodings of files.
NO_ENCODINGS = frozenset({"unicode-escape", "raw-unicode-escape", "charmap"})
ALL_BYTES = bytes(range(256))


@lru_cache(maxsize=64)
def canonical_name(name: str) -> str:
    """Return the one name of an encoding. Raises RequestError (E_OPTION) for one that files cannot be read in."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError) as error:
        raise _unknown(name) from error
    if info.name in ("utf-8", "utf-8-sig", "ascii"):
        return UTF_8  # what is ASCII is UTF-8, and what claims to be may well be more
    if info.name in WIDE:
        return info.name
    if info.name in EAST_ASIAN or (info.name not in NO_ENCODINGS and is_single_byte(info.name)):
        return info.name
    raise _unknown(name)


@lru_cache(maxsize=64)
def is_single_byte(name: str) -> bool:
    """Tell whether each byte is a character, or none at all."""
    try:
        text = ALL_BYTES.decode(name, "replace")
        return len(text) == len(ALL_BYTES) and len({*text} - {"\ufffd"}) > len(ALL_BYTES) // 2
    except (UnicodeError, LookupError):
        return False


def _unknown(name: str) -> RequestError:
    text = f"encoding {name[:50]!r} is not known; utf-8, utf-16, windows-1252 and latin-1 are, and all of their kind"
    return RequestError(text, code="E_OPTION", option="encoding")
