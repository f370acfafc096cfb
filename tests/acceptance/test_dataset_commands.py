"""`ingest datasets`: definitions are checked, applied and shown; a wrong one stops what needs it."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from tests.acceptance.client import at_once
from tests.acceptance.conftest import Run
from tests.conftest import Psql

PEOPLE = """
name = "people"
table = "people"
key = ["id"]
mode = "upsert"
[parameters.shop]
description = "which shop"
[columns.id]
type = "bigint"
aliases = ["No."]
[columns.shop]
type = "text"
parameter = "shop"
"""


def test_definitions_are_checked(run: Run, tmp_path: Path) -> None:
    right, wrong, none = tmp_path / "right.toml", tmp_path / "wrong.toml", tmp_path / "none.toml"
    right.write_text(PEOPLE)
    wrong.write_text(PEOPLE.replace('key = ["id"]', 'key = ["nr"]').replace('type = "bigint"', 'tpye = "bigint"', 1))
    files = ((right,), (right, wrong, none))

    one, all_ = at_once(partial(run, "datasets", "check", *map(str, paths)) for paths in files)

    assert (one.code, one.err) == (0, "")
    assert "dataset people, 2 columns" in one.out
    assert all_.code == 2
    assert all_.err.splitlines() == [
        f"{wrong}:8: columns.id.type: is missing",
        f"{wrong}:9: columns.id.tpye: is not a key here",
        f"{none}: the file cannot be read: No such file or directory",
    ]


def test_a_definition_is_applied_and_shown(run: Run, psql: Psql, tmp_path: Path) -> None:
    path = tmp_path / "people.toml"
    path.write_text(PEOPLE)
    applied, again = run("datasets", "apply", str(path)), run("datasets", "apply", str(path))
    path.write_text(PEOPLE.replace("bigint", "integer"))
    changed = run("datasets", "apply", str(path))

    assert [ended.out for ended in (applied, again, changed)] == [
        "dataset people is at version 1\n",
        "dataset people is at version 1\n",
        "dataset people is at version 2\n",
    ]
    assert psql("select count(*) from ingest.datasets where name = 'people'") == "2"
    shown, as_json = run("datasets", "show", "people"), run("datasets", "show", "people", "--json")
    assert [" ".join(line.split()) for line in shown.out.splitlines()] == [
        "people -> public.people, upsert, key id, order file, version 2",
        "id integer also No.",
        "shop text parameter shop",
        "takes shop: which shop",
    ]
    assert json.loads(as_json.out)["columns"][0]["aliases"] == ["No."]


def test_a_wrong_definition_in_the_folder_stops_the_start(run: Run, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(PEOPLE.replace("bigint", "big,int"))
    commands = (("serve", "--port", "0"), ("datasets", "list"), ("load", "-", "--dataset", "people"))
    for ended in at_once(partial(run, *words, INGEST_DATASETS=str(tmp_path)) for words in commands):
        assert (ended.code, ended.out) == (2, "")
        assert ended.error_line.startswith(f"ingest: {tmp_path / 'wrong.toml'}:9: columns.id.type: must be a type")


def test_a_load_takes_parameters(run: Run, psql: Psql, tmp_path: Path) -> None:
    psql("create table people (id bigint primary key, shop text)")
    (tmp_path / "people.toml").write_text(PEOPLE)
    (tmp_path / "p.csv").write_text("No.\n1\n2\n")
    load = partial(run, "load", str(tmp_path / "p.csv"), "--dataset", "people", INGEST_DATASETS=str(tmp_path))
    done, missing, unknown, wrong = (
        load("--parameter", "shop=a=b"),
        load(),
        load("--parameter", "shop=s", "--parameter", "colour=red"),
        load("--parameter", "shop"),
    )
    assert (done.code, psql("select string_agg(shop || id, ',' order by id) from people")) == (0, "a=b1,a=b2")
    assert (missing.code, unknown.code, wrong.code) == (1, 1, 2)
    assert "shop is missing: dataset people needs it (which shop)" in missing.err
    assert "'colour' is not an option of this request" in unknown.err


def test_a_definition_is_suggested_and_loads_the_file(run: Run, psql: Psql, tmp_path: Path) -> None:
    data = tmp_path / "Orders 2026.csv"
    data.write_text("Order No.,Zip,Paid\n1,00123,yes\n2,99,no\n")
    psql("create table orders_2026 (order_no bigint, zip text, paid boolean)")

    suggested = run("datasets", "infer", str(data))
    (tmp_path / "orders.toml").write_text(suggested.out)
    loaded = run("load", str(data), "--dataset", "orders_2026", INGEST_DATASETS=str(tmp_path))

    assert (suggested.code, loaded.code) == (0, 0)
    assert (
        psql("select string_agg(order_no || zip || paid, ',' order by order_no) from orders_2026")
        == "100123true,299false"
    )


def test_a_definition_is_suggested_for_a_table(run: Run, psql: Psql) -> None:
    psql("create table t (id bigint primary key, name text not null)")
    asked = (("--table", "public.t"), (), ("--table", "customers"), ("none.csv",), ("--table", "public.none"))
    table, neither, dataset, missing, unknown = at_once(partial(run, "datasets", "infer", *words) for words in asked)
    assert [ended.code for ended in (table, neither, dataset, missing, unknown)] == [0, 2, 2, 1, 1]
    assert 'table = "public.t"\nkey = ["id"]\nmode = "upsert"' in table.out
    assert missing.error_line == "ingest: none.csv cannot be read: No such file or directory"
