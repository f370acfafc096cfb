"""Named statements and numbered migrations are read as they stand in sql/."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.statements import dataset_script, migrations, sql_folder, statement

PACKAGE = Path(__file__).parents[2] / "ingest"


def used_names() -> Iterator[str]:
    """Every name the code asks for."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "statement":
                name = ast.literal_eval(node.args[0])  # raises for a name that cannot be found by reading
                assert isinstance(name, str), path.name
                yield name


def test_the_code_uses_every_statement_and_no_other() -> None:
    """A statement nobody sends is dead; one that is missing would fail in production."""
    written = re.findall(r"^-- name: (\w+)$", (sql_folder() / "queries.sql").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(written) == sorted(set(used_names()))


def test_a_statement_has_no_semicolon_at_its_end() -> None:
    """It is sent by itself, and the comment above it goes with it."""
    assert statement("is_committed").startswith("SELECT EXISTS")
    assert not statement("is_committed").endswith(";")


def test_an_unknown_statement_is_a_bug() -> None:
    """No empty statement is ever sent in its place."""
    with pytest.raises(KeyError):
        statement("no_such_statement")


def test_migrations_are_numbered_without_a_gap() -> None:
    """000, 001, 002 ... each with the checksum of its text."""
    found = migrations()
    assert [migration.number for migration in found] == list(range(len(found)))
    assert found[0].name == "000_create_tables"
    assert all(m.checksum == hashlib.sha256(m.text.encode()).hexdigest() for m in found)


@pytest.mark.parametrize("name", ["../000_create_tables", "Customers", "", "none", "customers.sql"])
def test_a_dataset_script_is_found_by_its_plain_name_only(name: str) -> None:
    """Nothing outside the folder can be named."""
    assert dataset_script(name) is None
    assert "CREATE TABLE IF NOT EXISTS public.customers" in (dataset_script("customers") or "")
