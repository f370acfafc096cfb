"""A dataset definition: what a TOML file says about a dataset, as values.

Names of columns here are the dataset's own. A target pairs them with the columns of its table; a platform gives them
other names. `ingest.definitions.planning` turns a definition and a header into what a worker does.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from ingest.spec import Merge, Order

NAME = r"^[a-z][a-z0-9_]{0,62}$"
# A type name goes into statements: words, an optional length, an optional time zone, optional brackets; nothing else.
TYPE = r"^[A-Za-z_][\w ]*(\.\w+)?(\(\s*\d+\s*(,\s*-?\d+\s*)?\))?( with(out)? time zone)?(\[\])?$"
TABLE = r"^[^.\x00\"]{1,63}(\.[^.\x00\"]{1,63})?$"
# The statement that judges records has three columns for each of the dataset's, and PostgreSQL takes 1664 in all.
MOST_COLUMNS = 550
MANY = 2000  # columns, aliases, words: far more than any dataset has


def _as_text(value: object) -> object:
    """TOML has numbers, dates and booleans; what is compared or filled in is the text of a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float | date | datetime) else value


Text = Annotated[str, BeforeValidator(_as_text)]
Name = Annotated[str, Field(pattern=NAME)]
Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(max_length=MANY)]
Texts = Annotated[tuple[Text, ...], Field(max_length=MANY)]


class Part(BaseModel):
    """A part of a definition: nothing unknown is let pass, nothing can be changed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Parameter(Part):
    """A value that each job gives, the same for all its records."""

    description: str | None = None
    required: StrictBool = True


class Platform(Part):
    """Where a file may come from: `marks` are header names that only its files have together.

    `columns` are its names for the dataset's columns, tried before all others; `formats` replace the columns' formats.
    """

    description: str | None = None
    marks: Annotated[Words, Field(min_length=1)]
    columns: dict[Name, Words] = {}
    formats: dict[Name, str] = {}


class ColumnDefinition(Part):
    """A column of the dataset: its type, its other names, how its text is read, and what must hold of it."""

    type: Annotated[str, Field(pattern=TYPE, max_length=100)]
    description: str | None = None
    required: StrictBool = False
    default: Text | None = None
    aliases: Words = ()
    trim: StrictBool = True
    nulls: Texts = ("",)  # most exports write every field in quotes, the empty ones too
    words: dict[str, Text] = {}
    true: Texts = ()
    false: Texts = ()
    format: Annotated[str, Field(min_length=1, max_length=50)] | None = None
    parameter: Name | None = None
    min: Text | None = None
    max: Text | None = None
    min_length: Annotated[StrictInt, Field(ge=0)] | None = None
    max_length: Annotated[StrictInt, Field(ge=0)] | None = None
    pattern: Annotated[str, Field(min_length=1)] | None = None
    one_of: Texts = ()
    email: StrictBool = False
    message: str | None = None


class CheckDefinition(Part):
    """A condition on the whole record, as an SQL expression over the dataset's columns."""

    name: Name
    expression: Annotated[str, Field(min_length=1, pattern=r"^[^;\x00]+$")]
    message: str | None = None


class TargetDefinition(Part):
    """A table that records go to. `columns` maps its columns to the dataset's; a list means the same names."""

    table: Annotated[str, Field(pattern=TABLE)]
    columns: dict[str, Name] | tuple[Name, ...] = ()
    key: tuple[str, ...] = ()
    mode: Merge = Merge.APPEND
    update: tuple[str, ...] | None = None
    needs: tuple[Name, ...] = ()

    @property
    def schema_and_table(self) -> tuple[str, str]:
        """The table's schema, `public` when the definition names none, and its name."""
        schema, dot, table = self.table.partition(".")
        return (schema, table) if dot else ("public", schema)

    def pairs(self, columns: dict[str, ColumnDefinition]) -> dict[str, str]:
        """Return the dataset's column of each table column; without a list, all of them under their own names."""
        if isinstance(self.columns, dict):
            return self.columns
        return {name: name for name in self.columns or columns}


class Definition(Part):
    """A dataset as its file defines it. A single table may be said at the top, without `[[targets]]`."""

    name: Annotated[str, Field(pattern=NAME)]
    description: str | None = None
    owners: Words = ()  # whose keys may use it; nobody named: everybody's
    unknown_columns: Literal["reject", "ignore"] = "reject"
    order: Order = Order.FILE
    max_rejects: Annotated[Text, Field(pattern=r"^(\d{1,18}|(100|\d{1,2}(\.\d{1,4})?) ?%)$")] | None = None
    parameters: dict[Name, Parameter] = {}
    platforms: dict[Name, Platform] = {}
    columns: Annotated[dict[Name, ColumnDefinition], Field(min_length=1, max_length=MOST_COLUMNS)]
    checks: tuple[CheckDefinition, ...] = ()
    targets: tuple[TargetDefinition, ...] = ()
    table: Annotated[str, Field(pattern=TABLE)] | None = None
    key: tuple[str, ...] = ()
    mode: Merge = Merge.APPEND
    update: tuple[str, ...] | None = None

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Read back what `to_json` wrote. Raises ValidationError for what another version wrote differently."""
        return cls.model_validate(data)

    def to_json(self) -> dict[str, Any]:
        """Return the definition as it is stored and shown: only what was said, so that defaults may grow."""
        return self.model_dump(mode="json", exclude_unset=True)

    @property
    def tables(self) -> tuple[TargetDefinition, ...]:
        """The targets, also when there is one that is said at the top."""
        if self.table is None:
            return self.targets
        return (TargetDefinition(table=self.table, key=self.key, mode=self.mode, update=self.update),)
