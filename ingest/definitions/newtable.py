"""`new:schema.table`: a dataset that is not there yet; its columns are inferred from the file it is made for. Pure.

Names become small letters, digits and _. A type is the narrowest that all values of the sample have and that loses
nothing of them (see `infer`): later records that do not have it are rejected. With `types=text` nothing is inferred, so
no record can be of a wrong type. The table itself is made in the transaction of the job's first batch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ingest.definitions.columntypes import LONGEST_NAME, name_of, type_of
from ingest.definitions.matching import Match, Matches, Reading
from ingest.detecting import sample_records
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.header import Header
from ingest.spec import Column, LoadSpec

D = TypeVar("D")

PREFIX = "new:"
IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
TYPES = ("sample", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTable:
    """A table to be made under the name `schema.table`, for a file of `width` columns; `records` are a sample of it."""

    schema: str
    table: str
    records: Sequence[Sequence[str]] | None = None
    width: int = 0

    @property
    def name(self) -> str:
        """The dataset that the table is once it is there."""
        return f"{self.schema}.{self.table}"

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Raise RequestError (E_OPTION) for any parameter but `types`, and for what that cannot be."""
        for name, value in parameters.items():
            if name != "types":
                text = f"{name!r} is not an option of this request, and a new table takes types only"
                raise RequestError(text, code="E_OPTION", option=name, parameters=["types"])
            if value not in TYPES:
                raise RequestError(
                    f"types must be {' or '.join(TYPES)}, not {value[:50]!r}", code="E_OPTION", option=name
                )

    def spec(
        self, names: Sequence[str], *, dialect: Dialect, parameters: Mapping[str, str], resubmission: bool = False
    ) -> LoadSpec:
        """Return how a file with this header is loaded into the table that is made for it.

        Raises RequestError (E_OPTION), and E_PARENT for a file that corrects another: its table must be there already.
        """
        self.check_parameters(parameters)
        if resubmission:
            text = f"a file with corrected records belongs into a table that is there: dataset={self.name}"
            raise RequestError(text, code="E_PARENT", option="dataset")
        columns = self._columns(names, dialect, inferred=parameters.get("types") != "text")
        return LoadSpec(
            dataset=self.name,
            schema=self.schema,
            table=self.table,
            columns=columns,
            dialect=dialect,
            header=tuple(names),
            makes=", ".join(f'"{column.name}" {column.type}' for column in columns),
        )

    def names_known(self) -> frozenset[str]:
        """Return nothing: any name will do."""
        return frozenset()

    def own_names(self) -> list[str]:
        """Return names for the columns of a file without a header."""
        return [f"column_{place}" for place in range(1, self.width + 1)]

    def read_header(self, names: Sequence[str]) -> Reading:
        """Return what the columns are going to be."""
        columns = self._columns(names, Dialect(), inferred=True)
        matches = tuple(
            Match(header=name, column=one.name, name=name) for name, one in zip(names, columns, strict=True)
        )
        return Reading(
            dataset=self.name,
            matches=Matches(columns=matches, unknown=(), duplicate=()),
            types={column.name: column.type for column in columns},
            required=frozenset(),
            missing=(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the dataset as the API shows it."""
        return {"name": self.name, "table": self.name, "mode": "append", "columns": []}

    def _columns(self, names: Sequence[str], dialect: Dialect, *, inferred: bool) -> tuple[Column, ...]:
        kinds = [self._type(place, dialect) if inferred else "text" for place in range(len(names))]
        return tuple(Column(name=name, type=kind) for name, kind in zip(_unlike(names), kinds, strict=True))

    def _type(self, place: int, dialect: Dialect) -> str:
        """Return the type of a column; a field that PostgreSQL would read otherwise, by its spaces, makes it text."""
        values = [row[place] for row in self.records or () if place < len(row) and row[place] not in ("", dialect.null)]
        return type_of(values)


def new_table(name: str) -> NewTable | None:
    """Return the table that `new:schema.table` names, None for another name. Raises RequestError (E_OPTION)."""
    if not name.startswith(PREFIX):
        return None
    schema, _, table = name.removeprefix(PREFIX).partition(".")
    if not (IDENTIFIER.fullmatch(schema) and IDENTIFIER.fullmatch(table)):
        text = "a new table is named new:schema.table, in small letters, digits and _"
        raise RequestError(text, code="E_OPTION", option="dataset")
    return NewTable(schema=schema, table=table)


def with_sample(dataset: D, header: Header, dialect: Dialect) -> D | NewTable:
    """Return a dataset; a table that is to be made for a file is shown the records behind the file's header."""
    if not isinstance(dataset, NewTable):
        return dataset
    found = sample_records(header.rest, dialect)
    whole = found[: len(found) - dialect.footer_rows]  # the end of the file may be among them
    records = [record for record in whole if len(record) == header.width]
    return replace(dataset, records=records, width=header.width)


def _unlike(names: Sequence[str]) -> list[str]:
    """Return a name for each column, none of them twice. Raises FileError (E_HEADER) when there are no columns."""
    if not names:
        raise FileError("the file has no columns that a table could have", code="E_HEADER")
    found: list[str] = []
    for place, original in enumerate(names, 1):
        name = name_of(original, f"column_{place}")
        while name in found:
            name = f"{name[: LONGEST_NAME - 8]}_c{place}"
        found.append(name)
    return found
