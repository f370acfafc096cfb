"""Random files against PostgreSQL itself: what a COPY of the single record takes is in the table, all else is rejected.

Several tables of one kind: each is loaded in another way, up the ladder or by one of the ways to isolate every batch, and
into the last the judge copies record by record. All hold the same rows, and the rejected lines are those the judge refused.
"""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ingest.database import Database
from ingest.dialect import Dialect
from ingest.loading.reasons import MANY_BAD, TAKEN_KEY
from ingest.spec import Column, LoadSpec
from tests.integration.loading.conftest import SCHEMAS
from tests.integration.loading.ladder import Loaded, judge, load, planned, records_of, rows

TYPES = """
CREATE TYPE mood AS ENUM ('happy', 'sad', '');
CREATE DOMAIN posint AS integer CHECK (VALUE > 0);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN shorter AS short CHECK (VALUE <> 'no') NOT NULL;
CREATE TYPE pair AS (x integer, y varchar(2));
CREATE TABLE parent (id integer PRIMARY KEY);
INSERT INTO parent SELECT generate_series(0, 5);
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.a = 'raise' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'P0001'; END IF;
    IF NEW.a = 'own' THEN RAISE EXCEPTION 'own state' USING ERRCODE = 'ABC12'; END IF;
    IF NEW.a = 'drop' THEN RETURN NULL; END IF;
    ASSERT NEW.a IS DISTINCT FROM 'assert', 'asserted';
    IF NEW.a = 'tell' THEN RAISE NOTICE 'line 3 of 5'; END IF;
    IF NEW.a = 'divide' THEN NEW.b := 1 / 0; END IF;
    NEW.c := upper(NEW.a);
    RETURN NEW;
END $$;
"""

# Values of each type, good and bad alike: the judge knows.
VALUES: dict[str, list[str]] = {
    "smallint": ["0", "-1", "32767", "32768", " 7", "x"],
    "integer": ["0", "-5", "2147483647", "2147483648", " 3 ", "1.5", "abc", "1_000", "0x1F", "+5", "0b1", "--1", "NA"],
    "bigint": ["0", "9223372036854775807", "9223372036854775808", "-1", "1e3", ""],
    "numeric(8,2)": ["1.005", "1.015", "-0.004", "999999.99", "999999.995", "1e3", "1e9", "NaN", "Infinity", "1,5"],
    "double precision": ["1.5", "1e400", "-0", "NaN", "inf", "1e-400", "1.5.2"],
    "real": ["1.1", "16777217", "1e39", "nan"],
    "text": ["a", "", "NA", "a\nb", 'say "x"', "\\.", "x\n\\.\ny", "é€😀", "now", "a,b", "a\r\nb", " ", "\\N", "\\"],
    "character varying(5)": ["abc", "abcde", "abcdef", "abcde   ", "abcd   x", "ééééé", "éééééé", "     ", "      "],
    "character(3)": ["ab", "abc", "abcd", "ab    ", "   ", "é€x", "é€xy", "a"],
    "date": ["2020-02-29", "2021-02-29", "infinity", "20200101", "1/2/2020", "2020-13-01", "Feb 3 2020", "epoch", "x",
             "now", "TODAY", "tomorrow 10:00", "yesterday", "today10:00", "_now"],
    "timestamp with time zone": ["2020-01-01 00:00:00.1234567+02", "2020-01-01T00:00:00Z", "2020-01-01 24:00",
                                 "2020-01-01 25:00", "2020-01-01 10:00 America/New_York", "2020-01-01 10:00 No/Where",
                                 "infinity", "today", "Now", "10:00today", "2020-01-01 10:00:59.9999999"],
    "timestamp(0) without time zone": ["2020-01-01 00:00:00.5", "2020-01-01 00:00:01.5", "2020-01-01", "x", "now"],
    "time(3) without time zone": ["10:00", "10:00:00.1235", "24:00", "25:00", "allballs", "now", "23:59:59.9999"],
    "interval": ["1 day", "P1Y", "1:02:03", "5", "abc", "1 mon -3 days", "now"],
    "boolean": ["t", "true", "yes", "on", "1", "0", "off", "of", "o", "TRUE", " n ", "2", "maybe"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}", "a0eebc99", "x"],
    "json": ['{"a": 1}', "{bad", "null", '"\\u0000"', "1", "", '{"a": "x,y\n"}'],
    "jsonb": ['{"b": 1, "a": 2}', '"\\u0000"', "[1, 2", "1e400", "true"],
    "mood": ["happy", "sad", "Happy", "", "x" * 70],
    "posint": ["1", "0", "-1", "x"],
    "short": ["abc", "abcd", "abc  ", "é€😀x"],
    "shorter": ["abc", "no", "abcd", "x"],
    "pair": ["(1,ab)", "(1,abc)", "(x,ab)", "1", "(,)"],
    "integer[]": ["{1,2}", "{}", "{1,a}", "1", "{{1,2},{3,4}}", "{1,NULL}", "{2147483648}"],
    "character varying(3)[]": ["{abc,ab}", "{abcd}", "{\"a b\"}", "{ab   }", "x"],
    "bytea": ["\\xDEADbeef", "\\xZZ", "abc", "\\\\", "\\x0", "\\000"],
    "bit(4)": ["1010", "101", "10101", "xF", "x1F", "b1010", "1012"],
    "bit varying(4)": ["1", "1010", "10101", "", "xF", "x1F"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "10.0.0.256", "::1"],
    "int4range": ["[1,5)", "(1,2)", "[5,1)", "empty", "x"],
    "tstzrange": ["[2020-01-01,2020-02-01)", "[2021-01-01,2020-01-01)", "[now,infinity)", "x"],
    "tsvector": ["a b", "a:1 b:2", "a:", "'"],
    "macaddr": ["08:00:2b:01:02:03", "x"],
    "point": ["(1,2)", "1,2", "(1", "x"],
    '"char"': ["a", "ab", ""],
    "name": ["x", "n" * 70],
}  # fmt: skip
MOVING = frozenset({"now", "TODAY", "Now", "today", "tomorrow 10:00", "yesterday", "today10:00", "10:00today", "_now",
                    "[now,infinity)"})  # fmt: skip

