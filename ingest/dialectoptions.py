"""The options that say how a file is written, as people write them -> a dialect. Pure."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from ingest.dialect import MAX_ROWS, Dialect
from ingest.errors import RequestError

# Each is also a field of Dialect, but for `header`: false says that there is none.
DIALECT_OPTIONS = (
    "columns", "comment", "delimiter", "encoding", "escape", "footer_rows", "header", "header_rows", "newline", "null",
    "on_header", "on_quote", "on_ragged", "quote", "skip_rows", "trim",
)  # fmt: skip
# What people write for characters that are hard to type or to see.
WORDS = {
    "delimiter": {
        "tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":",
        "comma-space": ", ",
    },
    "quote": {"none": "", "double": '"', "single": "'", "apostrophe": "'"},
    "escape": {"none": "", "doubled": "", "backslash": "\\"},
    "comment": {"none": ""},
}  # fmt: skip
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
COUNTS = ("footer_rows", "header_rows", "skip_rows")


def dialect_of(values: Mapping[str, str]) -> Dialect:
    """Return the dialect that the options say; other options, and what is `auto`, are let pass.

    Raises RequestError (E_OPTION).
    """
    values = {name: text for name, text in values.items() if text != "auto"}
    given: dict[str, Any] = {}
    for name in DIALECT_OPTIONS:
        if name in values and name != "header":
            given[name] = _value(name, values[name])
    if "header" in values:
        has_header = _boolean("header", values["header"])
        if not has_header and given.get("header_rows"):
            raise RequestError("header=false and header_rows contradict one another", code="E_OPTION", option="header")
        given["header_rows"] = given.get("header_rows") or 1 if has_header else 0
    return Dialect(**given)


def _value(name: str, text: str) -> Any:
    if name in COUNTS:
        return _count(name, text)
    if name == "trim":
        return _boolean(name, text)
    if name == "columns":
        return tuple(column.strip() for column in next(csv.reader([text]), []))
    return WORDS.get(name, {}).get(text, text)


def _count(name: str, text: str) -> int:
    # isdigit alone accepts superscripts and other scripts' digits; the length keeps int() cheap.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_ROWS)) and int(text) <= MAX_ROWS):
        text = f"{name} must be a whole number from 0 to {MAX_ROWS}, not {text!r}"
        raise RequestError(text, code="E_OPTION", option=name)
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in BOOLEANS:
        raise RequestError(f"{name} must be true or false, not {text!r}", code="E_OPTION", option=name)
    return BOOLEANS[text.lower()]
