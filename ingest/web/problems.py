"""Errors as RFC 9457 problem objects, and the table of every code a client can meet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from ingest.errors import DatabaseError, FileError, IngestError, RequestError, StorageError

# What a client is told to wait before it asks again: a restart of PostgreSQL or of the service takes a few seconds.
RETRY_AFTER_S = 5

# Codes of other statuses that waiting may cure.
WAITING_HELPS = frozenset({"E_KEY_BUSY"})
# The page that explains every code.
PROBLEMS_PATH = "/docs/problems"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a code means: the HTTP status it is answered with and its title, the same words for every occurrence."""

    status: int
    title: str


# Every code that can reach a client over HTTP, grouped by who can do something about it. Codes are never renamed.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # the request
        "E_REQUEST": Kind(400, "The request cannot be served"),
        "E_OPTION": Kind(400, "A request option is wrong or missing"),
        "E_OPTION_UNSUPPORTED": Kind(400, "A request option is not supported in this version"),
        "E_FILENAME": Kind(400, "The upload has no file name"),
        "E_MULTIPART": Kind(400, "The form is malformed"),
        "E_UPLOAD_INCOMPLETE": Kind(400, "The upload ended before it was complete"),
        "E_UNAUTHENTICATED": Kind(401, "An API key is needed"),
        "E_KEY": Kind(401, "The API key is not accepted"),
        "E_SCOPE": Kind(403, "The API key does not allow this"),
        "E_CROSS_SITE": Kind(403, "A page of another origin may not do this"),
        "E_DATASET_FORBIDDEN": Kind(403, "Tables of this schema are not datasets here"),
        "E_NOT_FOUND": Kind(404, "There is nothing here"),
        "E_DATASET_UNKNOWN": Kind(404, "There is no such dataset"),
        "E_DATASET_TABLE": Kind(409, "The tables of the dataset cannot take its rows"),
        "E_METHOD": Kind(405, "The method is not allowed here"),
        "E_STATE": Kind(409, "The job is not in a state for this"),
        "E_CONFLICT": Kind(503, "The database is busy with what this is about"),
        "E_UPLOAD_GONE": Kind(409, "The upload is no longer wanted"),
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
        "E_DUPLICATE": Kind(409, "The file was loaded before"),
        "E_KEY_BUSY": Kind(409, "The request with this Idempotency-Key is being served"),
        "E_KEY_REUSED": Kind(409, "The Idempotency-Key was used for another request"),
        "E_TIMEOUT": Kind(408, "The client sent nothing for too long"),
        "E_TOO_LARGE": Kind(413, "The body is larger than allowed"),
        "E_DECOMPRESSED_LIMIT": Kind(413, "The file is larger than allowed when it is unpacked"),
        "E_MEDIA_TYPE": Kind(415, "The body has a form that is not accepted here"),
        "E_HOST": Kind(421, "The service does not have this name"),
        "E_QUOTA": Kind(429, "The API key has used what it may use for now"),
        "E_THROTTLED": Kind(429, "Too many wrong API keys"),
        "E_HEADERS_TOO_LARGE": Kind(431, "The headers are larger than allowed"),
        "E_PARENT": Kind(422, "The file cannot correct that job"),
        "E_DIGEST": Kind(422, "The bytes are not those of the digest"),
        # the file
        "E_FILE": Kind(422, "The file cannot be loaded"),
        "E_EMPTY": Kind(422, "The file is empty"),
        "E_NOT_CSV": Kind(422, "The file is not a CSV file"),
        "E_COMPRESSED": Kind(422, "The file cannot be unpacked"),
        "E_ENCODING": Kind(422, "The encoding of the file is not what it should be"),
        "E_ENCODING_SUSPECT": Kind(422, "The file is not UTF-8"),
        "E_LINE_END": Kind(422, "The line ends are not understood"),
        "E_HEADER": Kind(422, "The header cannot be read"),
        "E_HEADER_EMPTY": Kind(422, "The header has a column without a name"),
        "E_TOO_MANY_COLUMNS": Kind(422, "The file has more columns than a table can have"),
        "E_HEADER_MISMATCH": Kind(422, "The header does not fit the dataset"),
        "E_DATASET_UNSURE": Kind(422, "The header does not tell which dataset it belongs to"),
        "E_DIALECT_AMBIGUOUS": Kind(422, "The file can be read in several ways"),
        "E_QUOTE_OPEN": Kind(422, "A quote is never closed"),
        "E_RECORD_TOO_LARGE": Kind(422, "A record is longer than allowed"),
        # the service and what it stands on
        "E_INTERNAL": Kind(500, "The service made a mistake"),
        "E_DATABASE": Kind(500, "The database refused a statement"),
        "E_DATABASE_REFUSED": Kind(500, "The database refused a statement"),
        "E_STORAGE": Kind(503, "The storage cannot be used at the moment"),
        "E_DATABASE_UNAVAILABLE": Kind(503, "The database cannot be reached at the moment"),
        "E_HTTP_VERSION": Kind(505, "This version of HTTP is not spoken here"),
        "E_DRAINING": Kind(503, "The service is stopping"),
        "E_TOO_MANY_STREAMS": Kind(503, "Too many clients read along"),
        "E_STORAGE_FULL": Kind(507, "The storage is full"),
    }
)

