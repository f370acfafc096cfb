"""A plain table as a dataset: its columns are those of the catalogue, its records are appended. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ingest.definitions.matching import PARENT_LINE, REJECT_COLUMNS, Matches, Reading, match_header, mismatch
from ingest.definitions.names import squeezed
from ingest.dialect import Dialect
from ingest.errors import RequestError
from ingest.spec import Column, Field, LoadSpec, Order, Plan, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetColumn:
    """A column of the target table as the catalogue has it; `type` includes its length."""

    name: str
    type: str
    required: bool  # NOT NULL and nothing to fill it
    generated: bool
    is_key: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDataset:
    """A table that rows are appended to, under the name `schema.table`."""

    name: str
    schema: str
    table: str
    columns: tuple[TargetColumn, ...]
    description: str | None = None
    order_columns: frozenset[str] = frozenset()  # of keys and references to the table itself; "" for what is computed

    def is_keyed(self, columns: Sequence[Column]) -> bool:
        """Tell whether records that fill `columns` can collide with one another or refer to one another."""
        return bool(self.order_columns & {"", *(column.name for column in columns)})

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Raise RequestError (E_OPTION) for any parameter: a table takes none."""
        for name in parameters:
            text = f"{name!r} is not an option of this request, and dataset {self.name} takes no parameters"
            raise RequestError(text, code="E_OPTION", option=name, parameters=[])

    def spec(
        self, names: Sequence[str], *, dialect: Dialect, parameters: Mapping[str, str], resubmission: bool = False
    ) -> LoadSpec:
        """Return how a file with this header is loaded. Raises FileError (E_HEADER_MISMATCH), RequestError (E_OPTION).

        There is a plan only if the file came back with the columns that `rejects.csv` adds: all others are loaded
        as they are.
        """
        self.check_parameters(parameters)
        extra = [name for name in REJECT_COLUMNS if name in names] if resubmission else []
        matches = self.match(names, extra)
        types = {column.name: column.type for column in self.columns}
        columns = tuple(
            Column(name=match.column or match.header, type=types[match.column] if match.column else "text")
            for match in matches.columns
        )
        loaded = [column for column, match in zip(columns, matches.columns, strict=True) if match.column]
        return LoadSpec(
            dataset=self.name,
            schema=self.schema,
            table=self.table,
            columns=columns,
            dialect=dialect,
            header=tuple(names),
            keyed=self.is_keyed(loaded),
            plan=self._plan(matches, types) if extra else None,
        )

    def names_known(self) -> frozenset[str]:
        """Return all names that a column of a file may have, squeezed."""
        return squeezed(tuple(self.own_names()))

    def own_names(self) -> list[str]:
        """Return the columns that a file can bring, in their order."""
        return [column.name for column in self.columns if not column.generated]

    def read_header(self, names: Sequence[str]) -> Reading:
        """Return how the header is read, fitting or not; the columns of `rejects.csv` are let pass."""
        loadable = {column.name: column.type for column in self.columns if not column.generated}
        matches = match_header(names, [[(name, name) for name in loadable]], ignored=REJECT_COLUMNS)
        required = [column.name for column in self.columns if column.required]
        missing = tuple(name for name in required if name not in matches.positions)
        return Reading(
            dataset=self.name, matches=matches, types=loadable, required=frozenset(required), missing=missing
        )

    def match(self, names: Sequence[str], ignored: Sequence[str] = ()) -> Matches:
        """Match a header with the columns that can be loaded. Raises FileError (E_HEADER_MISMATCH)."""
        loadable = [column.name for column in self.columns if not column.generated]
        matches = match_header(names, [[(name, name) for name in loadable]], ignored=ignored)
        missing = [column.name for column in self.columns if column.required and column.name not in matches.positions]
        if missing or matches.unknown or matches.duplicate:
            raise mismatch(
                self.name, missing=missing, unknown=matches.unknown, duplicate=matches.duplicate, columns=loadable
            )
        return matches

    def _plan(self, matches: Matches, types: Mapping[str, str]) -> Plan:
        """Return the plan that loads the table's own columns as they are, and nothing of those that came along."""
        headers = [match.header for match in matches.columns]
        fields = tuple(
            Field(name=name, type=types[name], position=place, trim=False) for name, place in matches.positions.items()
        )
        target = Target(schema=self.schema, table=self.table, columns=tuple((f.name, f.name) for f in fields))
        return Plan(
            fields=fields,
            targets=(target,),
            order=Order.FILE,
            parent_line=headers.index(PARENT_LINE) if PARENT_LINE in headers else None,
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
