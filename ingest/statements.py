"""The SQL of the service, read once from sql/: named statements and numbered migrations.

The folder is inside the package when it was installed from a wheel, and beside it in a checkout.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A numbered SQL file; `checksum` is the SHA-256 of its text, in hex."""

    number: int
    name: str
    text: str
    checksum: str


def sql_folder() -> Path:
    """Return the folder with the SQL files."""
    inside = PACKAGE / "sql"
    return inside if inside.is_dir() else PACKAGE.parent / "sql"


@cache
def _named() -> dict[str, str]:
    text = (sql_folder() / "queries.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return {name: body.strip().rstrip(";") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def statement(name: str) -> str:
    """Return the named statement of sql/queries.sql; KeyError when there is none of that name."""
    return _named()[name]


def dataset_script(name: str) -> str | None:
    """Return the script that creates the tables of a shipped dataset, or None when the project ships none."""
    path = sql_folder() / "datasets" / f"{name}.sql"
    return path.read_text(encoding="utf-8") if re.fullmatch(r"[a-z_]+", name) and path.is_file() else None


def migrations() -> list[Migration]:
    """Return the numbered files of sql/ in order."""
    found = []
    for path in sorted(sql_folder().glob("[0-9][0-9][0-9]_*.sql")):
        text = path.read_text(encoding="utf-8")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found.append(Migration(number=int(path.name[:3]), name=path.stem, text=text, checksum=checksum))
    return found
