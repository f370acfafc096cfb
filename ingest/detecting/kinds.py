"""What the text of a field looks like: a number, a date, words, or the remains of a wrong split. Pure."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from ingest.detecting.masking import CLOSE, OPEN, SHOW

# Longer texts are taken for prose unseen.
MOST_CHARS = 200


class Kind(IntEnum):
    """A family of texts; columns mostly hold one."""

    EMPTY = 0
    NUMBER = 1
    DATE = 2
    FORMAL = 3  # addresses of mail and web, identifiers, truth values: never the name of a column
    CODE = 4
    WORDS = 5
    TEXT = 6
    MESSY = 7  # a delimiter or a quote is left in it


TYPED = frozenset({Kind.NUMBER, Kind.DATE, Kind.FORMAL})


class Looks(NamedTuple):
    """A kind, and how likely (0 to 1) it is that a whole field looks so."""

    kind: Kind
    score: float
    quoted: bool = False
    fault: bool = False


DIGITS = r"(?:\d{1,3}(?:[.,' \u00a0\u202f]\d{3})+|\d+)"
MONEY = r"[$€£¥]"
UNIT = r"(?: ?(?:[%$€£¥]|eur|usd|gbp|sek|chf))?"
NUMBER = rf"[-+(]?(?:{MONEY} ?)?[-+]?(?:{DIGITS}(?:[.,]\d+)?|[.,]\d+)(?:e[-+]?\d+)?\)?{UNIT}"
MONTH = r"(?:jan|feb|mar|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*"
TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[ap]m)?(?: ?(?:z|utc|gmt|[+-]\d{2}:?\d{2}))?"
NUMERIC_DAY = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
DAY = rf"(?:{NUMERIC_DAY}|\d{{1,2}}[ .-]{{1,2}}{MONTH}\.?[ -]\d{{2,4}}|{MONTH} \d{{1,2}}, \d{{4}})"
FORMS = (
    (Kind.NUMBER, NUMBER),
    (Kind.DATE, rf"\[?{DAY}(?:[T ,:]+{TIME})?\]?|{TIME}"),
    (Kind.FORMAL, r"true|false|yes|no|null|n/?a|none|nan|\\n"),
    (Kind.FORMAL, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|(?:https?|ftp|s3|file)://[^\s\"<>|]+|www\.[\w.-]+[^\s\"<>|]*"),
    (Kind.FORMAL, r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),  # UUID
    (Kind.FORMAL, r"\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"),  # IP, MAC
    (Kind.FORMAL, r"\+\d[\d ()./-]{6,}\d|\(\d{2,5}\) ?\d[\d -]{4,}\d|\d{3}-\d{3}-\d{4}"),  # telephone
    (Kind.FORMAL, r"[{\[].*[:,].*[}\]]"),  # JSON
    (Kind.CODE, r"(?=[^\d\s]*\d)[\w./+-]+"),
    (Kind.WORDS, r"[^\W\d_][\w./&'’()#%°+*?!-]*(?: +[\w./&'’()#%°+*?!-]+)*"),  # noqa: RUF001 - that apostrophe is meant
)
FORM = re.compile("|".join(f"(?P<{kind.name}_{place}>{form})" for place, (kind, form) in enumerate(FORMS)), re.I)
SCORES = {Kind.NUMBER: 1.0, Kind.DATE: 1.0, Kind.FORMAL: 1.0, Kind.CODE: 0.95, Kind.WORDS: 0.92}
# A delimiter between two characters, or at an end; between digits a comma may be part of a number.
LEFT_OVER = re.compile(r"[;|\t](?! )|(?<!\d),(?! )|,(?=[^\d ])|^[,;|:]|[,;|]$|(?<!\w)\\$|^[^\\]*\\$")
WORD_IN_QUOTES = re.compile(r"\S \"[^\"]+\"[ ,.;:!?]?|\"[^\"]+\" \S")
PAIRS = ("()", "[]", "{}")


class LooksOf(dict[str, Looks]):
    """What fields look like, each text judged once. As it is kept as long as the texts, make one for each sample."""

    def __missing__(self, field: str) -> Looks:
        looks = self[field] = _looks(field)
        return looks


def _looks(field: str) -> Looks:
    text = field.strip()
    if not text:
        return Looks(Kind.EMPTY, 0.8)
    if OPEN in text or CLOSE in text:
        return _quoted(text)
    return _plain(text)


def _quoted(text: str) -> Looks:
    inside = text[1:-1]
    if text[0] != OPEN or text[-1] != CLOSE or OPEN in inside or CLOSE in inside:
        return Looks(Kind.MESSY, 0.2, quoted=True, fault=True)
    value = inside.translate(SHOW).strip()
    kind = _plain(value).kind if value else Kind.EMPTY
    return Looks(Kind.TEXT if kind is Kind.MESSY else kind, max(0.95, SCORES.get(kind, 0)), quoted=True)


def _plain(text: str) -> Looks:
    if len(text) > MOST_CHARS:
        return Looks(Kind.TEXT, 0.6)
    if found := FORM.fullmatch(text):
        kind = Kind[str(found.lastgroup).split("_")[0]]
        return Looks(kind, SCORES[kind] - (0.3 if _unpaired(text) else 0))
    if LEFT_OVER.search(text):
        return Looks(Kind.MESSY, 0.2, fault='"' in text)
    if '"' in text:
        return Looks(Kind.TEXT, 0.7 if WORD_IN_QUOTES.search(text) else 0.4, fault=True)
    return Looks(Kind.TEXT, 0.45 if _unpaired(text) else 0.6 if text[0] == text[-1] == "'" else 0.75)


def _unpaired(text: str) -> bool:
    return any(text.count(pair[0]) != text.count(pair[1]) for pair in PAIRS)