# For a code that is not in the table: the party at fault still decides the status.
FALLBACKS: tuple[tuple[type[IngestError], str], ...] = (
    (FileError, "E_FILE"),
    (RequestError, "E_REQUEST"),
    (StorageError, "E_STORAGE"),
    (DatabaseError, "E_DATABASE"),
)

# The codes of what HTTP itself refuses, by status.
HTTP_CODES = {
    404: "E_NOT_FOUND",
    405: "E_METHOD",
    408: "E_TIMEOUT",
    413: "E_TOO_LARGE",
    415: "E_MEDIA_TYPE",
    431: "E_HEADERS_TOO_LARGE",
    501: "E_REQUEST",  # a transfer coding that nobody knows
    505: "E_HTTP_VERSION",
}


# What a WWW-Authenticate header says beside the scheme (RFC 6750).
CHALLENGES = {
    "E_UNAUTHENTICATED": "",
    "E_KEY": ', error="invalid_token"',
    "E_SCOPE": ', error="insufficient_scope"',
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem ready to be sent: the status, the object, and the headers that go with it."""

    status: int
    body: dict[str, Any]
    headers: tuple[tuple[str, str], ...] = ()


def kind_of(error: IngestError) -> Kind:
    """Return the kind of an error, by its code or else by its class."""
    if error.code in KINDS:
        return KINDS[error.code]
    return KINDS[next((code for base, code in FALLBACKS if isinstance(error, base)), "E_INTERNAL")]


def problem(error: IngestError) -> Problem:
    """Return the problem object of an error; its facts become further members and can replace none of RFC 9457's."""
    kind = kind_of(error)
    return Problem(kind.status, {**error.facts, **_members(error.code, kind, error.detail)}, _headers(error, kind))


def _headers(error: IngestError, kind: Kind) -> tuple[tuple[str, str], ...]:
    """Return what the error says in headers too: when to ask again, with which key, or with which method."""
    facts = error.facts
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE or error.code in WAITING_HELPS or "retry_after_s" in facts:
        return (("Retry-After", str(facts.get("retry_after_s", RETRY_AFTER_S))),)
    if error.code in CHALLENGES:
        scopes = facts.get("scopes")
        wanted = f', scope="{" ".join(scopes)}"' if isinstance(scopes, list) else ""
        return (("WWW-Authenticate", f'Bearer realm="ingest"{CHALLENGES[error.code]}{wanted}'),)
    allow = facts.get("allow")
    return (("Allow", ", ".join(allow)),) if isinstance(allow, list) else ()


def internal_problem() -> Problem:
    """Return the problem for an error nobody expected: the log has the traceback, the client learns only that."""
    return problem(IngestError("the request failed inside the service; its log says why"))


def http_problem(status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> Problem:
    """Return the problem for an HTTP error that the routing found (no such path, method not allowed)."""
    code = HTTP_CODES.get(status, "E_REQUEST" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "E_INTERNAL")
    return Problem(status, _members(code, Kind(status, KINDS[code].title), detail), headers)


def problem_type(code: str) -> str:
    """Return the `type` of a problem: the place where its code is explained, on whichever server it came from."""
    return f"{PROBLEMS_PATH}#{code}"


def _members(code: str, kind: Kind, detail: str) -> dict[str, Any]:
    return {
        "type": problem_type(code),
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": code,
    }
