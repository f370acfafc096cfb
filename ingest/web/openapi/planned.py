"""Codes and fields of the document that the service does not have yet; what comes must leave, the tests say so."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ingest.web.problems import Kind

PLANNED: Mapping[str, Kind] = MappingProxyType(
    {
        # keys
        "E_UNAUTHENTICATED": Kind(401, "An API key is needed"),
        "E_KEY": Kind(401, "The API key is not accepted"),
        "E_SCOPE": Kind(403, "The API key does not allow this"),
        "E_CROSS_SITE": Kind(403, "A page of another origin may not do this"),
        "E_HOST": Kind(421, "The service does not have this name"),
        "E_QUOTA": Kind(429, "The API key has used what it may use for now"),
        "E_THROTTLED": Kind(429, "Too many wrong API keys"),
        "E_HEADERS_TOO_LARGE": Kind(431, "The headers are larger than allowed"),
        "E_HTTP_VERSION": Kind(505, "This version of HTTP is not spoken here"),
        # live progress
        "E_ORIGIN": Kind(403, "Pages of other sites have no access"),
        "E_TOO_MANY_STREAMS": Kind(503, "Too many clients read along"),
        # control
        "E_CONFLICT": Kind(503, "The database is busy with what this is about"),
        # intake
        "E_DUPLICATE": Kind(409, "The file was loaded before"),
        "E_KEY_BUSY": Kind(409, "The request with this Idempotency-Key is being served"),
        "E_KEY_REUSED": Kind(409, "The Idempotency-Key was used for another request"),
        "E_DECOMPRESSED_LIMIT": Kind(413, "The file is larger than allowed when it is unpacked"),
        "E_DIGEST": Kind(422, "The bytes are not those of the digest"),
        "E_COMPRESSED": Kind(422, "The file cannot be unpacked"),
        # resumable uploads, and files that are loaded where they lie
        "E_TUS_HEADER": Kind(400, "A header of the tus protocol is wrong or missing"),
        "E_TUS_VERSION": Kind(412, "The version of the tus protocol is not supported"),
        "E_UPLOAD_LENGTH": Kind(400, "The length of the upload cannot be changed"),
        "E_UPLOAD_OFFSET": Kind(409, "The bytes do not follow those that are there"),
        "E_UPLOAD_TAKEN": Kind(409, "Another request has taken the upload over"),
        "E_UPLOAD_ENDED": Kind(410, "Nothing more is taken for the upload"),
        "E_UPLOAD_BUSY": Kind(423, "Another request does not let go of the upload"),
        "E_TOO_MANY_UPLOADS": Kind(429, "Too many uploads are open"),
        "E_CHECKSUM": Kind(460, "The bytes do not have the checksum that was announced"),
        "E_SOURCE": Kind(422, "The source cannot be loaded"),
        "E_SOURCE_FORBIDDEN": Kind(403, "The source is in no folder that may be loaded from"),
        "E_SOURCE_MISSING": Kind(404, "The source is not there"),
        "E_SOURCE_CHANGED": Kind(409, "The source has changed while it was read"),
        "E_TOO_MANY_SOURCES": Kind(429, "Too many sources are being read"),
    }
)

# Members of a job.
PLANNED_FIELDS = ("duplicate_of", "compression", "load", "owner")
