"""The command line's options that say how a file is written: those of requests, with hyphens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import click

from ingest.dialectoptions import DIALECT_OPTIONS

Command = TypeVar("Command", bound=Callable[..., object])

HELP = {
    "delimiter": "Up to eight characters, or `tab`.",
    "quote": "One character, or `none`.",
    "escape": "What makes a quote plain inside quotes, or `none`.",
    "null": "The unquoted text that means NULL.",
    "encoding": "As windows-1252 or utf-16.",
    "newline": "lf or cr.",
    "header": "false: the file has none.",
    "header_rows": "Records that make up the header.",
    "skip_rows": "Lines before the header.",
    "footer_rows": "Lines at the end that are no records.",
    "comment": "What a line begins with that is left out.",
    "columns": "Names instead of those of the header; one that is empty is not loaded.",
    "trim": "true: white space around fields is no part of them.",
    "on_ragged": "reject, pad or merge records with another number of fields.",
    "on_header": "The header once more: reject it alone, or end the table there.",
    "on_quote": "reject or keep quotes that are not around a whole field.",
}


def dialect_flags(command: Command) -> Command:
    """Add the options to a command; what is left out is None, and detected."""
    for name in reversed(DIALECT_OPTIONS):
        command = click.option(f"--{name.replace('_', '-')}", name, help=HELP[name])(command)
    return command


def told(values: Mapping[str, str | None]) -> dict[str, str]:
    """Return those of the options that were given, as a request has them."""
    return {name: value for name in DIALECT_OPTIONS if (value := values.get(name)) is not None}
