"""What a spreadsheet would calculate: a cell that begins like a formula is made harmless on export, and back again.

OWASP, "CSV Injection": such a cell gets an apostrophe in front. A plain number is none, whatever its sign.
"""

from __future__ import annotations

import re

FORMULA = re.compile(r"[=+\-@\t\r]")
PLAIN_NUMBER = re.compile(r"[+-]?[0-9]+([.,][0-9]+)*(?:[eE][+-]?[0-9]+)?")

# PostgreSQL: `{}` is an expression of type text; takes off the apostrophe that `guard` put in front.
UNGUARD = "regexp_replace({}, E'^''(?=[-=+@\\\\t\\\\r])', '')"


def guard(text: str) -> str:
    """Return a cell's text so that a spreadsheet shows it and does not calculate it."""
    return f"'{text}" if FORMULA.match(text) and not PLAIN_NUMBER.fullmatch(text) else text
