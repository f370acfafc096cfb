"""Staged loading against an oracle in plain Python: formats, rules, keys, several targets; every fault of a record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ingest.database import Database
from ingest.spec import Check, Column, Field, LoadSpec, Merge, Plan, Rule, RuleKind, Target
from tests.integration.build import COMMA
from tests.integration.loading.ladder import Loaded, load
from tests.integration.loading.oracle import KEPT, Oracle, kept, random_lines

PEOPLE = (
    Field(name="id", type="integer", position=0, required=True),
    Field(name="mail", type="text", position=1, rules=(Rule(kind=RuleKind.EMAIL),)),
    Field(name="born", type="date", position=2, format="DD/MM/YYYY"),
    Field(name="paid", type="numeric(10,2)", position=3, format="1.234,56", rules=(Rule(kind=RuleKind.MIN, arguments=("0",)),)),
    Field(name="tier", type="text", position=4, default="free", nulls=("n/a", "-"),
          rules=(Rule(kind=RuleKind.ONE_OF, arguments=("free", "pro")),)),
    Field(name="active", type="boolean", position=5, words=(("ja", "true"), ("nein", "false"))),
    Field(name="shop", type="text", position=None, constant="acme"),
)  # fmt: skip
PEOPLE_TABLE = "id integer, mail text, born date, paid numeric(10,2), tier text, active boolean, shop text, note text"


def people(merge: Merge = Merge.APPEND, *, checks: tuple[Check, ...] = ()) -> LoadSpec:
    """A spec that uses everything a field may say."""
    target = Target(
        schema="public",
        table="people",
        columns=tuple((field.name, field.name) for field in PEOPLE),
        key=() if merge is Merge.APPEND else ("id",),
        merge=merge,
        update=("mail", "born", "paid", "tier", "active") if merge is Merge.UPSERT else (),
    )
    header = ("ID", "E-Mail", "Born", "Paid", "Tier", "Active")
    return LoadSpec(
        dataset="people",
        schema="public",
        table="people",
        columns=tuple(Column(name=name, type="text") for name in header),
        dialect=replace(COMMA, delimiter=";"),
        header=header,
        plan=Plan(fields=PEOPLE, targets=(target,), checks=checks),
    )


@pytest.fixture
async def tables(any_database: Database) -> Database:
    """A database with the table of these tests."""
    await any_database.execute(f"DROP TABLE IF EXISTS people; CREATE TABLE people ({PEOPLE_TABLE}, PRIMARY KEY (id))")
    return any_database


async def found(database: Database, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query as tuples."""
    return [tuple(row) for row in await database.fetch(sql)]


def said(loaded: Loaded) -> list[tuple[int, str | None, str | None, str, str]]:
    """Line, column, value, code and sentence of every reject."""
    names = ("line", "column_name", "value", "code", "message")
    return [tuple(reject[name] for name in names) for reject in loaded.rejects]  # type: ignore[misc]


async def test_texts_become_values_as_the_fields_say(tables: Database) -> None:
    """Blanks go, null tokens, words, formats and defaults are undone, a constant comes from the job."""
    data = b" 1 ; a@b.org ;31/12/1999; 1.234,56 ;N/A; JA \n2;;;(1,50);pro;nein\n3;;1/2/2001;;;\n"
    loaded = await load(tables, people(), data)
    assert said(loaded) == [(3, "Paid", "(1,50)", "E_RULE", "Paid must not be less than 0")]
    assert await found(
        tables, "SELECT id, mail, born::text, paid::text, tier, active, shop FROM people ORDER BY id"
    ) == [
        (1, "a@b.org", "1999-12-31", "1234.56", "free", True, "acme"),
        (3, None, "2001-02-01", None, "free", None, "acme"),
    ]


async def test_every_fault_of_a_record_is_reported(tables: Database) -> None:
    """In the words of the file's own header, with PostgreSQL's reason where it is PostgreSQL's."""
    loaded = await load(tables, people(), b'x;nobody;2001-02-03;1.2,3;gold;maybe\n;a@b.org;31/02/2000;"1,5";pro;ja\n')
    assert said(loaded) == [
        (2, "ID", "x", "E_TYPE", 'invalid input syntax for type integer: "x"'),
        (2, "Born", "2001-02-03", "E_FORMAT", "Born is not written like DD/MM/YYYY"),
        (2, "Paid", "1.2,3", "E_FORMAT", "Paid is not written like 1.234,56"),
        (2, "Active", "maybe", "E_TYPE", 'invalid input syntax for type boolean: "maybe"'),
        (2, "E-Mail", "nobody", "E_RULE", "E-Mail is not an e-mail address"),
        (2, "Tier", "gold", "E_RULE", "Tier must be one of free, pro"),
        (3, "Born", "31/02/2000", "E_OUT_OF_RANGE", 'date/time field value out of range: "2000-02-31"'),
        (3, "ID", None, "E_NOT_NULL", "ID is empty, but must have a value"),
    ]
    assert loaded.isolated == 0
    assert loaded.totals == (0, 0, 2)