# Tables whose constraints, triggers or partitions are the point; values that make them speak.
TABLES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "checks": (
        "a integer NOT NULL CHECK (a < 100), b text CHECK (b <> 'bad'), c integer, CHECK (c > a), "
        "d integer GENERATED ALWAYS AS (a * 2) STORED, e integer DEFAULT 7, f timestamptz DEFAULT now()",
        {"a": ["1", "99", "100", "", "x"], "b": ["good", "bad", ""], "c": ["5", "0", "", "200"]},
    ),
    "keys": (
        "id integer PRIMARY KEY, name text UNIQUE, mail text, ref integer REFERENCES parent",
        {"id": [str(n) for n in range(40)] + ["x", ""], "name": [*"abcdefghijklmnopqrstuvwxyz", "", ""],
         "mail": ["a@x", "A@x", "b@x"], "ref": ["0", "5", "6", "", "y"]},
    ),
    "lowered": (
        "mail text, n integer",
        {"mail": ["a@x", "A@x", "b@x", "c@x", "", "D@x", "d@x"], "n": ["1", "2", "x"]},
    ),
    "deferred": (
        "id integer UNIQUE DEFERRABLE INITIALLY DEFERRED, ref integer REFERENCES parent DEFERRABLE INITIALLY DEFERRED",
        {"id": [str(n) for n in range(30)], "ref": ["0", "5", "6", ""]},
    ),
    "excluded": (
        "during int4range, EXCLUDE USING gist (during WITH &&)",
        {"during": [f"[{n},{n + 3})" for n in range(0, 60, 2)] + ["empty", "x", ""]},
    ),
    "identities": (
        "id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, other integer GENERATED BY DEFAULT AS IDENTITY, a text",
        {"id": [str(n) for n in range(40)] + [""], "other": ["1", "x"], "a": ["a", ""]},
    ),
    "triggers": (
        "a text, b integer, c text",
        {"a": ["x", "raise", "own", "drop", "assert", "tell", "divide", "y", "z"], "b": ["1", "x"], "c": [""]},
    ),
    "partitions": (
        "id integer NOT NULL, a character varying(3) CHECK (a <> 'bad')",
        {"id": ["1", "15", "25", "99", "", "x", "2", "16"], "a": ["a", "abcd", "bad", ""]},
    ),
    "one": ("a text", {"a": VALUES["text"]}),
    "one_number": ("a integer", {"a": ["1", "2", "x", "", "\\."]}),
}  # fmt: skip
AFTER = {
    "lowered": "CREATE UNIQUE INDEX {s}_lowered ON {s}.lowered (lower(mail))",
    "triggers": "CREATE TRIGGER guard BEFORE INSERT ON {s}.triggers FOR EACH ROW EXECUTE FUNCTION guard()",
    "partitions": "CREATE TABLE {s}.low PARTITION OF {s}.partitions FOR VALUES FROM (0) TO (10); "
    "CREATE TABLE {s}.mid PARTITION OF {s}.partitions (CHECK (id <> 16)) FOR VALUES FROM (10) TO (20)",
}


