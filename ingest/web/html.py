"""HTML written from values: whatever is no Html is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

CODE = re.compile(r"`([^`]+)`")

# Elements without an end.
VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *parts: str, **attributes: str) -> Html:
    """Return an element; `cls` is its class."""
    given = "".join(f' {key.replace("cls", "class")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(parts)}</{name}>")


def joined(parts: Iterable[str]) -> Html:
    """Return parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def prose(text: str) -> Html:
    """Return a sentence, its `words` as code."""
    return Html(CODE.sub(r"<code>\1</code>", escape(text)))


def paragraphs(text: str) -> Html:
    """Return paragraphs, which empty lines divide."""
    return joined([tag("p", prose(part)) for part in text.split("\n\n") if part])


def table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Html:
    """Return a table, or nothing without rows."""
    if not rows:
        return Html()
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag("table", tag("thead", head), tag("tbody", *body))
