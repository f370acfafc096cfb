"""Definitions: what a file may say, and for every mistake the line, the key and what is wrong there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ingest.definitions.model import Definition
from ingest.definitions.text import DefinitionError, read_definition
from ingest.spec import Merge, Order

ORDERS = """\
name = "orders"
table = "sales.orders"
key = ["id"]
mode = "upsert"
max_rejects = "5%"

[parameters.shop]
description = "which shop"

[columns.id]
type = "bigint"
required = true

[columns.amount]
type = "numeric(10,2)"
aliases = ["Total", "Betrag"]
format = "1.234,56"
min = 0
max = 9.5

[columns.paid]
type = "boolean"
true = ["ja"]
false = ["nein"]

[columns.shop]
type = "text"
parameter = "shop"

[platforms.amazon]
marks = ["asin"]
columns.amount = ["item-price"]
formats.amount = "$1,200.50"

[[checks]]
name = "small"
expression = "amount < 100 OR paid"
"""

MANY = """\
name = "many"
[columns.a]
type = "text"
[columns.b]
type = "date"
[[targets]]
table = "one"
[[targets]]
table = "two"
columns = { x = "a", y = "b" }
key = ["x"]
mode = "skip"
needs = ["b"]
"""


def faults(text: str) -> tuple[str, ...]:
    """Return what is wrong with a definition, without the file's name."""
    with pytest.raises(DefinitionError) as raised:
        read_definition(text, "d.toml")
    assert "\n" not in raised.value.detail
    assert all(fault.startswith("d.toml:") for fault in raised.value.faults)
    return tuple(fault.removeprefix("d.toml:") for fault in raised.value.faults)


def test_a_definition_is_read() -> None:
    """With numbers and booleans as the texts they stand for, and one table at the top as a target."""
    definition = read_definition(ORDERS, "d.toml")
    assert (definition.columns["amount"].min, definition.columns["amount"].max) == ("0", "9.5")
    assert (definition.order, definition.unknown_columns, definition.max_rejects) == (Order.FILE, "reject", "5%")
    [target] = definition.tables
    assert (target.schema_and_table, target.mode, target.key) == (("sales", "orders"), Merge.UPSERT, ("id",))


def test_targets_name_their_columns() -> None:
    """By a table of their own names; without any, all columns of the dataset."""
    one, two = read_definition(MANY, "d.toml").tables
    columns = read_definition(MANY, "d.toml").columns
    assert one.pairs(columns) == {"a": "a", "b": "b"}
    assert (two.pairs(columns), two.schema_and_table) == ({"x": "a", "y": "b"}, ("public", "two"))


