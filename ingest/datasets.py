"""Datasets: where rows go and how to read them. Definitions are kept in the database; any existing table is one too.

The latest version of a definition counts. Those that were read from files at the start become versions when they are
first asked for, if they say anything new. A table is a dataset under `schema.table`, only in the schemas that the
settings allow; identifiers always come from the catalogue, never from a request or a header.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pydantic import ValidationError

from ingest.caller import ANYBODY, Caller
from ingest.database import Database, Record
from ingest.datasetfiles import known_definitions
from ingest.definitions.defined import DefinedDataset, fingerprint
from ingest.definitions.detection import AUTO, AutoDataset
from ingest.definitions.matching import Reading
from ingest.definitions.model import Definition
from ingest.definitions.newtable import NewTable, new_table
from ingest.definitions.tables import TableDataset, TargetColumn
from ingest.dialect import Dialect
from ingest.errors import RequestError
from ingest.spec import LoadSpec, Order
from ingest.statements import statement
from ingest.targets import Targets


class Dataset(Protocol):
    """What an upload needs to know of a dataset, be it a table or a definition."""

    @property
    def name(self) -> str: ...

    def check_parameters(self, parameters: Mapping[str, str]) -> None: ...

    def spec(
        self, names: Sequence[str], *, dialect: Dialect, parameters: Mapping[str, str], resubmission: bool = False
    ) -> LoadSpec: ...

    def names_known(self) -> frozenset[str]: ...

    def own_names(self) -> Sequence[str]: ...

    def read_header(self, names: Sequence[str]) -> Reading: ...

    def to_json(self) -> dict[str, Any]: ...


class Datasets:
    """The datasets that requests may name. `definitions` are those read from files, the shipped ones by default."""

    def __init__(
        self, database: Database, allowed_schemas: frozenset[str], definitions: Sequence[Definition] | None = None
    ) -> None:
        self._database = database
        self._allowed_schemas = allowed_schemas
        self._unsaved = list(known_definitions(None) if definitions is None else definitions)
        self._targets = Targets(database)

    async def find(self, name: str, caller: Caller = ANYBODY) -> Dataset:
        """Return a dataset; `auto` is whichever definition fits the header of a file, never a table.

        `new:schema.table` is a table that is not there yet.

        Raises RequestError (E_DATASET_UNKNOWN) when there is none of that name that the caller may use, E_DATASET_TABLE
        for a new table that is there.
        A table in a schema that is not allowed is answered like one that does not exist.
        """
        if new := new_table(name):
            return await self._new(new)
        schema, dot, table = name.partition(".")
        if name == AUTO:
            return AutoDataset(datasets=tuple(found for found in await self.defined() if found.is_for(caller)))
        if not dot:
            defined = await self._definition(name)
            found: Dataset | None = defined if defined and defined.is_for(caller) else None
        else:
            found = await self._table(name, schema, table) if schema in self._allowed_schemas else None
        if found is None:
            raise RequestError(
                f"there is no dataset {name[:200]!r}; GET /api/v1/csv/datasets lists them", code="E_DATASET_UNKNOWN"
            )
        return found

    async def all(self, caller: Caller = ANYBODY) -> list[Dataset]:
        """Return every dataset that the caller may use: definitions by name, then the tables of the allowed schemas."""
        rows = await self._database.fetch(statement("tables_of_schemas"), sorted(self._allowed_schemas))
        tables = [
            await self._table(f"{row['schema']}.{row['table']}", row["schema"], row["table"], row["description"])
            for row in rows
        ]
        defined = [found for found in await self.defined() if found.is_for(caller)]
        return [*defined, *(table for table in tables if table is not None)]

    async def defined(self) -> list[DefinedDataset]:
        """Return the latest version of every definition, by name."""
        await self._save_files()
        rows = await self._database.fetch(statement("latest_definitions"))
        return [_defined_from(row) for row in rows]

    async def save(self, definition: Definition) -> int:
        """Store a definition unless its latest version says the same; return the version that holds."""
        version: int = await self._database.value(
            statement("save_definition"), definition.name, json.dumps(definition.to_json()), fingerprint(definition)
        )
        return version

    async def ready(self, spec: LoadSpec) -> LoadSpec:
        """Make sure that the tables of a plan can take its rows; those of a shipped dataset are made when missing.

        Returns the spec, which now also knows whether the tables' own keys make the order of records matter.
        Raises RequestError (E_DATASET_TABLE) that says what is wrong with which table.
        """
        if spec.version is None or spec.plan is None:
            return spec
        await self._targets.check(spec.dataset, spec.plan)
        if spec.keyed or spec.plan.order is Order.ANY:
            return spec
        return replace(spec, keyed=await self._targets.are_keyed(spec.plan))

    async def _new(self, new: NewTable) -> NewTable:
        if new.schema not in self._allowed_schemas:
            text = f"tables of schema {new.schema} may not be made: INGEST_TABLE_SCHEMAS says of which they may"
            raise RequestError(text, code="E_DATASET_UNKNOWN")
        if await self._table(new.name, new.schema, new.table):
            text = f"table {new.name} is there already: dataset={new.name} adds to it"
            raise RequestError(text, code="E_DATASET_TABLE")
        return new

    async def _definition(self, name: str) -> DefinedDataset | None:
        if "\x00" in name:
            return None
        await self._save_files()
        rows = await self._database.fetch(statement("latest_definition"), name)
        return _defined_from(rows[0]) if rows else None

    async def _save_files(self) -> None:
        """Store the definitions that were read from files, once in the life of the process."""
        for definition in tuple(self._unsaved):
            await self.save(definition)
            if definition in self._unsaved:  # another request may have been here meanwhile
                self._unsaved.remove(definition)

    async def _table(self, name: str, schema: str, table: str, description: str | None = None) -> TableDataset | None:
        if "\x00" in schema + table:
            return None
        rows = await self._database.fetch(statement("columns_of_table"), schema, table)
        if not rows:
            return None
        return TableDataset(
            name=name,
            schema=schema,
            table=table,
            columns=tuple(_column_from(row) for row in rows),
            description=description,
            order_columns=frozenset(rows[0]["order_columns"]),
        )


def _defined_from(row: Record) -> DefinedDataset:
    try:
        definition = Definition.from_json(json.loads(row["definition"]))
    except ValidationError:
        text = f"the stored definition of dataset {row['name']} is of another version of ingest: apply its file again"
        raise RequestError(text, code="E_DATASET_UNKNOWN") from None
    return DefinedDataset(definition=definition, version=row["version"])


def _column_from(row: Record) -> TargetColumn:
    return TargetColumn(
        name=row["name"],
        type=row["type"],
        required=row["not_null"] and not row["has_default"] and not row["generated"],
        generated=row["generated"],
        is_key=row["is_key"],
    )
