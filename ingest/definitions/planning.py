"""A definition and the header of a file -> the plan of its load. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ingest.definitions.matching import PARENT_LINE, REJECT_COLUMNS, Matches, Source, match_header, mismatch, shown
from ingest.definitions.model import ColumnDefinition, Definition, Platform, TargetDefinition
from ingest.definitions.names import squeeze, squeezed
from ingest.dialect import Dialect
from ingest.errors import RequestError
from ingest.spec import Check, Column, Field, LoadSpec, Merge, Order, Plan, Rule, RuleKind, Target


def check_parameters(definition: Definition, parameters: Mapping[str, str]) -> None:
    """Raise RequestError (E_OPTION) for a parameter that the dataset does not take, or one that is missing."""
    takes = list(definition.parameters)
    for name in parameters:
        if name not in takes:
            what = f"which takes {shown(takes)}" if takes else "which takes none"
            text = f"{name!r} is not an option of this request, nor a parameter of dataset {definition.name}, {what}"
            raise RequestError(text, code="E_OPTION", option=name, parameters=takes)
    for name, parameter in definition.parameters.items():
        if parameter.required and not parameters.get(name, "").strip():
            meaning = f" ({parameter.description})" if parameter.description else ""
            text = f"{name} is missing: dataset {definition.name} needs it{meaning}"
            raise RequestError(text, code="E_OPTION", option=name, parameters=takes)


def platform_of(definition: Definition, header: Sequence[str]) -> str | None:
    """Return the platform whose marks the header has, the one with the most marks; None when there is none."""
    names = {squeeze(name) for name in header}
    fitting = [
        (len(platform.marks), name)
        for name, platform in definition.platforms.items()
        if all(squeeze(mark) in names for mark in platform.marks)
    ]
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def match_definition(
    definition: Definition, header: Sequence[str], *, platform: str | None, resubmission: bool = False
) -> Matches:
    """Match a header with a definition's names: the platform's, the columns' own, then their aliases."""
    return match_header(
        header,
        _sources(definition, _platform(definition, platform)),
        lenient=definition.unknown_columns == "ignore",
        ignored=REJECT_COLUMNS if resubmission else (),
    )


def names_known(definition: Definition) -> frozenset[str]:
    """Return all names that a column of a file may have, on any platform, squeezed."""
    platforms = [_platform(definition, name) for name in (None, *definition.platforms)]
    sources = [source for platform in platforms for source in _sources(definition, platform)]
    return squeezed(tuple(dict.fromkeys(name for source in sources for name, _ in source)))


def plan_load(
    definition: Definition,
    header: Sequence[str],
    *,
    version: int | None,
    dialect: Dialect,
    parameters: Mapping[str, str],
    resubmission: bool = False,
) -> LoadSpec:
    """Return how a file with this header is loaded. Raises FileError (E_HEADER_MISMATCH), RequestError (E_OPTION)."""
    check_parameters(definition, parameters)
    platform = platform_of(definition, header)
    matches = match_definition(definition, header, platform=platform, resubmission=resubmission)
    fields = fields_of(definition, matches, platform=platform, parameters=parameters)
    targets = [target for target in definition.tables if _has_rows(target, fields)]
    _check_header(definition, matches, missing_columns(definition, fields))
    first = (targets or definition.tables)[0].schema_and_table
    return LoadSpec(
        dataset=definition.name,
        schema=first[0],
        table=first[1],
        columns=tuple(
            Column(name=match.header, type=fields[match.column].type if match.column else "text")
            for match in matches.columns
        ),
        dialect=dialect,
        keyed=definition.order is Order.FILE and any(target.mode is not Merge.APPEND for target in targets),
        header=tuple(header),
        version=version,
        plan=Plan(
            fields=tuple(fields.values()),
            targets=tuple(_target(definition, target, fields) for target in targets),
            checks=tuple(
                Check(name=check.name, expression=check.expression, message=check.message)
                for check in definition.checks
            ),
            order=definition.order,
            parent_line=header.index(PARENT_LINE) if resubmission and PARENT_LINE in header else None,
        ),
        platform=platform,
        max_rejects=definition.max_rejects,
    )


