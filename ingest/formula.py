"""The guard against formulas: a cell that a spreadsheet would run is exported as a text, and read back as it was.

A guarded cell has one apostrophe more in front, which spreadsheets take for "this is text". Cells that have apostrophes
before such a beginning get one more as well, so that taking one off again always gives the original.
"""

from __future__ import annotations

import re

# Where a formula begins, behind any number of apostrophes. POSIX and Python read it alike.
BEGINNING = "'*[=+@\\t\\r-]"
PLAIN_NUMBER = r"[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?"

_guarded = re.compile(BEGINNING)
_number = re.compile(PLAIN_NUMBER, re.ASCII)
_undone = re.compile(f"'(?={BEGINNING})")

# SQL that undoes `guard` for the text expression put in place of {text}: to be applied to the file's own text, before
# it is trimmed or anything else. NULL stays NULL.
UNGUARDED_SQL = "regexp_replace({text}, E'^''(''*[=+@\\\\t\\\\r-])', E'\\\\1')"


def guard(text: str) -> str:
    """Return a cell's text such that a spreadsheet shows it and runs nothing."""
    return "'" + text if _guarded.match(text) and not _number.fullmatch(text) else text


def unguard(text: str) -> str:
    """Return what was given to `guard`."""
    return text[1:] if _undone.match(text) else text
