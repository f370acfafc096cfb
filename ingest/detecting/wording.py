"""What was detected, in short sentences for people and as the options that pin it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from urllib.parse import quote as percent

from ingest.detecting.layout import FITS, Layout
from ingest.detecting.reading import Reading
from ingest.dialect import Dialect

NAMES = {"\t": "tab", " ": "space", ", ": "comma and space"}
# Options in words where the character cannot be seen.
WORDS = {("delimiter", "\t"): "tab", ("delimiter", " "): "space", ("quote", ""): "none"}
# Always said, since a version to come may take another for the usual one; the rest only when it is not as usual.
ALWAYS = ("delimiter", "quote", "encoding")


def options_of(dialect: Dialect) -> str:
    """Return the options of a request, percent-encoded, under which a file is read in a dialect whatever it holds."""
    usual = {field.name: field.default for field in fields(dialect)}
    found = {name: getattr(dialect, name) for name in usual}
    said = {name: _text(found[name]) for name in usual if name in ALWAYS or found[name] != usual[name]}
    if dialect.header_rows == 0:
        del said["header_rows"]
        said["header"] = "false"
    return "&".join(f"{name}={percent(WORDS.get((name, text), text), safe='')}" for name, text in said.items())


def evidence_of(reading: Reading, layout: Layout, dialect: Dialect, given: frozenset[str]) -> Iterator[str]:
    """Return why a dialect was taken, a sentence each; what was `given` needs no evidence."""
    if "delimiter" not in given:
        yield _of_delimiter(reading, dialect)
    if "quote" not in given:
        yield from _of_quote(reading, dialect)
    if "escape" not in given and dialect.escape:
        yield f"The escape is {dialect.escape!r}: it is before quotes or delimiters that end nothing."
    if "newline" not in given and dialect.newline == "cr":
        yield "The lines end in CR alone."
    if "comment" not in given and dialect.comment:
        yield f"Lines that begin with {dialect.comment!r} are comments: they are before and between the records."
    yield from _of_layout(reading, layout, dialect, given)


def named(delimiter: str) -> str:
    """Return a delimiter as people call it."""
    return NAMES.get(delimiter, repr(delimiter))


def _of_delimiter(reading: Reading, dialect: Dialect) -> str:
    if not reading.ways.delimiter:
        return (
            f"There is one column: no delimiter divides all records alike ({named(dialect.delimiter)} is never used)."
        )
    looked_at = reading.end - reading.start
    return (
        f"The delimiter is {named(dialect.delimiter)}: "
        f"{reading.agreeing} of {looked_at} records looked at have {reading.width} fields."
    )


def _of_quote(reading: Reading, dialect: Dialect) -> Iterator[str]:
    if not dialect.quote and reading.faults:
        yield f"There are no quotes around fields: {reading.faults} fields hold a quote that is text."
    elif not dialect.quote:
        yield "There are no quotes around fields."
    elif reading.quoted:
        yield f"The quote is {dialect.quote}: {reading.quoted} fields looked at are in it."


def _of_layout(reading: Reading, layout: Layout, dialect: Dialect, given: frozenset[str]) -> Iterator[str]:
    if "skip_rows" not in given and dialect.skip_rows:
        yield f"The table begins on line {dialect.skip_rows + 1}; the lines before it are no records of it."
    line = reading.rows[layout.header].line
    if not given & {"header", "header_rows"}:
        if dialect.header_rows and layout.fit >= FITS:
            yield f"The header is on line {line}: the dataset knows {layout.fit:.0%} of it."
        elif dialect.header_rows:
            yield f"The header is on line {line}: {layout.why}."
        else:
            yield f"There is no header: {layout.why}."
        if dialect.header_rows > 1:
            yield f"The header has {dialect.header_rows} records; their names are joined."
    if "footer_rows" not in given and dialect.footer_rows:
        yield f"{dialect.footer_rows} records at the end are no records of the table."


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f'"{name.replace(chr(34), chr(34) * 2)}"' for name in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
