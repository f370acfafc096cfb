"""Each kind of refused record: its line, offset, column, value, code, SQLSTATE, sentence and bytes, to the letter."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ingest.database import Database
from ingest.dialect import Dialect
from ingest.rejects import RejectFilter, Rejects
from tests.integration.build import HEADER_BYTES, spec
from tests.integration.loading.ladder import Loaded, load, rows

TABLE = """
CREATE TYPE mood AS ENUM ('happy', 'sad');
CREATE DOMAIN posint AS integer CHECK (VALUE > 0);
CREATE DOMAIN known AS text NOT NULL;
CREATE TABLE parent (id integer PRIMARY KEY);
INSERT INTO parent VALUES (1);
CREATE TABLE t (
    id integer PRIMARY KEY, n numeric(4,1), v varchar(3), c char(2), d date CHECK (d > '2000-01-01'), m mood, p posint,
    k known DEFAULT '?', b bit(3), j jsonb, ref integer CONSTRAINT has_parent REFERENCES parent,
    q integer CONSTRAINT small CHECK (q < 10), w text NOT NULL, mail text,
    during int4range, EXCLUDE USING gist (during WITH &&), CONSTRAINT fits CHECK (q < id OR q IS NULL));
CREATE UNIQUE INDEX one_mail ON t (mail);
CREATE UNIQUE INDEX one_lowered_mail ON t (lower(mail));
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.w = 'raise' THEN RAISE EXCEPTION 'not this one'; END IF;
    IF NEW.w = 'own' THEN RAISE EXCEPTION 'own state' USING ERRCODE = 'ABC12', COLUMN = 'w'; END IF;
    IF NEW.w = 'drop' THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION guard();
