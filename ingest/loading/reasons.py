"""SQLSTATE -> the reject's stable code and a sentence for a person. The table is part of the API (README, Rejects)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

# What PostgreSQL says of a date holds the date, in any language.
DAY_OR_MONTH_FIRST = re.compile(r"\"\s*\d{1,2}[/.-]\d{1,2}[/.-]\d{4}")
YEAR_FIRST = "dates are read year first; a definition's format says otherwise, like DD/MM/YYYY"

# SQLSTATEs that say how a batch is loaded better: many values are bad, keys are taken, records of it have the same key,
# rows break a rule of their table.
MANY_BAD = "22P02"
TAKEN_KEY = "23505"
REPEATED_KEY = "21000"
BROKEN_RULES = ("23502", "23503", "23514")

CODES = {
    "22P02": "E_TYPE",
    "22007": "E_TYPE",
    "22003": "E_OUT_OF_RANGE",
    "22008": "E_OUT_OF_RANGE",
    "22001": "E_TOO_LONG",
    "22026": "E_TOO_LONG",
    "22021": "E_ENCODING",
    "22P05": "E_JSON_NUL",
    "22012": "E_RULE",
    "42601": "E_TYPE",
    "23502": "E_NOT_NULL",
    "23503": "E_FOREIGN_KEY",
    "23505": "E_DUP_KEY",
    "23514": "E_CHECK",
    "23P01": "E_EXCLUSION",
    "44000": "E_CHECK",
    "54000": "E_TOO_LARGE",
    "P0001": "E_TRIGGER",
}
BY_CLASS = {"22": "E_TYPE", "23": "E_CONSTRAINT", "54": "E_TOO_LARGE"}


@lru_cache(maxsize=256)
def code_of(sqlstate: str) -> str:
    """Return the stable code for a SQLSTATE; one that is unknown comes from a trigger."""
    return CODES.get(sqlstate, BY_CLASS.get(sqlstate[:2], "E_TRIGGER"))


class Reason(NamedTuple):
    """Why one staged record was refused: what PostgreSQL said, and about which columns."""

    ordinal: int
    sqlstate: str | None
    message: str
    columns: str | None = None
    constraint: str | None = None
    rule: str | None = None

    @property
    def code(self) -> str:
        """The stable code."""
        return "E_DATE_SPECIAL" if self.sqlstate is None else code_of(self.sqlstate)

    @property
    def is_about_a_value(self) -> bool:
        """Whether a single value may be at fault, because its type or its domain refuses it."""
        return self.code not in ("E_TRIGGER", "E_DUP_KEY", "E_EXCLUSION", "E_FOREIGN_KEY", "E_DATE_SPECIAL")

    def sentence(self) -> str:
        """What to tell a person; the value is shown beside it, so it is not repeated where PostgreSQL leaves it out."""
        columns = self.columns or "the record"
        match self.code:
            case "E_NOT_NULL":
                return f"{columns} is empty, but must have a value"
            case "E_DUP_KEY":
                return f"a row with the same {self.columns or 'key'} exists already ({self.constraint})"
            case "E_EXCLUSION":
                return f"{columns} conflicts with a row that exists already ({self.constraint})"
            case "E_FOREIGN_KEY":
                return f"{columns} refers to a row that does not exist ({self.constraint}: {self.rule})"
            case "E_CHECK" if self.rule:
                return f"{columns} breaks the rule {self.constraint}: {self.rule}"
            case "E_OUT_OF_RANGE" if DAY_OR_MONTH_FIRST.search(self.message):
                return f"{self.message}; {YEAR_FIRST}"
        return self.message


def refused_value(sqlstate: str, message: str, column: str) -> tuple[str, str]:
    """Return code and sentence for a value of `column` that its type refuses."""
    code = code_of(sqlstate)
    if code == "E_TYPE":  # nearly always, and PostgreSQL's message says it all
        return code, message
    return code, Reason(ordinal=0, sqlstate=sqlstate, message=message, columns=column).sentence()
