"""How texts write dates and numbers in files: a format by example, and what undoes it. Pure values.

A date format is spelled with YYYY, MM and DD (`DD/MM/YYYY`), for timestamps also HH, MI and SS. A number format is an
example with a thousands separator, a decimal separator or a currency sign (`1.234,56`, `$1,200.50`, `1 234,56 €`).
Both come down to a regular expression of PostgreSQL that a text must match, and the replacements that make of it what
PostgreSQL reads. A text in another format is refused, even where PostgreSQL would guess.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PARTS = {
    "YYYY": r"(\d{4})",
    "MM": r"(\d{1,2})",
    "DD": r"(\d{1,2})",
    "HH": r"(\d{1,2})",
    "MI": r"(\d{2})",
    "SS": r"(\d{2})",
}
DATE_PARTS = re.compile("|".join(PARTS))
NUMBER = re.compile(
    r"^(?P<before>\D*?)\s*1(?P<group>[., '\u00a0\u202f]?)\d{3}(?:(?P<point>[.,])\d+)?\s*(?P<after>\D*)$"
)
GROUPLESS = re.compile(r"^(?P<before>\D*?)\s*\d(?P<point>[.,])\d+\s*(?P<after>\D*)$")
# Where the example has one, any currency's sign or code will do, or none: `$`, `CA$`, `SEK`, `€`.
SIGN = r"(?:[A-Za-z]{0,3}[$€£¥₹₩₽₺₴₫₪₱฿₦₡₲₵]|[A-Za-z]{2,3}\.?)?"
SPACES = "[ \u00a0\u202f]"
DATE_TYPES = ("date", "timestamp")
NUMBER_TYPES = ("numeric", "decimal", "integer", "int", "bigint", "smallint", "real", "double", "money", "float")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """What a text must match, and what makes of it a text that PostgreSQL reads: (pattern, replacement) in turn."""

    example: str
    pattern: str
    replacements: tuple[tuple[str, str], ...]


def parse_format(text: str, type_name: str) -> Format:
    """Read a format for a type. Raises ValueError with a sentence that says what it may be."""
    if type_name.startswith(DATE_TYPES):
        return _date(text)
    if type_name.startswith(NUMBER_TYPES):
        return _number(text)
    raise ValueError(f"a format is for dates and numbers, not for {type_name}")


def _date(text: str) -> Format:
    parts = DATE_PARTS.findall(text)
    unique, rest = set(parts), DATE_PARTS.sub("", text)
    if not {"YYYY", "MM", "DD"} <= unique or len(unique) != len(parts) or re.search(r"[^\W_T]", rest):
        raise ValueError(f"{text!r} is no date format: spell it with YYYY, MM and DD once each, like DD/MM/YYYY")
    pieces = DATE_PARTS.split(text)
    compact = "".join(pieces) == ""
    pattern = re.escape(pieces[0])
    for part, after in zip(parts, pieces[1:], strict=True):
        pattern += (PARTS[part].replace("{1,2}", "{2}") if compact else PARTS[part]) + re.escape(after)
    place = {part: f"\\{number}" for number, part in enumerate(parts, 1)}
    iso = f"{place['YYYY']}-{place['MM']}-{place['DD']}"
    if "HH" in place:
        iso += f" {place['HH']}:{place.get('MI', '00')}:{place.get('SS', '00')}"
    return Format(example=text, pattern=f"^{pattern}$", replacements=((f"^{pattern}$", iso),))


def _number(text: str) -> Format:
    found = NUMBER.match(text) or GROUPLESS.match(text)
    if not found:
        raise ValueError(f"{text!r} is no number format: write an example like 1.234,56 or $1,200.50")
    group = found.groupdict().get("group") or ""
    point = found["point"] or ("," if group == "." else ".")
    sign = SIGN if (found["before"] + found["after"]).strip() else ""
    spaces = SPACES if group in SPACES else re.escape(group)
    whole = rf"(?:\d{{1,3}}(?:{spaces}\d{{3}})+|\d+)" if group else r"\d+"
    number = rf"{whole}(?:{re.escape(point)}\d+)?"
    marked = rf"{sign}\s*[-+]?{number}\s*{sign}"
    # Brackets are how accountants write a minus. A sign is taken off as a whole: its own dot is no decimal point.
    replacements = [
        (rf"^\({sign}\s*[-+]?({number})\s*{sign}\)$", r"-\1"),
        (rf"^([-+]?){sign}\s*([-+]?)({number})\s*{sign}$", r"\1\2\3"),
    ]
    if group:
        replacements.append((spaces, ""))
    replacements.append((re.escape(point), "."))
    return Format(example=text, pattern=rf"^(?:[-+]?{marked}|\({marked}\))$", replacements=tuple(replacements))