async def test_checks_look_at_the_whole_record(tables: Database) -> None:
    """An expression over the fields; NULL passes, an error of the expression costs its record alone."""
    checks = (
        Check(name="pro pays", expression="tier <> 'pro' OR paid > 0", message="a pro customer pays"),
        Check(name="ratio", expression="100 / paid > 1"),
    )
    loaded = await load(tables, people(checks=checks), b"1;;;1;pro;\n2;;;;pro;\n3;;;0;pro;\n4;;;200;free;\n")
    assert [reject[:1] + reject[3:] for reject in said(loaded)] == [
        (4, "E_RULE", "division by zero"),
        (5, "E_RULE", "the rule ratio does not hold"),
    ]
    assert loaded.totals == (2, 0, 2)


async def test_an_upsert_touches_only_what_it_may(tables: Database) -> None:
    """Inserted, updated and unchanged are told apart; a column that is not the file's keeps its value."""
    await tables.execute("INSERT INTO people VALUES (1, 'old@x.org', NULL, 1, 'free', true, 'other', 'kept')")
    await tables.execute("INSERT INTO people (id, tier) VALUES (2, 'free')")
    loaded = await load(
        tables, people(Merge.UPSERT), b"1;new@x.org;;1;;ja\n2;;;;;\n3;;;;;\n3;;;;pro;\n3;;;;pro;\n;;;;;\n"
    )
    assert [(r.inserted, r.updated, r.unchanged, r.rejected) for r in loaded.results] == [(1, 2, 2, 1)]
    assert await found(tables, "SELECT id, mail, tier, shop, note FROM people ORDER BY id") == [
        (1, "new@x.org", "free", "other", "kept"),
        (2, None, "free", None, None),
        (3, None, "pro", "acme", None),
    ]
    assert said(loaded)[0][3] == "E_NOT_NULL"


async def test_of_records_with_a_new_key_the_first_gives_what_an_update_may_not_touch(tables: Database) -> None:
    """As if they had been merged one after the other, in one batch or in two."""
    spec = people(Merge.UPSERT)
    assert spec.plan is not None
    target = replace(spec.plan.targets[0], update=("tier",))
    spec = replace(spec, plan=replace(spec.plan, targets=(target,)))
    for batch_records in (1000, 1):
        await tables.execute("TRUNCATE people")
        await load(tables, spec, b"1;a@x.org;;1;free;\n1;b@x.org;;2;pro;\n", batch_records=batch_records)
        assert await found(tables, "SELECT mail, paid::int, tier FROM people") == [("a@x.org", 1, "pro")]


async def test_a_word_need_not_be_written_like_the_format(tables: Database) -> None:
    """And what stands for it is not taken apart by the format."""
    spec = people()
    assert spec.plan is not None
    fields = tuple(
        replace(field, words=(("none", "1.5"),)) if field.name == "paid" else field for field in spec.plan.fields
    )
    loaded = await load(
        tables, replace(spec, plan=replace(spec.plan, fields=fields)), b"1;;;None;pro;\n2;;;1.500;pro;\n"
    )
    assert said(loaded) == []
    assert await found(tables, "SELECT id, paid::text FROM people ORDER BY id") == [(1, "1.50"), (2, "1500.00")]


async def test_a_skip_keeps_the_first(tables: Database) -> None:
    """What is there stays, and of several new records with one key the first goes in."""
    await tables.execute("INSERT INTO people (id, tier) VALUES (1, 'old')")
    loaded = await load(tables, people(Merge.SKIP), b"1;;;;pro;\n2;;;;pro;\n2;;;;free;\n")
    assert loaded.totals == (1, 2, 0)
    assert await found(tables, "SELECT id, tier FROM people ORDER BY id") == [(1, "old"), (2, "pro")]


async def test_what_only_inserting_finds_out_costs_its_record_alone(tables: Database) -> None:
    """A unique index beside the key, a trigger, a check: halved until the record stands alone."""
    await tables.execute("CREATE UNIQUE INDEX ON people (mail); ALTER TABLE people ADD CHECK (paid <> 13)")
    data = b"".join(b"%d;%d@x.org;;%d;;\n" % (n, n % 90, n % 50) for n in range(100))
    loaded = await load(tables, people(Merge.UPSERT), data)
    assert loaded.isolated == 1
    codes = {line: code for line, _, _, code, _ in said(loaded)}
    assert codes == {15: "E_CHECK", 65: "E_CHECK", **{n + 2: "E_DUP_KEY" for n in range(90, 100)}}