INSERT INTO t (id, w, mail, during) VALUES (100, 'w', 'a@x', '[100,200)');
"""
TYPES = {
    "id": "integer", "n": "numeric(4,1)", "v": "character varying(3)", "c": "character(2)", "d": "date", "m": "mood",
    "p": "posint", "k": "known", "b": "bit(3)", "j": "jsonb", "ref": "integer", "q": "integer", "w": "text",
    "mail": "text", "during": "int4range",
}  # fmt: skip

# Columns beside id and w; the bad record; the reasons as (code, sqlstate, column, value, part of the sentence).
Reasons = list[tuple[str, str | None, str | None, str | None, str]]
KINDS: dict[str, tuple[str, bytes, Reasons]] = {
    "type": ("", b"x,w", [("E_TYPE", "22P02", "id", "x", 'invalid input syntax for type integer: "x"')]),
    "range": ("", b"3000000000,w", [("E_OUT_OF_RANGE", "22003", "id", "3000000000", "out of range")]),
    "numeric": ("n", b"2,w,1000", [("E_OUT_OF_RANGE", "22003", "n", "1000", "numeric field overflow")]),
    "too long": ("v", b"2,w,abcd", [("E_TOO_LONG", "22001", "v", "abcd", "too long for type character varying(3)")]),
    "char": ("c", b"2,w,abc", [("E_TOO_LONG", "22001", "c", "abc", "value too long for type character(2)")]),
    "date": ("d", b"2,w,2021-02-29", [("E_OUT_OF_RANGE", "22008", "d", "2021-02-29", "out of range")]),
    "no date": ("d", b"2,w,soon", [("E_TYPE", "22007", "d", "soon", "invalid input syntax for type date")]),
    "moving date": ("d", b"2,w,Now", [("E_DATE_SPECIAL", None, "d", "Now", "another day each time")]),
    "enum": ("m", b"2,w,angry", [("E_TYPE", "22P02", "m", "angry", 'invalid input value for enum mood: "angry"')]),
    "domain": ("p", b"2,w,0", [("E_CHECK", "23514", "p", "0", "value for domain posint violates check constraint")]),
    "domain null": ("k", b"2,w,", [("E_NOT_NULL", "23502", "k", None, "k is empty, but must have a value")]),
    "bit": ("b", b"2,w,10", [("E_TOO_LONG", "22026", "b", "10", "bit string length 2 does not match type bit(3)")]),
    "json": ("j", b'2,w,"{""a"""', [("E_TYPE", "22P02", "j", '{"a"', "invalid input syntax for type json")]),
    "json nul": ("j", b'2,w,"""\\u0000"""', [("E_JSON_NUL", "22P05", "j", '"\\u0000"', "unsupported Unicode escape")]),
    "not null": ("", b"2,", [("E_NOT_NULL", "23502", "w", None, "w is empty, but must have a value")]),
    "check": ("q", b"20,w,10", [("E_CHECK", "23514", "q", "10", "q breaks the rule small: CHECK ((q < 10))")]),
    "check of two": ("q", b"2,w,5", [("E_CHECK", "23514", "q, id", "5, 2", "q, id breaks the rule fits: CHECK (")]),
    "foreign key": ("ref", b"2,w,7", [("E_FOREIGN_KEY", "23503", "ref", "7", "ref refers to a row that does not exist "
                                      "(has_parent: FOREIGN KEY (ref) REFERENCES parent(id))")]),
    "primary key": ("", b"100,w", [("E_DUP_KEY", "23505", "id", "100", "same id exists already (t_pkey)")]),
    "unique index": ("mail", b"2,w,a@x", [("E_DUP_KEY", "23505", "mail", "a@x", "mail exists already (one_mail)")]),
    "unique expression": ("mail", b"2,w,A@x", [("E_DUP_KEY", "23505", None, None, "key exists already (one_low")]),
    "exclusion": ("during", b'2,w,"[150,151)"', [("E_EXCLUSION", "23P01", "during", "[150,151)", "during conflicts")]),
    "check of a column": ("d", b"2,w,1999-01-01", [("E_CHECK", "23514", "d", "1999-01-01", "breaks the rule t_d_ch")]),
    "trigger": ("", b"2,raise", [("E_TRIGGER", "P0001", None, None, "not this one")]),
    "own state": ("", b"2,own", [("E_TRIGGER", "ABC12", "w", "own", "own state")]),
    "too few fields": ("", b"2", [("E_COLUMNS", None, None, None, "1 fields, fewer than the 2 columns")]),
    "too many fields": ("", b'2,"w",x', [("E_COLUMNS", None, None, None, "3 fields, more than the 2 columns")]),
    "encoding": ("", b"2,\xc3\x28", [("E_UTF8", None, None, None, "byte 3 of the record (0xc3) is not valid UTF-8")]),
    "nul": ("", b"2,a\x00b", [("E_NUL", None, None, None, "NUL byte")]),
    "line end": ("", b"2,a\rb", [("E_LINE_END", None, None, None, "carriage return outside quotes")]),
    "two at once": ("n,d", b"x,w,y,now", [
        ("E_TYPE", "22P02", "id", "x", "integer"), ("E_TYPE", "22P02", "n", "y", "numeric"),
        ("E_DATE_SPECIAL", None, "d", "now", "another day")]),
}  # fmt: skip


async def load_kind(database: Database, kind: str, *, isolate: bool = False) -> tuple[Loaded, bytes, int]:
    """Load a good record of two lines, the bad one, and another good one; returns that, the bad one and its offset."""
    names, bad, _ = KINDS[kind]
    columns = ["id", "w", *(names.split(",") if names else [])]
    of = spec(*((name, TYPES[name]) for name in columns))
    fillers = {"d": b"2020-01-01", "k": b"k", "n": b"1"}
    tail = b"".join(b"," + fillers.get(name, b"") for name in columns[2:])
    first, last = b'1,"two\nlines"' + tail + b"\n", b"3,w" + tail + b"\n"
    loaded = await load(database, of, first + bad + b"\n" + last, isolate=isolate)
    return loaded, bad, HEADER_BYTES + len(first)


