"""How a file writes its records: delimiter, quote, escape, encoding, what surrounds the records. A pure value."""

from __future__ import annotations

import string
from dataclasses import dataclass, fields
from typing import Any

from ingest.encodings import canonical_name
from ingest.errors import RequestError

# Raised when the idea of a record changes; a job is only ever read by the version that cut it.
PARSER_VERSION = 2

MAX_DELIMITER_CHARS = 8
MAX_ROWS = 1000  # of a preamble, a header or a footer
MAX_NULL_CHARS = 100
# What COPY refuses as a delimiter, since a NULL or the end of the data could be written with it.
NO_DELIMITERS = "\\." + string.ascii_lowercase + string.digits
# Stands for the quote of a file that has none, where COPY asks for one; a batch that holds it is not sent to COPY.
NO_QUOTE = "\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A dialect. Raises RequestError (E_OPTION) that names the option when it cannot be, or cannot be told apart.

    `delimiter`: up to MAX_DELIMITER_CHARS characters. `quote`: one ASCII character, or none. `escape`: the character
    that makes the next one plain inside quotes (in a file without quotes: everywhere); doubled quotes if empty.
    `null`: the unquoted text that means NULL. `encoding`: the codec of the file as it was sent. `newline`: `lf`, with
    or without a CR before it, or `cr` alone. `skip_rows`, `footer_rows`: physical lines before the header and records
    at the end that are left out; `header_rows`: records that are the header, joined; `comment`: what a line begins with
    that is left out. `columns`: names that stand for those of the header. `on_ragged`: what becomes of a record with
    another number of fields (`reject`, `pad`, `merge`), `on_quote` of a quote that is not around a whole field
    (`reject`, `keep` it as text). `on_header`: what becomes of the header where it comes once more: it is rejected
    alone (`reject`), or it and all that follows (`end`); `auto` is `end` where records of any width are taken. `trim`:
    white space around fields is no part of them.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    null: str = ""
    encoding: str = "utf-8"
    newline: str = "lf"
    skip_rows: int = 0
    header_rows: int = 1
    comment: str = ""
    footer_rows: int = 0
    columns: tuple[str, ...] = ()
    on_ragged: str = "reject"
    on_quote: str = "reject"
    on_header: str = "auto"
    trim: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "encoding", canonical_name(self.encoding))
        self._check_characters()
        self._check_delimiter()
        self._check_comment()
        for name, words in (
            ("newline", ("lf", "cr")),
            ("on_ragged", ("reject", "pad", "merge")),
            ("on_quote", ("reject", "keep")),
            ("on_header", ("auto", "reject", "end")),
        ):
            if getattr(self, name) not in words:
                raise _refused(name, f"must be {' or '.join(words)}, not {getattr(self, name)!r}")
        for name in ("skip_rows", "header_rows", "footer_rows"):
            if not 0 <= getattr(self, name) <= MAX_ROWS:
                raise _refused(name, f"must be from 0 to {MAX_ROWS}")
        if len(self.null) > MAX_NULL_CHARS or any(
            c in self.null for c in (self.delimiter, self.quote, "\r", "\n") if c
        ):
            raise _refused("null", "must not hold the delimiter, the quote or a line end")

    @property
    def is_native(self) -> bool:
        """Tell whether PostgreSQL's COPY reads the records of a sound file as they are."""
        delimiter = len(self.delimiter) == 1 and self.delimiter.isascii()
        return delimiter and self.newline == "lf" and not self.trim and bool(self.quote or not self.escape)

    @property
    def is_lenient(self) -> bool:
        """Tell whether a record that is not well-formed may be read as somebody may have meant it."""
        return self.on_ragged != "reject" or self.on_quote != "reject"

    @property
    def ends_at_header(self) -> bool:
        """Tell whether the table ends where its header comes once more.

        The records of a second table would fit wherever records of any width do, and nobody would see it.
        """
        return self.on_header == "end" or (self.on_header == "auto" and self.on_ragged != "reject")

    @property
    def copy_quote(self) -> str:
        """The quote as COPY is told it."""
        return self.quote or NO_QUOTE

    def to_json(self) -> dict[str, Any]:
        """Return the dialect as it is pinned in the job; but for the first three, what is as usual is left out."""
        usual = {field.name: field.default for field in fields(self)}
        found = {name: getattr(self, name) for name in usual}
        always = ("delimiter", "quote", "null")
        shown = {name: found[name] for name in usual if name in always or found[name] != usual[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in shown.items()}

    def _check_characters(self) -> None:
        for name in ("quote", "escape"):
            char = getattr(self, name)
            if char and (len(char) != 1 or not " " <= char <= "~"):
                raise _refused(name, f"must be one ASCII character or none, not {char!r}")
            if char.isalnum():
                raise _refused(name, f"{char!r} cannot be used")
        if self.escape and self.escape == self.delimiter:
            raise _refused("escape", "must not be the delimiter")
        if self.escape == self.quote:
            object.__setattr__(self, "escape", "")

    def _check_delimiter(self) -> None:
        delimiter = self.delimiter
        if not 1 <= len(delimiter) <= MAX_DELIMITER_CHARS or not delimiter.replace("\t", " ").isprintable():
            text = f"must be one to {MAX_DELIMITER_CHARS} printable characters, not {delimiter!r}"
            raise _refused("delimiter", text)
        clash = self.quote and self.quote in delimiter
        if clash or delimiter.isalnum() or delimiter in NO_DELIMITERS:
            raise _refused("delimiter", f"{delimiter!r} cannot be used")

    def _check_comment(self) -> None:
        comment = self.comment
        if len(comment) > MAX_DELIMITER_CHARS or not comment.isprintable():
            raise _refused("comment", f"must be at most {MAX_DELIMITER_CHARS} printable characters")
        if comment and (comment.startswith(self.delimiter) or (self.quote and self.quote in comment)):
            raise _refused("comment", "must not hold the quote, nor begin with the delimiter")


def _refused(option: str, text: str) -> RequestError:
    return RequestError(f"{option} {text}", code="E_OPTION", option=option)
