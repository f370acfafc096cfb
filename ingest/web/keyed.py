"""Requests with an `Idempotency-Key`: served once, answered as often as they are sent.

The header is that of draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import trio

from ingest.errors import IngestError, RequestError
from ingest.idempotency import Repetition, RequestKey, RequestKeys, key_reused
from ingest.job import RequestPart
from ingest.receiving import UploadOptions
from ingest.web.answers import Answer

FIELD = "Idempotency-Key"

# A string as RFC 9651 writes it, or the bare word that most clients send.
QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')
BARE = re.compile(r"[!#-~]+")
MAX_KEY_CHARS = 255

# How long it may take to let a key go; one that is not is taken for dead soon after.
CLEANUP_S = 5.0


def key_from(values: Sequence[bytes]) -> str | None:
    """Return the key that the header fields of this name hold, None without one. Raises RequestError (400)."""
    if not values:
        return None
    text = values[0].decode("latin-1").strip(" \t")
    quoted = QUOTED.fullmatch(text)
    key = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else text
    if len(values) > 1 or not (quoted or BARE.fullmatch(text)) or len(key) > MAX_KEY_CHARS:
        text = f"{FIELD} must be given once, as 1 to {MAX_KEY_CHARS} visible ASCII characters"
        raise RequestError(text, code="E_OPTION", option=FIELD)
    return key


class KeyedRequest:
    """The files of one request, counted, and what each has become before. `about`: method and path."""

    def __init__(self, keys: RequestKeys, key: RequestKey | None, about: Sequence[str]) -> None:
        self.files = 0
        self._keys = keys
        self._key = key
        self._about = about
        self._repeated = 0

    @property
    def status(self) -> int:
        """200 when all files were there before, else 202."""
        return 200 if self._repeated == self.files > 0 else 202

    async def next_file(
        self, options: UploadOptions, values: Mapping[str, str]
    ) -> tuple[UploadOptions, Repetition | None]:
        """Return how to receive the next file, or what to compare it with.

        Raises RequestError (E_KEY_REUSED) when the key stands for a request with other files or other options.
        """
        self.files += 1
        if self._key is None:
            return options, None
        if self._key.parts is not None and self.files > self._key.parts:
            raise key_reused(f"it had {self._key.parts} files")
        fingerprint = self._fingerprint(options, values)
        earlier = await self._keys.earlier(self._key, self.files)
        if earlier is None:
            part = RequestPart(key_id=self._key.id, number=self.files, fingerprint=fingerprint)
            return replace(options, part=part), None
        if earlier.fingerprint != fingerprint:
            raise key_reused("its path, its options or a file's name were different")
        self._repeated += 1
        return options, self._keys.repetition(earlier, options.digests)

    def check_end(self) -> None:
        """Raise RequestError (E_KEY_REUSED) when the request had more files before."""
        if self._key is not None and self.files < (self._key.parts or 0):
            raise key_reused(f"it had {self._key.parts} files")

    def _fingerprint(self, options: UploadOptions, values: Mapping[str, str]) -> bytes:
        asked = [*self._about, options.filename, options.compression, sorted(values.items())]
        return hashlib.sha256(json.dumps(asked).encode()).digest()


async def serve(
    keys: RequestKeys,
    owner: str | None,
    key: str | None,
    about: Sequence[str],
    work: Callable[[KeyedRequest], Awaitable[Answer]],
) -> Answer:
    """Do the `work` of a request while its key is held; without a key, just do it.

    Raises RequestError (E_KEY_BUSY, E_KEY_REUSED) and what the work raises. Cancelled, the key is let go.
    """
    if key is None:
        return await work(KeyedRequest(keys, None, about))
    held = await keys.begin(owner, key)
    request, files = KeyedRequest(keys, held, about), None
    try:
        answer = await _renewing(keys, held, lambda: work(request))
        files = request.files
        return answer
    finally:
        with trio.move_on_after(CLEANUP_S, shield=True):
            await keys.end(held, files)


async def _renewing(keys: RequestKeys, key: RequestKey, work: Callable[[], Awaitable[Answer]]) -> Answer:
    answer: Answer | IngestError
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.renew, key)
        try:
            answer = await work()
        except IngestError as error:  # past the nursery, which would wrap it
            answer = error
        nursery.cancel_scope.cancel(reason="served")
    if isinstance(answer, IngestError):
        raise answer
    return answer
