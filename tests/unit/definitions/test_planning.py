"""A definition and a header give a plan, or an error that names all that does not fit."""

from __future__ import annotations

import json

import pytest

from ingest.definitions.planning import plan_load, platform_of
from ingest.definitions.tables import TableDataset, TargetColumn
from ingest.definitions.text import read_definition
from ingest.dialect import Dialect
from ingest.errors import FileError, RequestError
from ingest.spec import LoadSpec, Merge, Order, Rule, RuleKind

ORDERS = """
name = "orders"
unknown_columns = "ignore"
max_rejects = 100

[parameters.shop]
description = "which shop"
[parameters.note]
required = false

[columns.shop]
type = "text"
parameter = "shop"
[columns.note]
type = "text"
parameter = "note"
[columns.id]
type = "bigint"
aliases = ["Order No."]
[columns.email]
type = "text"
required = true
email = true
[columns.paid]
type = "boolean"
words = { maybe = "false" }
true = ["ja"]
[columns.amount]
type = "numeric(10,2)"
aliases = ["Total", "Sum"]
format = "1.234,56"
min = 0
max = 100
message = "not that much"
[columns.product]
type = "text"
nulls = []
[columns.quantity]
type = "integer"
default = 1
one_of = [1, 2]

[platforms.amazon]
marks = ["asin", "sku"]
columns.amount = ["item-price"]
columns.product = ["asin"]
formats.amount = "$1,200.50"
[platforms.ebay]
marks = ["sku"]

[[checks]]
name = "cheap"
expression = "amount < 50 OR paid"

[[targets]]
table = "customers"
columns = ["shop", "email"]
key = ["shop", "email"]
mode = "skip"
[[targets]]
table = "sales.orders"
columns = { shop = "shop", nr = "id", amount = "amount", paid = "paid", note = "note" }
key = ["shop", "nr"]
mode = "upsert"
[[targets]]
table = "items"
columns = ["shop", "id", "product", "quantity"]
key = ["shop", "id", "product"]
mode = "upsert"
needs = ["product"]
"""

DEFINITION = read_definition(ORDERS, "orders.toml")
ONE = read_definition('name = "one"\ntable = "t"\n[columns.a]\ntype = "int"\n[columns.b]\ntype = "text"', "one.toml")


def planned(*header: str, resubmission: bool = False, **parameters: str) -> LoadSpec:
    """The spec for a file with this header, which must survive being stored."""
    spec = plan_load(
        DEFINITION,
        header,
        version=3,
        dialect=Dialect(),
        parameters={"shop": "s", **parameters},
        resubmission=resubmission,
    )
    assert LoadSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    return spec


def test_the_columns_are_those_of_the_file() -> None:
    """In its order, by its names; what stands for nothing is text."""
    spec = planned("extra", "Order No.", "E-Mail")
    assert [(column.name, column.type) for column in spec.columns] == [
        ("extra", "text"),
        ("Order No.", "bigint"),
        ("E-Mail", "text"),
    ]
    assert (spec.dataset, spec.version, spec.schema, spec.table, spec.header) == (
        "orders",
        3,
        "public",
        "customers",
        ("extra", "Order No.", "E-Mail"),
    )
    assert (spec.keyed, spec.max_rejects, spec.platform) == (True, "100", None)


def test_every_column_of_the_dataset_is_a_field() -> None:
    """From the file, from the job, or from nowhere."""
    spec = planned("id", "email", "total", "paid")
    assert spec.plan is not None
    fields = {field.name: field for field in spec.plan.fields}
    assert {name: (field.position, field.constant) for name, field in fields.items()} == {
        "shop": (None, "s"), "note": (None, None), "id": (0, None), "email": (1, None), "paid": (3, None),
        "amount": (2, None), "product": (None, None), "quantity": (None, None),
    }  # fmt: skip
    assert fields["paid"].words == (("maybe", "false"), ("ja", "true"))
    assert (fields["amount"].format, fields["quantity"].default) == ("1.234,56", "1")
    assert (fields["product"].nulls, fields["email"].nulls) == ((), ("",))
    assert fields["amount"].rules == (
        Rule(kind=RuleKind.MIN, arguments=("0",), message="not that much"),
        Rule(kind=RuleKind.MAX, arguments=("100",), message="not that much"),
    )
    assert fields["quantity"].rules == (Rule(kind=RuleKind.ONE_OF, arguments=("1", "2")),)
    assert fields["email"].rules == (Rule(kind=RuleKind.EMAIL),)
    assert [check.name for check in spec.plan.checks] == ["cheap"]


def test_keys_are_required_where_every_record_has_a_row() -> None:
    """A record without its key could not be told from others."""
    plan = planned("id", "email", "product").plan
    assert plan is not None
    assert {field.name for field in plan.fields if field.required} == {"shop", "id", "email"}


def test_targets_hold_what_the_file_gives() -> None:
    """An update changes no column that is not given; a table that would get no rows is left out."""
    plan = planned("id", "email", "total").plan
    assert plan is not None
    customers, orders = plan.targets
    assert (customers.merge, customers.key, customers.update) == (Merge.SKIP, ("shop", "email"), ())
    assert (orders.schema, orders.table, orders.merge) == ("sales", "orders", Merge.UPSERT)
    assert orders.columns == (("shop", "shop"), ("nr", "id"), ("amount", "amount"))
    assert orders.update == ("amount",)
    assert plan.order is Order.FILE


