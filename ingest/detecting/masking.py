"""Quoted fields of a text, with everything inside them hidden, so that lines and fields can be split without a parser.

Hidden characters become the code points that Unicode reserves for such use inside a program. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

OPEN, CLOSE = "\ufdd0", "\ufdd1"
# Whatever may be part of a delimiter, and line ends and quotes.
SIGNS = ",;\t|: \n\"'\\^~#$%&*+/=<>@!_-?.t"
HIDE = {ord(sign): 0xFDD2 + place for place, sign in enumerate(SIGNS[:30])}
SHOW = {hidden: sign for sign, hidden in HIDE.items()}
RESERVED = re.compile("[\ufdd0-\ufdef]")
NEWLINE = chr(HIDE[ord("\n")])
ESCAPED = re.compile(r"\\(.)")


def without_reserved(text: str) -> str:
    """Return a text without the code points that are used here."""
    return RESERVED.sub("\ufffd", text)


def mask(text: str, quote: str, escape: str, around: Sequence[str]) -> str:
    """Return a text whose quoted fields, or escaped characters where there is no quote, are hidden.

    A quoted field stands between line ends and strings of `around`, with or without spaces. A quote that opens or
    closes anything else stays as it is.
    """
    if quote:
        return _pattern(quote, escape, tuple(around)).sub(_hidden, text)
    return ESCAPED.sub(lambda found: found[1].translate(HIDE), text) if escape else text


def shown(field: str, quote: str, escape: str) -> str:
    """Return the value of a masked field."""
    text = field.strip(" ") if OPEN in field else field
    quoted = text.startswith(OPEN) and text.endswith(CLOSE)
    text = (text[1:-1] if quoted else text).translate(SHOW).replace(OPEN, quote).replace(CLOSE, quote)
    if quoted and escape:
        text = ESCAPED.sub(r"\1", text)
    return text.replace(quote * 2, quote) if quoted and quote else text


def _hidden(found: re.Match[str]) -> str:
    return f"{found[1]}{OPEN}{found[2].translate(HIDE)}{CLOSE}"


@lru_cache(maxsize=64)
def _pattern(quote: str, escape: str, around: tuple[str, ...]) -> re.Pattern[str]:
    single = (
        f"[{''.join(re.escape(one) for one in around if len(one) == 1)}]"
        if any(len(one) == 1 for one in around)
        else ""
    )
    several = [re.escape(one) for one in around if len(one) > 1]
    strings = [*([single] if single else []), *several]
    before = "|".join(["^", *(f"(?<={one})" for one in strings)])
    after = "|".join(["$", *strings])
    q = re.escape(quote)
    inside = f"(?>[^{q}]*(?:{q}{q}[^{q}]*)*)"
    if escape:
        e = re.escape(escape)
        inside = f"(?>(?:[^{q}{e}]+|{e}.|{q}{q})*)"
    return re.compile(f"((?:{before}) *){q}({inside}){q}(?= *(?:{after}))", re.MULTILINE | re.DOTALL)
