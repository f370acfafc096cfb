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
        "E_DATASET_FORBIDDEN": Kind(403, "Tables of this schema are not datasets here"),
        "E_NOT_FOUND": Kind(404, "There is nothing here"),
        "E_DATASET_UNKNOWN": Kind(404, "There is no such dataset"),
        "E_DATASET_TABLE": Kind(409, "The tables of the dataset cannot take its rows"),
        "E_METHOD": Kind(405, "The method is not allowed here"),
        "E_STATE": Kind(409, "The job is not in a state for this"),
        "E_UPLOAD_GONE": Kind(409, "The upload is no longer wanted"),
        "E_TIMEOUT": Kind(408, "The client sent nothing for too long"),
        "E_TOO_LARGE": Kind(413, "The body is larger than allowed"),
        "E_MEDIA_TYPE": Kind(415, "The body has a form that is not accepted here"),
        "E_PARENT": Kind(422, "The file cannot correct that job"),
        # the file
        "E_FILE": Kind(422, "The file cannot be loaded"),
        "E_EMPTY": Kind(422, "The file is empty"),
        "E_NOT_CSV": Kind(422, "The file is not a CSV file"),
        "E_ENCODING": Kind(422, "The file is not UTF-8"),
        "E_ENCODING_SUSPECT": Kind(422, "The file is not UTF-8"),
        "E_LINE_END": Kind(422, "The line ends are not understood"),
        "E_HEADER": Kind(422, "The header cannot be read"),
        "E_HEADER_EMPTY": Kind(422, "The header has a column without a name"),
        "E_TOO_MANY_COLUMNS": Kind(422, "The file has more columns than a table can have"),
        "E_HEADER_MISMATCH": Kind(422, "The header does not fit the dataset"),
        "E_DATASET_UNSURE": Kind(422, "The header does not tell which dataset it belongs to"),
        "E_QUOTE_OPEN": Kind(422, "A quote is never closed"),
        "E_RECORD_TOO_LARGE": Kind(422, "A record is longer than allowed"),
        # the service and what it stands on
        "E_INTERNAL": Kind(500, "The service made a mistake"),
        "E_DATABASE": Kind(500, "The database refused a statement"),
        "E_DATABASE_REFUSED": Kind(500, "The database refused a statement"),
        "E_STORAGE": Kind(503, "The storage cannot be used at the moment"),
        "E_DATABASE_UNAVAILABLE": Kind(503, "The database cannot be reached at the moment"),
        "E_DRAINING": Kind(503, "The service is stopping"),
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
HTTP_CODES = {404: "E_NOT_FOUND", 405: "E_METHOD", 408: "E_TIMEOUT", 413: "E_TOO_LARGE", 415: "E_MEDIA_TYPE"}


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
    headers = (("Retry-After", str(RETRY_AFTER_S)),) if kind.status == HTTPStatus.SERVICE_UNAVAILABLE else ()
    return Problem(kind.status, {**error.facts, **_members(error.code, kind, error.detail)}, headers)


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
