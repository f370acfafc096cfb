"""A dataset by its definition: one version of it, as uploads and answers use it. Pure values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingest.caller import Caller
from ingest.definitions.matching import Reading
from ingest.definitions.model import Definition
from ingest.definitions.planning import (
    check_parameters,
    fields_of,
    match_definition,
    missing_columns,
    names_known,
    plan_load,
    platform_of,
)
from ingest.dialect import Dialect
from ingest.spec import LoadSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinedDataset:
    """A definition and its version in the database."""

    definition: Definition
    version: int

    @property
    def name(self) -> str:
        """The name that requests use."""
        return self.definition.name

    def is_for(self, caller: Caller) -> bool:
        """Whether the caller may load into it and know of it: when it names owners, they alone and admins."""
        owners = self.definition.owners
        return not owners or caller.is_admin or caller.owner in owners

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Raise RequestError (E_OPTION) for a parameter that the dataset does not take, or one that is missing."""
        check_parameters(self.definition, parameters)

    def spec(
        self, names: Sequence[str], *, dialect: Dialect, parameters: Mapping[str, str], resubmission: bool = False
    ) -> LoadSpec:
        """Return how a file with this header is loaded. Raises FileError (E_HEADER_MISMATCH), RequestError."""
        return plan_load(
            self.definition,
            names,
            version=self.version,
            dialect=dialect,
            parameters=parameters,
            resubmission=resubmission,
        )

    def names_known(self) -> frozenset[str]:
        """Return all names that a column of a file may have, squeezed."""
        return names_known(self.definition)

    def own_names(self) -> list[str]:
        """Return the columns that a file can bring, in their order."""
        return [name for name, column in self.definition.columns.items() if column.parameter is None]

    def read_header(self, names: Sequence[str]) -> Reading:
        """Return how the header is read, fitting or not; the columns of `rejects.csv` are let pass."""
        definition = self.definition
        platform = platform_of(definition, names)
        matches = match_definition(definition, names, platform=platform, resubmission=True)
        given = dict.fromkeys(definition.parameters, "-")
        fields = fields_of(definition, matches, platform=platform, parameters=given)
        return Reading(
            dataset=self.name,
            matches=matches,
            types={name: column.type for name, column in definition.columns.items() if column.parameter is None},
            required=frozenset(name for name, field in fields.items() if field.required and field.default is None),
            missing=tuple(missing_columns(definition, fields)),
            ignores_unknown=definition.unknown_columns == "ignore",
            platform=platform,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the dataset as the API shows it: what its file says, all defaults filled in."""
        whole = self.definition.model_dump(mode="json", exclude_none=True)
        return {
            "name": self.name,
            "table": ".".join(self.definition.tables[0].schema_and_table),
            "mode": str(self.definition.tables[0].mode),
            "key": list(self.definition.tables[0].key),
            "description": self.definition.description,
            "version": self.version,
            "order": str(self.definition.order),
            "unknown_columns": self.definition.unknown_columns,
            "max_rejects": self.definition.max_rejects,
            "parameters": whole["parameters"],
            "platforms": whole["platforms"],
            "columns": [{"name": name, **column} for name, column in whole["columns"].items()],
            "checks": whole["checks"],
            "targets": [
                {**target.model_dump(mode="json"), "columns": target.pairs(self.definition.columns)}
                for target in self.definition.tables
            ],
        }


def fingerprint(definition: Definition) -> bytes:
    """Return the SHA-256 of what a definition says, whatever its file looks like."""
    return hashlib.sha256(json.dumps(definition.to_json(), sort_keys=True).encode()).digest()
