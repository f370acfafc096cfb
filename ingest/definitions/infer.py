"""A definition for a file or a table that has none: suggested from a sample or from the catalogue, as TOML. Pure.

A type is suggested only if every value of the sample has it, written as PostgreSQL reads it. What could lose something
on the way stays text: numbers with leading zeros are codes, dates like 01/02/2026 have two meanings.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ingest.definitions.columntypes import LONGEST_NAME, name_of, type_of
from ingest.definitions.names import squeeze
from ingest.definitions.preview import Sample
from ingest.definitions.tables import TableDataset
from ingest.errors import FileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A column of the dataset: its name, what file and table call it, its type, and why."""

    name: str
    original: str
    target: str
    type: str
    required: bool = False
    note: str = ""


def definition_of_sample(sample: Sample, *, name: str, table: str) -> str:
    """Return the TOML of a definition that loads the sample's file into `table`, every record appended."""
    suggestions = []
    for place, original, column in _named(sample.header.names):
        given = [fields[place].strip() for _, fields in sample.rows if place < len(fields) and fields[place].strip()]
        note = f"like {json.dumps(given[0][:30])}" if given else "no value in the sample"
        suggestions.append(Suggestion(name=column, original=original, target=column, type=type_of(given), note=note))
    columns = ", ".join(f'"{one.target}" {one.type}' for one in suggestions)
    comments = (
        f"Suggested from {len(sample.rows)} records: look at each type before it is used. A table that fits:",
        f"CREATE TABLE {table} ({columns});",
    )
    left_out = len(suggestions) < len(sample.header.names)
    return _written(name, table, comments, suggestions, key=(), ignore=left_out)


def definition_of_table(table: TableDataset, *, name: str) -> str:
    """Return the TOML of a definition that loads files into a table: its columns, and an upsert by its primary key."""
    loadable = [column for column in table.columns if not column.generated]
    suggestions = [
        Suggestion(
            name=column,
            original=original,
            target=original,
            type=loadable[place].type,
            required=loadable[place].required or loadable[place].is_key,
        )
        for place, original, column in _named([column.name for column in loadable])
    ]
    key = [column.name for column in loadable if column.is_key]
    return _written(name, f"{table.schema}.{table.table}", (f"From the table {table.name}.",), suggestions, key=key)


def _named(originals: Sequence[str]) -> list[tuple[int, str, str]]:
    """Return place, original and a name for each column, without those that cannot be told from one another.

    Raises FileError (E_HEADER) when there is no other.
    """
    counts = Counter(map(squeeze, originals))
    taken = set(counts)
    named: list[tuple[int, str, str]] = []
    for place, original in enumerate(originals):
        if counts[squeeze(original)] > 1:
            continue
        name = name_of(original, f"column_{place + 1}")
        if squeeze(name) != squeeze(original) and squeeze(name) in taken:
            name = f"{name[: LONGEST_NAME - 8]}_c{place + 1}"
        taken.add(squeeze(name))
        named.append((place, original, name))
    if not named:
        raise FileError("all columns of the header have the same names: rename them", code="E_HEADER")
    return named


def _written(
    name: str,
    table: str,
    comments: Sequence[str],
    suggestions: Sequence[Suggestion],
    *,
    key: Sequence[str],
    ignore: bool = False,
) -> str:
    mapped = any(one.name != one.target for one in suggestions)
    head = [*(f"# {_in_a_comment(comment)}" for comment in comments), f"name = {_quoted(name)}"]
    target = [f"table = {_quoted(table)}", *_key(key)]
    head += [] if mapped else target
    head += ['unknown_columns = "ignore"  # columns that have the same name are left out'] if ignore else []
    parts = ["\n".join(head), *map(_column, suggestions)]
    if mapped:
        pairs = ", ".join(f"{_quoted(one.target)} = {_quoted(one.name)}" for one in suggestions)
        parts.append("\n".join(["[[targets]]", *target, f"columns = {{ {pairs} }}"]))
    return "\n\n".join(parts) + "\n"


def _column(one: Suggestion) -> str:
    lines = [f"[columns.{one.name}]", f"type = {_quoted(one.type)}"]
    lines[1] += f"  # {_in_a_comment(one.note)}" if one.note else ""
    lines += ["required = true"] if one.required else []
    lines += [f"aliases = [{_quoted(one.original)}]"] if squeeze(one.original) != squeeze(one.name) else []
    return "\n".join(lines)


def _key(key: Sequence[str]) -> list[str]:
    return [f"key = [{', '.join(map(_quoted, key))}]", 'mode = "upsert"'] if key else []


def _quoted(text: str) -> str:
    """Return a TOML string; JSON's escapes are TOML's too, but for DEL and lone surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _in_a_comment(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)
