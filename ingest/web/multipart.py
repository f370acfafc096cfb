"""multipart/form-data as a stream of events, whatever way the bytes are cut. Pure: bytes in, events out, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest.errors import RequestError
from ingest.web.body import BodyError

# Far above what a person selects in a browser; bounds the list of answers that a request can make us hold.
MAX_PARTS = 1000


@dataclass(frozen=True, slots=True)
class PartBegin:
    """A part begins; `filename` is None for a plain form field."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part that began last."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part that began last is whole."""


Event = PartBegin | PartData | PartEnd


def boundary_of(content_type: str) -> bytes:
    """Return the boundary of a multipart/form-data body. Raises RequestError (415 or 400) when it is something else."""
    media_type, parameters = parse_options_header(content_type)
    if media_type != b"multipart/form-data":
        raise RequestError(
            "send a form (multipart/form-data) here, or the file itself with PUT to /upload/{filename}",
            code="E_MEDIA_TYPE",
        )
    boundary = parameters.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:  # RFC 2046, 5.1.1
        raise RequestError("Content-Type must carry a boundary of 1 to 70 characters", code="E_MULTIPART")
    return boundary


class MultipartReader:
    """Turns the bytes of a form into events; the parser calls back while it reads, so its calls are gathered."""

    def __init__(self, boundary: bytes) -> None:
        self._events: list[Event] = []
        self._headers: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._parts = 0
        self.ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that these bytes complete. Raises BodyError (E_MULTIPART) for a malformed form."""
        self._events = []
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise BodyError("the form is not valid multipart/form-data", code="E_MULTIPART") from error
        return self._events

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise BodyError(f"the form has more than {MAX_PARTS} parts", code="E_MULTIPART")
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        # latin-1 since parse_options_header gives the bytes back that way; names are UTF-8 inside (RFC 7578, 5.1).
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._field.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        disposition, parameters = parse_options_header(self._headers.get("content-disposition"))
        if disposition != b"form-data" or b"name" not in parameters:
            raise BodyError("a part of the form has no name", code="E_MULTIPART")
        filename = parameters.get(b"filename")
        self._events.append(PartBegin(_text(parameters[b"name"]), None if filename is None else _text(filename)))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(PartData(data[start:end]))

    def _on_part_end(self) -> None:
        self._events.append(PartEnd())

    def _on_end(self) -> None:
        self.ended = True


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
