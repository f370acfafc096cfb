"""Codes of the document that the table of problems does not have yet."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ingest.web.problems import Kind

PLANNED: Mapping[str, Kind] = MappingProxyType(
    {
        "E_HOST": Kind(421, "The request names another host"),
        "E_CROSS_SITE": Kind(403, "A page of another site may not do this"),
        "E_ORIGIN": Kind(403, "A page of another site may not read along"),
        "E_UNAUTHENTICATED": Kind(401, "A key is needed"),
        "E_KEY": Kind(401, "The key is not valid"),
        "E_SCOPE": Kind(403, "The key is not for this"),
        "E_THROTTLED": Kind(429, "Too many wrong keys came from there"),
        "E_QUOTA": Kind(429, "The key's quota is used up"),
        "E_TOO_MANY_STREAMS": Kind(503, "Too many clients read along"),
        "E_CONFLICT": Kind(503, "The database is busy with what this is about"),
        "E_DIGEST": Kind(422, "The bytes do not have the digest that was sent"),
        "E_DUPLICATE": Kind(409, "The file was loaded into this dataset before"),
        "E_IDEMPOTENCY": Kind(409, "The Idempotency-Key was used for another request"),
        "E_COMPRESSED": Kind(422, "The compressed bytes cannot be read"),
        "E_DECOMPRESSED_LIMIT": Kind(413, "The file is too large once it is decompressed"),
        "E_OFFSET": Kind(409, "The upload is at another offset"),
        "E_CHECKSUM": Kind(460, "The bytes do not have the checksum that was sent"),
        "E_TUS_VERSION": Kind(412, "This version of tus is not spoken here"),
        "E_SOURCE": Kind(403, "The source may not be read"),
    }
)
