"""README.md has everything that there is: settings with their defaults, error codes, commands; and its links lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from ingest.cli import commands
from ingest.settings import Settings, variables
from ingest.web.openapi import document
from ingest.web.problems import KINDS
from ingest.web.problemtexts import JOB_CODES, REJECT_CODES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WIDTH = 120

# Defaults that the README says in words.
IN_WORDS = {
    "WORKER_CONCURRENT_BATCHES": "processors + 1, to 16",
    "WORKER_BATCH_BYTES": "8388608; 2097152 for what is not only copied",
    "DATABASE_URL": "embedded",
    "STORAGE_URL": "in `INGEST_HOME`",
    "INGEST_DATASETS": "none",
    "INGEST_SOURCE_ROOTS": "none",
    "INGEST_TABLE_SCHEMAS": "`public` on loopback",
    "DATABASE_POOL_SIZE": "writers + 8; 24 for `auto`",
}


def table(heading: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of a section's table, without its head."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    for row in rows[2:]:
        yield [cell.strip() for cell in row.strip("|").split(" | ")]


def plain(value: Any, per_unit: int) -> str:
    """A default as one writes it into the environment."""
    return str(round(value * per_unit)) if isinstance(value, int | float) else str(value)


def test_every_setting_is_in_the_table_with_its_default() -> None:
    """And nothing else is, but what the commands take."""
    said: dict[str, str] = {}
    for names, defaults, _ in table("Settings"):
        several = re.findall(r"`(\w+)`", names)
        each = defaults.split(", ") if len(several) > 1 else [defaults]
        said.update(zip(several, each, strict=True))
    expected = {
        variable.name: IN_WORDS.get(variable.name) or plain(Settings.model_fields[name].default, variable.per_unit)
        for name, variable in variables().items()
    }
    for client in ("INGEST_SERVER", "INGEST_API_KEY"):
        assert said.pop(client)
    assert {name: value if name in IN_WORDS else value.strip("`") for name, value in said.items()} == expected


@pytest.mark.parametrize("codes", [KINDS, JOB_CODES, REJECT_CODES], ids=["problems", "jobs", "rejects"])
def test_every_code_is_named(codes: dict[str, Any]) -> None:
    """A person who meets one looks for it here."""
    assert {code for code in codes if f"`{code}`" not in README} == set()


def test_every_code_in_the_readme_is_one_in_use() -> None:
    """None is left of what is no longer there."""
    files = [path for top in ("ingest", "sql") for path in (ROOT / top).rglob("*.*") if path.suffix in (".py", ".sql")]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    assert {code for code in re.findall(r"`([EW]_[A-Z0-9_]+)`", README) if code not in source} == set()


def names(group: click.Group, before: str = "ingest") -> Iterator[str]:
    """Yield the commands of a group as they are typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from names(command, f"{before} {name}")
        else:
            yield f"{before} {name}"


def test_every_command_is_named() -> None:
    """As it is typed, or in a list after the first of its kind."""
    named = README.replace(
        "`ingest pause`, `resume`, `retry`, `cancel` and `delete ID`",
        "ingest pause ingest resume ingest retry ingest cancel ingest delete",
    )
    assert [name for name in names(commands) if not re.search(rf"\b{name}\b", named)] == []


def test_every_route_is_in_the_table() -> None:
    """By the end of its path, since the table names some together."""
    said = "".join(call for call, _ in table("API"))
    ends = {"/" + path.rstrip("/").rsplit("/", 1)[1] for path in document()["paths"] if path != "/"}
    assert {end for end in ends if not end.startswith("/{") and end not in said} == set()


def test_links_within_the_readme_lead_to_its_headings() -> None:
    """A heading that is renamed takes its links along."""
    headings = {
        re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-")
        for text in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= headings


def test_no_line_is_too_long() -> None:
    """Of tables a row is one line, whatever it holds; so is a record of a file."""
    lines = README.splitlines()
    assert [line for line in lines if len(line) > WIDTH and not line.startswith(("|", "alan@"))] == []
