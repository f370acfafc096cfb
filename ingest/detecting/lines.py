"""The text of a sample: its line ends, the line that tells Excel the delimiter, whole lines only. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingest.detecting.masking import without_reserved

# How much is looked at; more adds time and no certainty.
MOST_CHARS = 16_000
MOST_LINES = 300
END_BYTES = 4000

BOM = "\ufeff"
QUOTED = re.compile(r"\"[^\"]*\"")
EXCEL = re.compile(r"\"?sep=(?P<delimiter>[^\n\"]{1,8})\"?\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """A text with LF as line end. `whole`: it is all of the file, else `end` are its last lines, if the end is known.

    `excel`: the delimiter that `sep=` tells.
    """

    text: str
    newline: str
    whole: bool
    end: str = ""
    excel: str | None = None


def lines_of(sample: bytes, *, ended: bool, newline: str | None) -> Lines:
    """Return the beginning of a sample (UTF-8) as text; `newline` is what the request says of it."""
    text = sample[: 4 * MOST_CHARS].decode("utf-8", "replace").removeprefix(BOM)
    newline = newline or _newline(text[:MOST_CHARS])
    text = _with_lf(text, newline)
    shown = without_reserved(text[:MOST_CHARS])
    whole = ended and len(text) <= MOST_CHARS and len(sample) <= 4 * MOST_CHARS and text.count("\n") < MOST_LINES
    end = without_reserved(_with_lf(sample[-END_BYTES:].decode("utf-8", "replace"), newline)) if ended else ""
    excel = EXCEL.match(shown if shown.endswith("\n") else f"{shown}\n")
    return Lines(
        text=shown if whole else _whole_lines(shown),
        newline=newline,
        whole=whole,
        end=end.partition("\n")[2],
        excel=excel["delimiter"] if excel else None,
    )


def comment_of(lines: Lines) -> str:
    """Return `#` when lines that begin with it are before the records and between them."""
    texts = [text for text in lines.text.split("\n") if text.strip()]
    marked = [text.startswith("#") for text in texts]
    if not any(marked) or all(marked):
        return ""
    leading = marked.index(False)
    between = sum(marked[leading:])
    spaced = all(text.startswith("# ") for text, is_marked in zip(texts, marked, strict=True) if is_marked)
    return "#" if 2 * sum(marked) < len(texts) + leading and (between > 0 < leading or (between > 1 and spaced)) else ""


def _with_lf(text: str, newline: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n" if newline == "cr" else " ")


def _newline(text: str) -> str:
    """Return `cr` when lines end in CR alone; a CR or LF inside quotes ends no line."""
    if "\r" not in text:
        return "lf"
    bare = QUOTED.sub("", text)
    alone = bare.count("\r") - bare.count("\r\n")
    # The sample may end between the two.
    return "cr" if alone > (1 if bare.endswith("\r") else 0) + 10 * bare.count("\n") or bare == "\r" else "lf"


def _whole_lines(text: str) -> str:
    """Return a text without its last line, which may go on, unless there is no other."""
    return text[: text.rfind("\n") + 1] or text
