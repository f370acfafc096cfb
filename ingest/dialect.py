"""How a file writes its records: delimiter, quote and the text that means NULL. A pure value."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.errors import RequestError

# Raised when the idea of a record changes; a job is only ever read by the version that cut it.
PARSER_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A dialect whose records can be cut by quote parity: delimiter and quote of one byte, quotes inside doubled.

    `delimiter`, `quote`: one printable ASCII character each (or TAB). `null`: the unquoted text that means NULL.
    Raises RequestError (E_OPTION) when the three cannot be told apart.
    """

    delimiter: str = ","
    quote: str = '"'
    null: str = ""

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote"):
            char = getattr(self, name)
            if len(char) != 1 or not (char == "\t" or " " <= char <= "~"):
                raise RequestError(f"{name} must be one ASCII character, not {char!r}", code="E_OPTION", option=name)
        if self.quote.isalnum():
            raise RequestError(f"quote {self.quote!r} cannot be used", code="E_OPTION", option="quote")
        if self.delimiter == self.quote or self.delimiter in "\\.abcdefghijklmnopqrstuvwxyz0123456789":
            raise RequestError(f"delimiter {self.delimiter!r} cannot be used", code="E_OPTION", option="delimiter")
        if any(c in self.null for c in (self.delimiter, self.quote, "\r", "\n")) or len(self.null) > 100:
            raise RequestError(
                "null must not hold the delimiter, the quote or a line end", code="E_OPTION", option="null"
            )

    def to_json(self) -> dict[str, str]:
        """Return the dialect as it is pinned in the job."""
        return {"delimiter": self.delimiter, "quote": self.quote, "null": self.null}
