"""An environment variable of a setting: how it is read, and what is said of a value that is not allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ingest.errors import SettingsError

# An error message is one line on a terminal; a pasted file is not.
SHOWN_CHARACTERS = 80


@dataclass(frozen=True)
class Variable:
    """One environment variable: its name, what is allowed in it, and how many of its units make one of the field's."""

    name: str
    allowed: str
    per_unit: int = 1


def refusal(variable: Variable, value: object) -> SettingsError:
    """The error for a value that is not allowed: one line, no password, no control characters."""
    return SettingsError(f"{variable.name}={_shown(value)}: must be {variable.allowed}")


def masked(value: str) -> str:
    """The text with everything that may be a password or a key replaced by ***."""
    if "://" not in value and re.search("[=@]", value):
        return "***"
    value = re.sub(r"://.*@", "://***@", value, flags=re.DOTALL)
    return re.sub(r"(?i)((?:password|secret|key|token)[^=&]*=)[^&]*", r"\1***", value)


def _shown(value: object) -> str:
    text = masked(str(value)).encode("unicode_escape").decode("ascii")
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "..."


def read(environment: Mapping[str, str], variable: Variable) -> object:
    """The variable's value, None when unset or empty, in the field's unit."""
    raw = environment.get(variable.name, "").strip()
    if not raw or variable.per_unit == 1:
        return raw or None
    try:
        return float(raw) / variable.per_unit
    except ValueError:
        raise refusal(variable, raw) from None