def test_a_table_that_needs_a_value_is_filled_when_the_file_has_it() -> None:
    """With the defaults of what is not given; those are not updated."""
    plan = planned("id", "email", "product", note="n").plan
    assert plan is not None
    items = plan.targets[2]
    assert (items.needs, items.key, items.update) == (("product",), ("shop", "id", "product"), ())
    assert items.columns[-1] == ("quantity", "quantity")
    assert plan.targets[1].update == ("note",)


def test_the_platform_is_seen_by_its_marks() -> None:
    """The one with the most marks; its names are preferred and its formats hold."""
    header = ("ASIN", "sku", "id", "email", "Item Price", "Total")
    assert platform_of(DEFINITION, header) == "amazon"
    assert platform_of(DEFINITION, ("sku",)) == "ebay"
    assert platform_of(DEFINITION, ("asin",)) is None
    spec = planned(*header)
    assert spec.plan is not None
    [amount] = [field for field in spec.plan.fields if field.name == "amount"]
    assert (spec.platform, amount.position, amount.format) == ("amazon", 4, "$1,200.50")


@pytest.mark.parametrize(
    ("header", "facts"),
    [
        (("email",), {"missing": ["id"], "unknown": [], "duplicate": []}),
        (("id", "x"), {"missing": ["email"], "unknown": [], "duplicate": []}),
        (("id", "ID", "x"), {"missing": ["email"], "unknown": [], "duplicate": ["id"]}),
    ],
)
def test_a_header_that_does_not_fit(header: tuple[str, ...], facts: dict[str, list[str]]) -> None:
    """All of it at once; unknown columns only where they are not ignored."""
    with pytest.raises(FileError) as raised:
        planned(*header)
    assert (raised.value.code, raised.value.facts) == ("E_HEADER_MISMATCH", facts)


def test_unknown_columns_are_refused_by_default() -> None:
    """And named."""
    with pytest.raises(FileError) as raised:
        plan_load(ONE, ["a", "c"], version=1, dialect=Dialect(), parameters={})
    assert raised.value.facts["unknown"] == ["c"]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "shop is missing: dataset orders needs it (which shop)"),
        ({"shop": " "}, "shop is missing"),
        ({"shop": "s", "colour": "red"}, "'colour' is not an option of this request, nor a parameter of dataset orders, which takes 'shop', 'note'"),
    ],
)  # fmt: skip
def test_parameters_are_checked(parameters: dict[str, str], words: str) -> None:
    """Those that are missing and those that nobody knows."""
    with pytest.raises(RequestError) as raised:
        plan_load(DEFINITION, ["id", "email"], version=1, dialect=Dialect(), parameters=parameters)
    assert raised.value.code == "E_OPTION"
    assert words in raised.value.detail


def test_a_corrected_file_comes_back_with_the_columns_of_rejects() -> None:
    """They are ignored but for the line in the parent, and only when a parent is named."""
    plan = planned("id", "email", "_line", "_column", "_code", "_error", resubmission=True).plan
    assert plan is not None
    assert plan.parent_line == 2
    with pytest.raises(FileError) as raised:
        plan_load(ONE, ["a", "_line"], version=1, dialect=Dialect(), parameters={})
    assert raised.value.facts["unknown"] == ["_line"]


def table(*, keyed: bool = False) -> TableDataset:
    """A table with a column that must be given."""
    columns = (
        TargetColumn(name="id", type="integer", required=True, generated=False, is_key=True),
        TargetColumn(name="name", type="text", required=False, generated=False, is_key=False),
    )
    return TableDataset(
        name="public.t", schema="public", table="t", columns=columns, order_columns=frozenset({"id"} if keyed else ())
    )


def test_a_table_is_loaded_as_it_is() -> None:
    """Without a plan, and keyed when a key looks at what is loaded."""
    spec = table(keyed=True).spec(["NAME", "id"], dialect=Dialect(), parameters={}, resubmission=True)
    assert [(column.name, column.type) for column in spec.columns] == [("name", "text"), ("id", "integer")]
    assert (spec.plan, spec.keyed, spec.version) == (None, True, None)


def test_a_corrected_file_of_a_table_has_a_plan() -> None:
    """That loads the table's columns as they are, and knows where the line of the parent is."""
    spec = table().spec(["_line", "id", "_error"], dialect=Dialect(), parameters={}, resubmission=True)
    assert [(column.name, column.type) for column in spec.columns] == [
        ("_line", "text"),
        ("id", "integer"),
        ("_error", "text"),
    ]
    assert spec.plan is not None
    [field], [target] = spec.plan.fields, spec.plan.targets
    assert (field.position, field.trim, field.required, field.nulls, field.type) == (1, False, False, (), "integer")
    assert (target.columns, target.merge, spec.plan.parent_line) == ((("id", "id"),), Merge.APPEND, 0)


def test_a_table_takes_no_parameters() -> None:
    """And says so."""
    with pytest.raises(RequestError) as raised:
        table().spec(["id"], dialect=Dialect(), parameters={"shop": "s"})
    assert raised.value.facts["option"] == "shop"
