"""A definition from its TOML text, or every mistake in it, each with its line. Pure: the file is read elsewhere."""

from __future__ import annotations

import tomllib

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ingest.definitions.checks import mistakes
from ingest.definitions.model import Definition
from ingest.definitions.tomlline import Path, line_of
from ingest.errors import SettingsError

# Names that pydantic puts into the path of a value that may have several forms.
UNION_PARTS = {"dict", "tuple"}

# What is meant by the patterns that a text must match, by the key it stands under.
MEANT = {
    "name": "must be a name: small letters, digits and _",
    "parameter": "must be a name: small letters, digits and _",
    "type": "must be a type of PostgreSQL, like bigint or numeric(10,2)",
    "table": "must be a table, or schema.table",
    "max_rejects": "must be a count like 100 or a share like 5%",
    "expression": "must be one SQL expression",
}
REASONS = {
    "extra_forbidden": "is not a key here",
    "missing": "is missing",
    "tuple_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "bool_type": "must be true or false",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


class DefinitionError(SettingsError):
    """A definition is wrong; `faults` has a line for each mistake: file, line in it, dotted key, what is wrong."""

    code = "E_DEFINITION"

    def __init__(self, faults: list[str]) -> None:
        more = f" (and {len(faults) - 1} more: `ingest datasets check` names them)" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self.faults = tuple(faults)


def read_definition(text: str, file: str) -> Definition:
    """Return the definition in a TOML text. Raises DefinitionError that names `file`, line and key of every mistake."""
    try:
        definition = Definition.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError([f"{file}: this is not TOML: {error}"]) from None
    except RecursionError:
        raise DefinitionError([f"{file}: this is not TOML: it is nested too deeply"]) from None
    except ValidationError as error:
        faults = [_fault(text, file, one) for one in error.errors(include_url=False)]
        raise DefinitionError(list(dict.fromkeys(faults))) from None
    found = [_line(text, file, path, what) for path, what in mistakes(definition)]
    if found:
        raise DefinitionError(found)
    return definition


def _fault(text: str, file: str, error: ErrorDetails) -> str:
    path = [part for part in error["loc"] if not (isinstance(part, str) and ("[" in part or part in UNION_PARTS))]
    what = REASONS.get(error["type"]) or error["msg"].removeprefix("Input ").replace("should", "must")
    if error["type"] == "string_pattern_mismatch":
        what = MEANT.get(str(path[-1]), MEANT["name"])
    value = error["input"]
    shown = f", not {value!r:.60}" if isinstance(value, str | int | float) and what.startswith("must") else ""
    return _line(text, file, path, what + shown)


def _line(text: str, file: str, path: Path, what: str) -> str:
    if not path:
        return f"{file}: {what}"
    dotted = ".".join(str(part + 1) if isinstance(part, int) else part for part in path)
    return f"{file}:{line_of(text, path)}: {dotted}: {what}"