class File:
    """A file of random records, and which of them hold a moving date."""

    def __init__(self, seed: str, columns: dict[str, list[str]], dialect: Dialect, dates: frozenset[str]) -> None:
        self._chance = random.Random(seed)
        self._dialect = dialect
        self._columns = columns
        self._dates = dates
        self.moving: set[bytes] = set()
        broken = self._chance.choice([0.0, 0.05, 0.3])
        line_end = self._chance.choice([b"\n", b"\n", b"\r\n"])
        self._unused = {name: [*texts, None] for name, texts in columns.items()}
        self.data = b"".join(self._line(broken, line_end) for _ in range(30))
        if self._chance.random() < 0.3:
            self.data = self.data.removesuffix(b"\n")

    def _line(self, broken: float, line_end: bytes) -> bytes:
        record = self._broken() if self._chance.random() < broken else self._record()
        if self._chance.random() < broken / 5:
            line_end = self._chance.choice([b"\n", b"\r\n"])
        return record + line_end

    def _record(self) -> bytes:
        values = {name: self._value(name) for name in self._columns}
        record = self._dialect.delimiter.join(self._field(value) for value in values.values()).encode()
        if any(values[name] in MOVING for name in self._dates):
            self.moving.add(record)
        return record

    def _value(self, name: str) -> str | None:
        """Each value of the list once, then any of them."""
        if self._unused[name]:
            return self._unused[name].pop(self._chance.randrange(len(self._unused[name])))
        return self._chance.choice([*self._columns[name], None])

    def _broken(self) -> bytes:
        record = self._record()
        delimiter = self._dialect.delimiter.encode()
        kinds = [
            record + delimiter + b"x",
            record.partition(delimiter)[0],
            record.replace(b"a", b"\xff") + b"\xc3",
            record + b"\x00",
            b"x" + record + b"\rx",
            b"\\.",
            b"",
            b'""',
            b"\xef\xbb\xbf" + record,
        ]
        even = [kind for kind in kinds if kind.count(self._dialect.quote.encode()) % 2 == 0]
        broken = self._chance.choice(even)
        if record in self.moving:
            self.moving.add(broken)
        return broken

    def _field(self, value: str | None) -> str:
        quote = self._dialect.quote
        if value is None:
            return self._dialect.null
        special = any(char in value for char in (self._dialect.delimiter, quote, "\n", "\r"))
        if special or self._chance.random() < 0.2:
            return quote + value.replace(quote, quote * 2) + quote
        return value


async def compare(database: Database, spec: LoadSpec, file: File) -> None:
    """Load a file in every way and compare tables and rejects."""
    ladder, isolated, sifted, mostly_bad, staged, halved, judged = (replace(spec, schema=schema) for schema in SCHEMAS)
    found = records_of(spec, file.data)
    refused = await judge(database, judged, found, frozenset(file.moving))
    expected = await rows(database, judged)
    ways = (
        ("ladder", ladder, False, None),
        ("isolated", isolated, True, None),
        ("sifted", sifted, True, TAKEN_KEY),
        ("mostly bad", mostly_bad, True, MANY_BAD),
        ("planned", planned(staged), False, None),
        ("planned, isolated", planned(halved), True, None),
    )
    for way, target, isolate, after in ways:
        loaded = await load(database, target, file.data, batch_records=15, isolate=isolate, after=after)
        assert await rows(database, target) == expected, way
        assert {reject["line"] for reject in loaded.rejects} == set(refused), way
        check_rejects(loaded, spec, file.data, refused)
        inserted, skipped, rejected = loaded.totals
        assert (inserted, rejected) == (len(expected), len(refused))
        assert inserted + skipped + rejected == len(found)