async def test_each_kind_of_reject(any_database: Database) -> None:
    """Whether COPY names it or isolating finds it, on every version the same; its neighbours are in the table."""
    await any_database.execute(TABLE)
    for isolate in (False, True):
        for kind, (_, _, reasons) in KINDS.items():
            loaded, bad, offset = await load_kind(any_database, kind, isolate=isolate)
            found = sorted(loaded.rejects, key=lambda reject: str(reject["column_name"]))
            for reject, (code, sqlstate, column, value, part) in zip(
                found, sorted(reasons, key=lambda r: str(r[2])), strict=True
            ):
                shown = {name: reject[name] for name in ("code", "sqlstate", "column_name", "value")}
                assert shown == {"code": code, "sqlstate": sqlstate, "column_name": column, "value": value}, kind
                assert part in reject["message"], kind
                assert (reject["line"], reject["byte_offset"], reject["truncated"]) == (4, offset, False), kind
                assert (reject["raw"].encode() if reject["raw"] is not None else reject["raw_bytes"]) == bad, kind
            assert loaded.totals == (2, 0, 1), kind
            assert await any_database.value("SELECT count(*) FROM t WHERE id IN (1, 3)") == 2
            await any_database.execute("DELETE FROM t WHERE id IN (1, 3)")


async def test_a_row_that_a_trigger_drops_is_counted_as_skipped(any_database: Database) -> None:
    """It is in neither the table nor the rejects, and the account still adds up."""
    await any_database.execute(TABLE)
    of = spec(("id", "integer"), ("w", "text"))
    for isolate, extra in ((False, b""), (True, b""), (False, b"x,w\n"), (True, b"x,w\n")):
        loaded = await load(any_database, of, b"1,w\n2,drop\n3,drop\n" + extra, isolate=isolate)
        assert loaded.totals == (1, 2, len(extra) // 4)
        await any_database.execute("DELETE FROM t WHERE id = 1")


async def test_rejects_as_the_api_shows_them(any_database: Database) -> None:
    """In pages, by code and by column; bytes that are no text are shown escaped."""
    await any_database.execute(TABLE)
    data = b"x,w\n1,\xff\n2,\ny,w\n" + b"3," + b"z" * 5000 + b",\n"
    loaded = await load(any_database, spec(("id", "integer"), ("w", "text")), data)
    rejects, job_id = Rejects(any_database), loaded.chunk.job_id
    page = await rejects.page(job_id, RejectFilter(), limit=2)
    assert ([reject["line"] for reject in page.items], page.total, page.stored) == ([2, 3], 5, 5)
    assert page.items[1]["raw"] == "1,\\xff"
    assert set(page.items[0]) == {
        "line", "byte_offset", "column", "value", "code", "sqlstate", "message", "raw", "truncated", "resolved_by"
    }  # fmt: skip
    page = await rejects.page(job_id, RejectFilter(), page=3, limit=2)
    assert [(reject["line"], len(reject["raw"]), reject["truncated"]) for reject in page.items] == [(6, 4096, True)]
    assert page.after is None
    page = await rejects.page(job_id, RejectFilter(code="E_TYPE"), limit=10)
    assert ([reject["value"] for reject in page.items], page.total) == (["x", "y"], 2)
    page = await rejects.page(job_id, RejectFilter(column="w"), limit=10)
    assert ([reject["code"] for reject in page.items], page.total) == (["E_NOT_NULL"], 1)
    page = await rejects.page(job_id, RejectFilter(line=5), limit=10)
    assert ([reject["line"] for reject in page.items], page.total) == ([5], 1)


async def test_the_null_text_and_quotes(any_database: Database) -> None:
    """Only the unquoted NULL text is NULL; an empty text is a text unless it is the NULL text."""
    await any_database.execute("CREATE TABLE n (a text, b integer)")
    of = spec(("a", "text"), ("b", "integer"), table="n")
    data = b',1\n"",2\nNA,3\n"NA",4\n1,5\n"1",6\n'
    expected = {
        "": ["(,1)", '("",2)', "(NA,3)", "(NA,4)", "(1,5)", "(1,6)"],
        "NA": ['("",1)', '("",2)', "(,3)", "(NA,4)", "(1,5)", "(1,6)"],
        "1": ['("",)', '("",2)', "(NA,3)", "(NA,4)", "(,5)", "(1,6)"],
    }
    for null, wanted in expected.items():
        for isolate in (False, True):
            with_null = replace(of, dialect=Dialect(null=null))
            await load(any_database, with_null, data, isolate=isolate)
            assert await rows(any_database, with_null) == sorted(wanted)
            await any_database.execute("TRUNCATE n")


async def test_lines_that_end_a_copy(any_database: Database) -> None:
    """Before PostgreSQL 18 they would cut the batch off without a word: here they are data."""
    await any_database.execute("CREATE TABLE one (a text); CREATE TABLE two (a text, b text)")
    one, two = spec(("a", "text"), table="one"), spec(("a", "text"), ("b", "text"), table="two")
    loaded = await load(any_database, one, b'a\n\\.\nb\n"x\n\\.\ny"\n\\.')
    assert loaded.totals == (5, 0, 0)
    assert await rows(any_database, one) == sorted(["(a)", '("\\\\.")', "(b)", '("x\n\\\\.\ny")', '("\\\\.")'])
    loaded = await load(any_database, two, b'a,b\n\\.\nc,d\n"x\n\\.\ny",z\n')
    assert (loaded.totals, [reject["line"] for reject in loaded.rejects]) == ((3, 0, 1), [3])


async def test_blank_lines_are_no_records(any_database: Database) -> None:
    """Of a single column they are: each is a NULL."""
    await any_database.execute("CREATE TABLE one (a text); CREATE TABLE two (a text, b text)")
    two = await load(any_database, spec(("a", "text"), ("b", "text"), table="two"), b"\n\na,b\n\r\n\nc,d\n\n")
    assert (two.totals, two.rejects) == ((2, 0, 0), [])
    one = await load(any_database, spec(("a", "text"), table="one"), b"\n\na\n\n")
    assert one.totals == (4, 0, 0)
    assert await any_database.value("SELECT count(*) FROM one WHERE a IS NULL") == 3


@pytest.mark.parametrize(
    "data", [b"1,a\r\n2,b\r\n3,c\r\n", b"1,a\n2,b\r\n3,c", b"1,a\r\n2,b\n3,c\r", b"1,a\n2,b\n3,c\r"]
)
async def test_line_ends_of_any_kind(any_database: Database, data: bytes) -> None:
    """CRLF, LF, both in one file, and a file that was cut off in the middle of its last line end."""
    await any_database.execute("CREATE TABLE two (a integer, b text)")
    of = spec(("a", "integer"), ("b", "text"), table="two")
    for isolate in (False, True):
        assert (await load(any_database, of, data, isolate=isolate)).totals == (3, 0, 0)
        assert await rows(any_database, of) == ["(1,a)", "(2,b)", "(3,c)"]
        await any_database.execute("TRUNCATE two")


async def test_a_file_of_which_every_record_is_bad(any_database: Database) -> None:
    """Each has its reject, nothing is in the table."""
    await any_database.execute("CREATE TABLE u (a integer UNIQUE)")
    of = spec(table="u")
    bad = await load(any_database, of, b"".join(b"x%d\n" % i for i in range(500)), batch_records=100)
    assert (bad.totals, len(bad.rejects)) == ((0, 0, 500), 500)
    twice = await load(any_database, of, b"7\n" * 300, batch_records=100)
    assert twice.totals == (1, 0, 299)
    assert [reject["line"] for reject in twice.rejects] == list(range(3, 302))
