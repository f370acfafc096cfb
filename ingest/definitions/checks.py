"""What must hold between the parts of a definition: names that are used exist, and nothing contradicts itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ingest.definitions.model import ColumnDefinition, Definition, TargetDefinition
from ingest.definitions.names import squeeze
from ingest.definitions.tomlline import Path
from ingest.formats import parse_format
from ingest.spec import Merge

Mistake = tuple[Path, str]

# Names that requests give other meanings to, now or later.
REQUEST_OPTIONS = frozenset(
    {
        "columns", "comment", "dataset", "delimiter", "encoding", "escape", "footer_rows", "header", "header_rows",
        "load", "max_rejects", "mode", "newline", "null", "on_duplicate", "on_header", "on_quote", "on_ragged",
        "parent", "priority", "quote", "skip_rows", "trim",
    }
)  # fmt: skip


def mistakes(definition: Definition) -> list[Mistake]:
    """Return every mistake that the parts by themselves do not show: the path of the key, and what is wrong."""
    found = [*_columns(definition), *_names(definition), *_platforms(definition), *_targets(definition)]
    for name in definition.parameters.keys() & REQUEST_OPTIONS:
        found.append((("parameters", name), "requests have an option of this name already"))
    for index, check in enumerate(definition.checks):
        if check.name in [other.name for other in definition.checks[:index]]:
            found.append((("checks", index, "name"), f"there are two checks {check.name!r}"))
    return found


def _columns(definition: Definition) -> Iterator[Mistake]:
    for name, column in definition.columns.items():
        for key, what in _column(column, definition.parameters.keys()):
            yield ("columns", name, key), what


def _column(column: ColumnDefinition, parameters: Iterable[str]) -> Iterator[tuple[str, str]]:
    if column.parameter is not None and column.parameter not in parameters:
        yield "parameter", f"there is no [parameters.{column.parameter}]"
    if column.parameter is not None and column.aliases:
        yield "aliases", "the job gives this value, so no column of the file can"
    if column.format is not None:
        try:
            parse_format(column.format, column.type)
        except ValueError as error:
            yield "format", str(error)
    for key in ("true", "false"):
        if getattr(column, key) and column.type not in ("boolean", "bool"):
            yield key, f"only a boolean has such words, not {column.type}; use words"
    yield from _doubled_words(column)
    yield from _bounds(column)


def _doubled_words(column: ColumnDefinition) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for key, words in (("words", column.words), ("true", column.true), ("false", column.false)):
        for word in words:
            if word.casefold() in seen:
                yield key, f"{word!r} is said twice"
            seen.add(word.casefold())


def _bounds(column: ColumnDefinition) -> Iterator[tuple[str, str]]:
    low, high = column.min_length, column.max_length
    if low is not None and high is not None and low > high:
        yield "max_length", f"must not be less than min_length ({low})"
    try:
        if column.min is not None and column.max is not None and float(column.min) > float(column.max):
            yield "max", f"must not be less than min ({column.min})"
    except ValueError:
        pass  # not numbers: PostgreSQL compares them


def _names(definition: Definition) -> Iterator[Mistake]:
    """Two columns must not share a name: a header could not tell them apart."""
    owners: dict[str, str] = {}
    for column in _from_file(definition):
        owners.setdefault(squeeze(column), column)
    for column in _from_file(definition):
        for alias in definition.columns[column].aliases:
            owner = owners.setdefault(squeeze(alias), column)
            if owner != column:
                yield ("columns", column, "aliases"), f"{alias!r} names the column {owner!r} too"
    squeezed: dict[str, str] = {}
    for column in _from_file(definition):
        if (other := squeezed.setdefault(squeeze(column), column)) != column:
            yield ("columns", column), f"the name cannot be told from {other!r}"


def _from_file(definition: Definition) -> list[str]:
    return [name for name, column in definition.columns.items() if column.parameter is None]


def _platforms(definition: Definition) -> Iterator[Mistake]:
    for name, platform in definition.platforms.items():
        owners: dict[str, str] = {}
        for column, aliases in platform.columns.items():
            path = ("platforms", name, "columns", column)
            if column not in _from_file(definition):
                yield path, f"there is no column {column!r} that comes from the file"
            for alias in aliases:
                if (owner := owners.setdefault(squeeze(alias), column)) != column:
                    yield path, f"{alias!r} names the column {owner!r} too"
        for column, text in platform.formats.items():
            yield from _platform_format(definition.columns, ("platforms", name, "formats", column), column, text)


def _platform_format(columns: Mapping[str, ColumnDefinition], path: Path, column: str, text: str) -> Iterator[Mistake]:
    if column not in columns:
        yield path, f"there is no column {column!r}"
        return
    try:
        parse_format(text, columns[column].type)
    except ValueError as error:
        yield path, str(error)


def _targets(definition: Definition) -> Iterator[Mistake]:
    if definition.table is not None and definition.targets:
        yield ("table",), "say either a table at the top or [[targets]], not both"
    if definition.table is None and not definition.targets:
        yield (), "a definition needs a table, or [[targets]]"
    if definition.table is None:
        for key in ("key", "mode", "update"):
            if key in definition.model_fields_set:
                yield (key,), "belongs to a table at the top; with [[targets]] each target has its own"
    if definition.table is not None and not definition.targets:
        yield from _target(definition, definition.tables[0], ())
    for index, target in enumerate(definition.targets):
        yield from _target(definition, target, ("targets", index))
    yield from _doubled_tables(definition.targets)


def _doubled_tables(targets: tuple[TargetDefinition, ...]) -> Iterator[Mistake]:
    for index, target in enumerate(targets):
        if target.schema_and_table in [other.schema_and_table for other in targets[:index]]:
            yield ("targets", index, "table"), f"there are two targets {target.table!r}"


def _target(definition: Definition, target: TargetDefinition, at: tuple[str | int, ...]) -> Iterator[Mistake]:
    pairs = target.pairs(definition.columns)
    for column in pairs.values():
        if column not in definition.columns:
            yield (*at, "columns"), f"there is no column {column!r}"
    for key, names in (("key", target.key), ("update", target.update or ())):
        for name in names:
            if name not in pairs:
                yield (*at, key), f"{name!r} is not a column of this target"
    for name in target.needs:
        if name not in definition.columns:
            yield (*at, "needs"), f"there is no column {name!r}"
    yield from _merge(target, at)


def _merge(target: TargetDefinition, at: tuple[str | int, ...]) -> Iterator[Mistake]:
    if target.mode is not Merge.APPEND and not target.key:
        yield (*at, "mode"), f"{target.mode} needs a key: it tells which rows are the same"
    if target.update is not None and target.mode is not Merge.UPSERT:
        yield (*at, "update"), "only an upsert changes rows"
    for name in set(target.update or ()) & set(target.key):
        yield (*at, "update"), f"{name!r} is the key: it cannot change"
