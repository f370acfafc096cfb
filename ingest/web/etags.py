"""Validators of JSON answers: a client that has the answer already is told so, instead of getting it again."""

from __future__ import annotations

from hashlib import blake2b

from ingest.web.answers import Answer

# A client may keep the answer, but asks each time whether it still holds.
KEPT = ("Cache-Control", "private, no-cache")


def revalidated(answer: Answer, method: str, if_none_match: str | None) -> Answer:
    """Return the answer to a read with its ETag, or 304 without a body when the client has it already."""
    if method not in ("GET", "HEAD") or answer.status != 200:
        return answer
    etag = f'"{blake2b(answer.body, digest_size=12).hexdigest()}"'
    headers = (("ETag", etag), KEPT)
    if if_none_match is not None and _matches(etag, if_none_match):
        return Answer(304, headers, b"")
    return Answer(200, answer.headers + headers, answer.body)


def _matches(etag: str, if_none_match: str) -> bool:
    """Compare weakly, as RFC 9110 (13.1.2) says: proxies that compress mark the tag as weak."""
    tags = (tag.strip().removeprefix("W/") for tag in if_none_match.split(","))
    return if_none_match.strip() == "*" or etag in tags