def check_rejects(loaded: Loaded, spec: LoadSpec, data: bytes, refused: dict[int, str]) -> None:
    """Every reject says where its record is, shows it as it was sent, and agrees with PostgreSQL on the reason."""
    by_line = {record.line: record for record in records_of(spec, data)}
    for reject in loaded.rejects:
        record = by_line[reject["line"]]
        raw = reject["raw"].encode() if reject["raw_bytes"] is None else reject["raw_bytes"]
        assert (reject["byte_offset"], raw) == (record.byte_offset, record.raw)
        assert reject["column_name"] is not None or reject["code"] in (
            "E_COLUMNS", "E_QUOTE_BARE", "E_QUOTE_TRAIL", "E_UTF8", "E_NUL", "E_LINE_END", "E_TRIGGER", "E_CHECK", "E_DUP_KEY", "E_TYPE", "E_RULE",
        ), reject  # fmt: skip
    for line, reasons in loaded.reasons().items():
        # Of several faults of one value PostgreSQL may name another first; of several values we name those that are
        # wrong, and a NULL that a domain refuses only when there are none.
        classes = {sqlstate[:2] for _, sqlstate, _, _ in reasons if sqlstate}
        assert not classes or refused[line] in ("23502", "") or refused[line][:2] in classes, (line, reasons)


async def create(database: Database, table: str, columns: str, after: str = "") -> None:
    """Create a table in all three schemas."""
    partitioned = " PARTITION BY RANGE (id)" if table == "partitions" else ""
    for schema in SCHEMAS:
        await database.execute(f"CREATE TABLE {schema}.{table} ({columns}){partitioned}; {after.format(s=schema)}")


@pytest.fixture
async def typed(any_database: Database) -> Database:
    """A database with the types and schemas of these tests."""
    await any_database.execute(TYPES + "".join(f"CREATE SCHEMA {schema};" for schema in SCHEMAS))
    return any_database


DIALECTS = [
    Dialect(),
    Dialect(null="NA"),
    Dialect(delimiter=";", quote="'", null="1"),
    Dialect(delimiter="\t", null="\\N"),
]


async def test_every_type_for_itself(typed: Database) -> None:
    """A table of one column of each type, beside a text: every value of the list, alone, quoted or not, and NULL."""
    for number, (kind, texts) in enumerate(VALUES.items()):
        table = f"t{number}"
        await create(typed, table, f"a {kind}, b text")
        spec = LoadSpec(
            dataset="d", schema="public", table=table, dialect=DIALECTS[number % 2],
            columns=(Column(name="a", type=kind), Column(name="b", type="text")),
        )  # fmt: skip
        dates = frozenset({"a"} if kind.startswith(("date", "time", "tstz")) else ())
        file = File(f"types {number}", {"a": texts, "b": ["x", "now"]}, spec.dialect, dates)
        try:
            await compare(typed, spec, file)
        except AssertionError as error:
            raise AssertionError(f"type {kind}") from error


@pytest.mark.parametrize("seed", range(3))
async def test_tables_of_many_types(typed: Database, seed: int) -> None:
    """Six columns of random types and random values in a random dialect."""
    chance = random.Random(seed)
    for number in range(3):
        kinds = chance.sample(sorted(VALUES), 6)
        columns = {f"c{i}": kind for i, kind in enumerate(kinds)}
        table = f"m{number}"
        await create(typed, table, ", ".join(f"{name} {kind}" for name, kind in columns.items()))
        order = chance.sample(sorted(columns), 6)
        spec = LoadSpec(
            dataset="d", schema="public", table=table, dialect=chance.choice(DIALECTS),
            columns=tuple(Column(name=name, type=columns[name]) for name in order),
        )  # fmt: skip
        dates = frozenset(name for name, kind in columns.items() if kind.startswith(("date", "time", "tstz")))
        values = {name: VALUES[columns[name]][:4] for name in order}
        await compare(typed, spec, File(f"many {seed} {number}", values, spec.dialect, dates))


@pytest.mark.parametrize("table", TABLES)
async def test_tables_with_rules(typed: Database, table: str) -> None:
    """Constraints, keys, triggers, partitions: the first line of the file wins, nobody pays for a neighbour."""
    columns, values = TABLES[table]
    await create(typed, table, columns, AFTER.get(table, ""))
    described = await typed.fetch(
        "SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 AND attname = ANY ($2)",
        f"judge.{table}", list(values),
    )  # fmt: skip
    kinds = {row["name"]: row["type"] for row in described}
    for seed in range(3):
        spec = LoadSpec(
            dataset="d", schema="public", table=table, dialect=DIALECTS[seed],
            columns=tuple(Column(name=name, type=kinds[name]) for name in values),
        )  # fmt: skip
        await compare(typed, spec, File(f"{table} {seed}", values, spec.dialect, frozenset()))
        for schema in SCHEMAS:
            await typed.execute(f"TRUNCATE {schema}.{table}")
