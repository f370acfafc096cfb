"""Datasets: where rows go and how to read them. Any existing table is one; some are shipped with the project.

A table is a dataset under `schema.table`, only in the schemas that the settings allow; identifiers always come from
the catalogue, never from a request or a header.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ingest.database import Database, Record
from ingest.errors import FileError, RequestError
from ingest.spec import Column
from ingest.statements import dataset_script, statement

# Datasets that the project ships: the table each fills, made by sql/datasets/NAME.sql when it is first used.
SHIPPED = {"customers": ("public", "customers")}
SHIPPED_DESCRIPTIONS = {"customers": "One row a customer, known by e-mail address."}


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetColumn:
    """A column of the target table as the catalogue has it; `type` includes its length."""

    name: str
    type: str
    required: bool  # NOT NULL and nothing to fill it
    generated: bool
    is_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset: a name and the table it fills."""

    name: str
    schema: str
    table: str
    columns: tuple[TargetColumn, ...]
    description: str | None = None
    order_columns: frozenset[str] = frozenset()  # of keys and references to the table itself; "" for what is computed

    def is_keyed(self, columns: Sequence[Column]) -> bool:
        """Tell whether records that fill `columns` can collide with one another or refer to one another."""
        return bool(self.order_columns & {"", *(column.name for column in columns)})

    def plan(self, header: Sequence[str]) -> tuple[Column, ...]:
        """Map a header to the table's columns, in file order.

        Names are matched exactly, else after trim, case folding and Unicode normalisation. Raises FileError
        (E_HEADER_MISMATCH) that names every missing, unknown and duplicate column at once.
        """
        exact = {column.name: column for column in self.columns}
        folded = _unambiguous(self.columns)
        matches = [exact.get(name) or folded.get(fold(name)) for name in header]
        found = [match for match in matches if match is not None and not match.generated]
        counts = Counter(column.name for column in found)
        unknown = [name for name, match in zip(header, matches, strict=True) if match is None or match.generated]
        duplicate = sorted(name for name, count in counts.items() if count > 1)
        missing = [column.name for column in self.columns if column.required and column.name not in counts]
        if unknown or duplicate or missing:
            raise self._mismatch(missing, unknown, duplicate)
        return tuple(Column(name=column.name, type=column.type) for column in found)

    def _mismatch(self, missing: list[str], unknown: list[str], duplicate: list[str]) -> FileError:
        parts = [
            f"{label}: {_shown(names)}"
            for label, names in (("missing", missing), ("unknown", unknown), ("more than once", duplicate))
            if names
        ]
        loadable = [column.name for column in self.columns if not column.generated]
        return FileError(
            f"the header does not fit dataset {self.name} ({'; '.join(parts)}). Its columns are {_shown(loadable)}",
            code="E_HEADER_MISMATCH",
            missing=missing[:100],
            unknown=[name[:100] for name in unknown[:100]],
            duplicate=duplicate[:100],
        )

    def to_json(self) -> dict[str, Any]:
        """Return the dataset as the API shows it."""
        return {
            "name": self.name,
            "table": f"{self.schema}.{self.table}",
            "mode": "append",
            "description": self.description,
            "columns": [asdict(column) for column in self.columns],
        }


class Datasets:
    """The datasets that requests may name."""

    def __init__(self, database: Database, allowed_schemas: frozenset[str]) -> None:
        self._database = database
        self._allowed_schemas = allowed_schemas

    async def find(self, name: str) -> Dataset:
        """Return a dataset. Raises RequestError (E_DATASET_UNKNOWN) when there is none of that name.

        A table in a schema that is not allowed is answered like one that does not exist.
        """
        if name in SHIPPED:
            return await self._shipped(name)
        schema, dot, table = name.partition(".")
        found = await self._table(name, schema, table) if dot and schema in self._allowed_schemas else None
        if found is None:
            raise RequestError(
                f"there is no dataset {name[:200]!r}; GET /api/v1/csv/datasets lists them", code="E_DATASET_UNKNOWN"
            )
        return found

    async def all(self) -> list[Dataset]:
        """Return every dataset: the shipped ones, then the tables of the allowed schemas."""
        rows = await self._database.fetch(statement("tables_of_schemas"), sorted(self._allowed_schemas))
        tables = [
            await self._table(f"{row['schema']}.{row['table']}", row["schema"], row["table"], row["description"])
            for row in rows
        ]
        return [await self._shipped(name) for name in SHIPPED] + [table for table in tables if table is not None]

    async def _shipped(self, name: str) -> Dataset:
        schema, table = SHIPPED[name]
        found = await self._table(name, schema, table, SHIPPED_DESCRIPTIONS[name])
        if found is None:
            await self._database.execute(dataset_script(name) or "")
            found = await self._table(name, schema, table, SHIPPED_DESCRIPTIONS[name])
        if found is None:
            raise RequestError(f"the table of dataset {name} cannot be read", code="E_DATASET_UNKNOWN")
        return found

    async def _table(self, name: str, schema: str, table: str, description: str | None = None) -> Dataset | None:
        if "\x00" in schema + table:
            return None
        rows = await self._database.fetch(statement("columns_of_table"), schema, table)
        if not rows:
            return None
        ordered = await self._database.fetch(statement("order_columns"), schema, table)
        return Dataset(
            name=name,
            schema=schema,
            table=table,
            columns=tuple(_column_from(row) for row in rows),
            description=description,
            order_columns=frozenset(row["name"] for row in ordered),
        )


def _column_from(row: Record) -> TargetColumn:
    return TargetColumn(
        name=row["name"],
        type=row["type"],
        required=row["not_null"] and not row["has_default"] and not row["generated"],
        generated=row["generated"],
        is_key=row["is_key"],
    )


def fold(name: str) -> str:
    """Return a column name as it is compared when it does not match to the letter."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _unambiguous(columns: Sequence[TargetColumn]) -> dict[str, TargetColumn]:
    counts = Counter(fold(column.name) for column in columns)
    return {fold(column.name): column for column in columns if counts[fold(column.name)] == 1}


def _shown(names: Sequence[str], most: int = 20) -> str:
    text = ", ".join(repr(name[:60]) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