def fields_of(
    definition: Definition, matches: Matches, *, platform: str | None, parameters: Mapping[str, str]
) -> dict[str, Field]:
    """Return a field for each column of the dataset, also for those that neither file nor job gives."""
    formats = (_platform(definition, platform) or _NOWHERE).formats
    keys = _needed_keys(definition)
    return {
        name: Field(
            name=name,
            type=column.type,
            position=matches.positions.get(name),
            constant=parameters.get(column.parameter) if column.parameter is not None else None,
            required=column.required or name in keys,
            default=column.default,
            trim=column.trim,
            nulls=column.nulls,
            words=_words(column),
            format=formats.get(name, column.format),
            rules=tuple(_rules(column)),
        )
        for name, column in definition.columns.items()
    }


def missing_columns(definition: Definition, fields: Mapping[str, Field]) -> list[str]:
    """Return the columns that a load cannot do without and that nothing gives: the required ones and keys."""
    keys = {
        target.pairs(definition.columns)[column]
        for target in definition.tables
        if _has_rows(target, fields)
        for column in target.key
    }
    return [name for name, field in fields.items() if (field.required or name in keys) and not _has_value(field)]


_NOWHERE = Platform(marks=("-",))


def _platform(definition: Definition, name: str | None) -> Platform | None:
    return None if name is None else definition.platforms[name]


def _sources(definition: Definition, platform: Platform | None) -> list[Source]:
    columns = {name: column for name, column in definition.columns.items() if column.parameter is None}
    own = [(name, name) for name in columns]
    aliases = [(alias, name) for name, column in columns.items() for alias in column.aliases]
    platforms = [(alias, name) for name, names in (platform.columns if platform else {}).items() for alias in names]
    return [platforms, own, aliases]


def _check_header(definition: Definition, matches: Matches, missing: Sequence[str]) -> None:
    unknown = matches.unknown if definition.unknown_columns == "reject" else ()
    if missing or unknown or matches.duplicate:
        columns = [name for name, column in definition.columns.items() if column.parameter is None]
        raise mismatch(definition.name, missing=missing, unknown=unknown, duplicate=matches.duplicate, columns=columns)


def _has_value(field: Field) -> bool:
    return field.given or field.default is not None


def _has_rows(target: TargetDefinition, fields: Mapping[str, Field]) -> bool:
    """Tell whether any record can have a row in this table: one of what it needs comes from somewhere."""
    return not target.needs or any(_has_value(fields[name]) for name in target.needs)


def _needed_keys(definition: Definition) -> set[str]:
    """Return the columns without which a record cannot be told from others, in tables that each record goes to."""
    return {
        target.pairs(definition.columns)[column]
        for target in definition.tables
        if target.mode is not Merge.APPEND and not target.needs
        for column in target.key
    }


def _target(definition: Definition, target: TargetDefinition, fields: Mapping[str, Field]) -> Target:
    """Return the target without the columns that nothing gives: their own defaults hold in the table."""
    schema, table = target.schema_and_table
    pairs = {column: name for column, name in target.pairs(definition.columns).items() if _has_value(fields[name])}
    update = (column for column in pairs if column not in target.key) if target.update is None else target.update
    upsert = target.mode is Merge.UPSERT
    return Target(
        schema=schema,
        table=table,
        columns=tuple(pairs.items()),
        key=target.key,
        merge=target.mode,
        update=tuple(column for column in update if column in pairs and fields[pairs[column]].given) if upsert else (),
        needs=target.needs,
    )


def _words(column: ColumnDefinition) -> tuple[tuple[str, str], ...]:
    return (
        *column.words.items(),
        *((word, "true") for word in column.true),
        *((word, "false") for word in column.false),
    )


def _rules(column: ColumnDefinition) -> list[Rule]:
    single = (
        (RuleKind.MIN, column.min),
        (RuleKind.MAX, column.max),
        (RuleKind.MIN_LENGTH, column.min_length),
        (RuleKind.MAX_LENGTH, column.max_length),
        (RuleKind.PATTERN, column.pattern),
    )
    rules = [
        Rule(kind=kind, arguments=(str(value),), message=column.message) for kind, value in single if value is not None
    ]
    if column.one_of:
        rules.append(Rule(kind=RuleKind.ONE_OF, arguments=column.one_of, message=column.message))
    if column.email:
        rules.append(Rule(kind=RuleKind.EMAIL, message=column.message))
    return rules
