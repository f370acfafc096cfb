"""A request of the tus protocol, taken apart."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.caller import Caller
from ingest.web.body import Body


@dataclass(frozen=True, slots=True)
class Request:
    """One request: its method, the last part of its path ("" for `/files` itself), query, fields, body and caller."""

    method: str
    name: str
    query: bytes
    fields: dict[bytes, bytes]
    body: Body
    caller: Caller

    @property
    def content_length(self) -> int | None:
        """The length of the body, when it was announced."""
        text = self.fields.get(b"content-length")
        return None if text is None else int(text)

    @property
    def brings_bytes(self) -> bool:
        """Whether the body is, or says that it is, bytes of the file."""
        return bool(self.content_length) or b"transfer-encoding" in self.fields