SALE = (
    Field(name="shop", type="text", position=None, constant="acme"),
    Field(name="mail", type="text", position=0),
    Field(name="name", type="text", position=1),
    Field(name="sale", type="integer", position=2, required=True),
    Field(name="size", type="text", position=3),
)
SALE_TABLES = """
DROP TABLE IF EXISTS surveys, sales, buyers;
CREATE TABLE buyers (shop text, mail text, name text, PRIMARY KEY (shop, mail));
CREATE TABLE sales (shop text, sale integer, mail text NOT NULL, PRIMARY KEY (shop, sale),
                    FOREIGN KEY (shop, mail) REFERENCES buyers);
CREATE TABLE surveys (shop text, sale integer, size text CHECK (size <> 'XXXL'), PRIMARY KEY (shop, sale),
                      FOREIGN KEY (shop, sale) REFERENCES sales);
"""


def sales() -> LoadSpec:
    """Three targets that refer to one another; not every record has a survey."""

    def target(table: str, names: str, key: str, needs: tuple[str, ...] = ()) -> Target:
        columns = tuple((name, name) for name in names.split())
        update = tuple(name for name in names.split() if name not in key.split())
        return Target(
            schema="public", table=table, columns=columns, key=tuple(key.split()), merge=Merge.UPSERT, update=update,
            needs=needs,
        )  # fmt: skip

    targets = (
        target("buyers", "shop mail name", "shop mail"),
        target("sales", "shop sale mail", "shop sale"),
        target("surveys", "shop sale size", "shop sale", needs=("size",)),
    )
    return LoadSpec(
        dataset="sales",
        schema="public",
        table="buyers",
        columns=tuple(Column(name=name, type="text") for name in ("mail", "name", "sale", "size")),
        dialect=COMMA,
        plan=Plan(fields=SALE, targets=targets),
    )


async def test_a_record_is_in_all_of_its_tables_or_in_none(any_database: Database) -> None:
    """One bad survey takes back its buyer and its sale, and nobody else's; twice loaded changes nothing."""
    await any_database.execute(SALE_TABLES)
    data = b"a@x,Ann,1,S\na@x,Ann,2,\nb@x,Bob,3,XXXL\nc@x,Cid,4,M\n,Dora,5,L\nc@x,Cyd,6,\n"
    loaded = await load(any_database, sales(), data)
    assert [(line, column, code) for line, column, _, code, _ in said(loaded)] == [
        (4, "size", "E_CHECK"),
        (6, "mail", "E_NOT_NULL"),
    ]
    assert await found(any_database, "SELECT mail, name FROM buyers ORDER BY 1") == [("a@x", "Ann"), ("c@x", "Cyd")]
    assert await found(any_database, "SELECT sale FROM sales ORDER BY 1") == [(1,), (2,), (4,), (6,)]
    assert await found(any_database, "SELECT sale, size FROM surveys ORDER BY 1") == [(1, "S"), (4, "M")]
    again = await load(any_database, sales(), b"a@x,Ann,1,S\na@x,Ann,2,\nc@x,Cyd,4,M\nc@x,Cyd,6,\n")
    assert [(r.inserted, r.updated, r.unchanged) for r in again.results] == [(0, 0, 4)]


@pytest.mark.parametrize("merge", list(Merge))
@pytest.mark.parametrize("isolate", [False, True], ids=["staged", "isolated"])
async def test_random_files_agree_with_the_oracle(any_database: Database, merge: Merge, isolate: bool) -> None:
    """Random keys, texts and numbers, some broken: same table, same refused lines, and the counts add up."""
    await any_database.execute(f"DROP TABLE IF EXISTS kept; {KEPT}")
    for trim in (False, True):
        oracle = Oracle(merge)
        await any_database.execute("TRUNCATE kept")
        for seed in range(4):
            lines = random_lines(f"{merge} {trim} {seed}", 200)
            oracle.begin()
            for line, record in enumerate(lines, 2):
                oracle.add(line, record)
            data = "".join(lines).encode()
            loaded = await load(any_database, kept(merge, trim=trim), data, batch_records=37, isolate=isolate)
            assert {reject["line"] for reject in loaded.rejects} == oracle.refused
            rows = await found(any_database, "SELECT id, b, n FROM kept")
            assert {row[0]: row[1:] for row in rows} == oracle.rows
            assert sum(result.inserted for result in loaded.results) == oracle.counts["inserted"]