@pytest.mark.parametrize("text", [ORDERS, MANY])
def test_a_definition_survives_being_stored(text: str) -> None:
    """As JSON, only what was said."""
    definition = read_definition(text, "d.toml")
    assert Definition.from_json(definition.to_json()) == definition
    assert "nulls" not in definition.to_json()["columns"]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        # what a key may hold
        ('name = "orders"', 'name = "Orders"', "1: name: must be a name: small letters, digits and _, not 'Orders'"),
        ('name = "orders"', "", "1: name: is missing"),
        ('type = "bigint"', 'type = "big;int"', "11: columns.id.type: must be a type of PostgreSQL, like bigint or numeric(10,2), not 'big;int'"),
        ('type = "bigint"', "", "10: columns.id.type: is missing"),
        ('table = "sales.orders"', 'table = "a.b.c"', "2: table: must be a table, or schema.table, not 'a.b.c'"),
        ('max_rejects = "5%"', 'max_rejects = "500%"', "5: max_rejects: must be a count like 100 or a share like 5%, not '500%'"),
        ("required = true", "required = 1", "12: columns.id.required: must be true or false, not 1"),
        ('["Total", "Betrag"]', '"Total"', "16: columns.amount.aliases: must be a list, not 'Total'"),
        ('["Total", "Betrag"]', '["Total", ""]', "16: columns.amount.aliases.2: must not be empty, not ''"),
        ("min = 0", "minimum = 0", "18: columns.amount.minimum: is not a key here"),
        ('mode = "upsert"', 'mode = "merge"', "4: mode: must be 'append', 'skip' or 'upsert', not 'merge'"),
        ('marks = ["asin"]', "marks = []", "31: platforms.amazon.marks: must not be empty"),
        ('expression = "amount < 100 OR paid"', 'expression = "a; drop"', "37: checks.1.expression: must be one SQL expression, not 'a; drop'"),
        # what the parts say of one another
        ('key = ["id"]', 'key = ["nr"]', "3: key: 'nr' is not a column of this target"),
        ('key = ["id"]', "", "4: mode: upsert needs a key: it tells which rows are the same"),
        ('mode = "upsert"', 'update = ["paid"]', "4: update: only an upsert changes rows"),
        ('mode = "upsert"', 'mode = "upsert"\nupdate = ["id"]', "5: update: 'id' is the key: it cannot change"),
        ('table = "sales.orders"', "", "3: key: belongs to a table at the top; with [[targets]] each target has its own"),
        ('"Betrag"', '"ID"', "16: columns.amount.aliases: 'ID' names the column 'id' too"),
        ("[columns.paid]", "[columns.i_d]", "21: columns.i_d: the name cannot be told from 'id'"),
        ('"1.234,56"', '"x"', "17: columns.amount.format: 'x' is no number format: write an example like 1.234,56 or $1,200.50"),
        ("max = 9.5", "max = -1", "19: columns.amount.max: must not be less than min (0)"),
        ("max = 9.5", "min_length = 3\nmax_length = 2", "20: columns.amount.max_length: must not be less than min_length (3)"),
        ('true = ["ja"]', 'true = ["NEIN"]', "24: columns.paid.false: 'nein' is said twice"),
        ('type = "boolean"', 'type = "text"', "23: columns.paid.true: only a boolean has such words, not text; use words"),
        ('parameter = "shop"', 'parameter = "store"', "28: columns.shop.parameter: there is no [parameters.store]"),
        ('parameter = "shop"', 'parameter = "shop"\naliases = ["s"]', "29: columns.shop.aliases: the job gives this value, so no column of the file can"),
        ("columns.amount = ", "columns.price = ", "32: platforms.amazon.columns.price: there is no column 'price' that comes from the file"),
        ("formats.amount = ", "formats.paid = ", "33: platforms.amazon.formats.paid: a format is for dates and numbers, not for boolean"),
        ("formats.amount = ", "formats.price = ", "33: platforms.amazon.formats.price: there is no column 'price'"),
        ("[parameters.shop]", "[parameters.mode]", "7: parameters.mode: requests have an option of this name already"),
        ("[[checks]]", '[[checks]]\nname = "small"\nexpression = "true"\n[[checks]]', "39: checks.2.name: there are two checks 'small'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line(old: str, new: str, fault: str) -> None:
    """And the dotted key, as the first or only fault."""
    assert old in ORDERS
    assert fault in faults(ORDERS.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('table = "two"', 'table = "public.one"', "9: targets.2.table: there are two targets 'public.one'"),
        ('y = "b"', 'y = "c"', "10: targets.2.columns: there is no column 'c'"),
        ('key = ["x"]', 'key = ["a"]', "11: targets.2.key: 'a' is not a column of this target"),
        ('needs = ["b"]', 'needs = ["c"]', "13: targets.2.needs: there is no column 'c'"),
        (
            'name = "many"',
            'name = "many"\ntable = "t"',
            "2: table: say either a table at the top or [[targets]], not both",
        ),
    ],
)
def test_a_mistake_in_a_target_is_named_with_its_line(old: str, new: str, fault: str) -> None:
    """Targets are counted from 1."""
    assert fault in faults(MANY.replace(old, new))


def test_every_mistake_is_named() -> None:
    """One a line; the summary tells how many more there are."""
    text = ORDERS.replace('key = ["id"]', 'key = ["nr"]').replace('"Betrag"', '"id"')
    assert len(faults(text)) == 2
    with pytest.raises(DefinitionError) as raised:
        read_definition(text, "d.toml")
    assert "(and 1 more" in raised.value.detail


def test_a_definition_needs_a_table() -> None:
    """Either form."""
    assert faults('name = "x"\n[columns.a]\ntype = "text"') == (" a definition needs a table, or [[targets]]",)


def test_what_is_not_toml_is_named_with_its_place() -> None:
    """As the parser has it."""
    [fault] = faults("name = \n")
    assert fault.startswith(" this is not TOML: ")
    assert "line 1" in fault
    assert faults("a = " + "[" * 100_000) == (" this is not TOML: it is nested too deeply",)


def test_the_example_in_the_readme_is_a_definition() -> None:
    """So that nobody begins with a mistake of ours."""
    text = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert read_definition(example, "README.md").name == "orders"
