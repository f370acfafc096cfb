"""Bad input, by the numbers of the design's matrix: types, rules, keys and what is kept of rejects.

PostgreSQL is the validator: what a type takes is what it takes in any INSERT. Where an outcome differs from the matrix,
the test says why.
"""

from __future__ import annotations

import csv
import io
import random

import pytest

from tests.acceptance.client import BASE
from tests.acceptance.inputs import WAYS, Inputs

TABLES = {
    "n": "id int, name text",
    "bigs": "id bigint, small smallint",
    "amounts": "id int, amount numeric",
    "floats": "id int, x double precision",
    "days": "id int, day date",
    "moments": "id int, at timestamptz",
    "flags": "id int, flag boolean",
    "short": "id int, name varchar(5), code char(3)",
    "children": "id int, name text, qty int, parent int",
    "keyed": "id int, name text",
    "indexed": "id int, name text",
    "wide": ", ".join(f"c{i} text" for i in range(1, 501)),
}

KEYED = """
    name = "{mode}"
    table = "stock"
    key = ["id"]
    mode = "{mode}"
    [columns.id]
    type = "int"
    [columns.name]
    type = "text"
"""
DATASETS = {
    **{mode: KEYED.format(mode=mode) for mode in ("append", "skip", "upsert")},
    "german": """
        name = "german"
        table = "n"
        [columns.id]
        type = "int"
        [columns.name]
        type = "text"
        [columns.day]
        type = "date"
        format = "DD/MM/YYYY"
        [columns.flag]
        type = "boolean"
        true = ["ja"]
        false = ["nein"]
        [columns.x]
        type = "double precision"
        min = -1000
        max = 1000
        [[targets]]
        table = "formats"
    """.replace('table = "n"\n', "", 1),
    "careful": """
        name = "careful"
        table = "n"
        max_rejects = 100
        [columns.id]
        type = "int"
        [columns.name]
        type = "text"
    """,
}

pytestmark = [pytest.mark.parametrize("way", WAYS)]


def ids(values: list[str], column: str) -> bytes:
    """A file of `id` and another column: the values, numbered from 1, which is on line 2."""
    with io.StringIO(newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("id", column), *enumerate(values, 1)])
        return text.getvalue().encode()


def constrained(inputs: Inputs, *statements: str) -> None:
    """Add constraints to both tables of a test, once for the module."""
    for statement in statements:
        inputs.psql(statement)


def test_33_a_whole_number_out_of_range_is_rejected(inputs: Inputs, way: str) -> None:
    body = b"id,small\n9223372036854775807,32767\n9223372036854775808,1\n1,32768\n-9223372036854775809,-32769\n"
    done = inputs.load("bigs", body, way)
    assert done.rows == [(9223372036854775807, 32767)]
    assert done.codes == [(3, "id", "E_OUT_OF_RANGE"), (4, "small", "E_OUT_OF_RANGE"),
                          (5, "id", "E_OUT_OF_RANGE"), (5, "small", "E_OUT_OF_RANGE")]  # fmt: skip
    assert set(done.states) == {"22003"}
    assert "out of range for type smallint" in done.said(4)


def test_34_what_only_looks_like_a_number_is_rejected(inputs: Inputs, way: str) -> None:
    """E_TYPE stands for E_INT and the like: the message names the type."""
    done = inputs.load("bigs", 'id,small\n1x,1\n2,"1,234"\n\uff11,1\n3,1.5\n4,\u00bd\n5, 6 \n'.encode(), way)
    assert done.rows == [(5, 6)]
    assert done.codes == [(2, "id", "E_TYPE"), (3, "small", "E_TYPE"), (4, "id", "E_TYPE"), (5, "small", "E_TYPE"),
                          (6, "small", "E_TYPE")]  # fmt: skip
    assert set(done.states) == {"22P02"}


def test_34_underscores_are_what_postgresql_says(inputs: Inputs, way: str) -> None:
    """PostgreSQL reads 1_000 as 1000 from version 16 on, in every INSERT; here it is no other number than there."""
    since = int(inputs.psql("show server_version_num"))
    done = inputs.load("bigs", b"id,small\n1,1_000\n", way)
    assert (done.rows, done.codes) == (
        ([(1, 1000)], []) if since >= 160000 else ([], [(2, "small", "E_TYPE")])
    )  # fmt: skip


def test_35_numbers_beyond_measure(inputs: Inputs, way: str) -> None:
    """A numeric without a length holds 5000 digits, and so it does here; nothing else can."""
    long = "9" * 5000
    done = inputs.load("amounts", ids([long, "1e999999", "1e10"], "amount"), way)
    assert inputs.psql(f"select amount = '{long}' from {'amounts' if way == 'direct' else 'amounts_staged'}"
                       " where id = 1") == "t"  # fmt: skip
    assert done.codes == [(3, "amount", "E_OUT_OF_RANGE")]
    done = inputs.load("bigs", f"id,small\n{long},1\n1,{long}\n2,2\n".encode(), way)
    assert (done.rows, set(done.states)) == ([(2, 2)], {"22003"})
    assert all(reject["truncated"] and len(reject["value"]) == 1024 for reject in done.rejects)
    assert inputs.load("floats", ids(["1e400", "1e300"], "x"), way).codes == [(2, "x", "E_OUT_OF_RANGE")]


def test_36_nan_and_infinity_are_values_where_the_type_has_them(inputs: Inputs, way: str) -> None:
    """No E_NONFINITE by default: a table's own export would not load again. A definition's min and max refuse them."""
    done = inputs.load("floats", ids(["NaN", "Infinity", "-inf", "1"], "x"), way)
    assert [row[1] for row in done.rows] == ["NaN", "Infinity", "-Infinity", 1]
    done = inputs.load("bigs", b"id,small\n1,NaN\n2,Infinity\n", way)
    assert done.codes == [(2, "small", "E_TYPE"), (3, "small", "E_TYPE")]


def test_36_a_definition_refuses_what_is_not_finite(inputs: Inputs, way: str) -> None:
    inputs.psql("create table if not exists formats (id int, name text, day date, flag boolean, x double precision)")
    done = inputs.load_into("formats", "german", b"id,x\n1,NaN\n2,Infinity\n3,-Infinity\n4,999\n")
    assert [row[0] for row in done.rows] == [4]
    assert done.codes == [(line, "x", "E_RULE") for line in (2, 3, 4)]


def test_37_days_that_never_were_are_rejected(inputs: Inputs, way: str) -> None:
    done = inputs.load("days", ids(["2024-02-29", "2024-02-30", "0000-00-00", "2023-13-01"], "day"), way)
    assert done.rows == [(1, "2024-02-29")]
    assert done.codes == [(line, "day", "E_OUT_OF_RANGE") for line in (3, 4, 5)]
    assert set(done.states) == {"22008"}


def test_38_words_that_mean_another_day_tomorrow_are_rejected(inputs: Inputs, way: str) -> None:
    """`infinity` and `epoch` mean the same on every try and in every INSERT: they are loaded."""
    done = inputs.load("days", ids(["tomorrow", "now", "TODAY", "infinity", "-infinity", "epoch"], "day"), way)
    assert done.rows == [(4, "infinity"), (5, "-infinity"), (6, "1970-01-01")]
    assert done.codes == [(line, "day", "E_DATE_SPECIAL") for line in (2, 3, 4)]
    assert inputs.load("n", ids(["tomorrow", "now"], "name"), way).codes == []


def test_39_a_date_with_two_meanings_is_rejected(inputs: Inputs, way: str) -> None:
    """Never read as January or as February by the server's settings: the year comes first, or a definition says."""
    constrained(inputs, f"alter role current_user set datestyle = '{'ISO, DMY' if way == 'direct' else 'ISO, MDY'}'")
    done = inputs.load("days", ids(["2024-02-01", "01/02/2024", "13/01/2024", "1.2.2024", "2024/02/01"], "day"), way)
    assert done.rows == [(1, "2024-02-01"), (5, "2024-02-01")]
    assert done.codes == [(line, "day", "E_OUT_OF_RANGE") for line in (3, 4, 5)]
    assert "dates are read year first; a definition's format says otherwise, like DD/MM/YYYY" in done.said(3)
    assert inputs.load("moments", ids(["01/02/2024 10:00"], "at"), way).codes == [(2, "at", "E_OUT_OF_RANGE")]


def test_39_a_definition_says_what_a_date_means(inputs: Inputs, way: str) -> None:
    inputs.psql("create table if not exists formats (id int, name text, day date, flag boolean, x double precision)")
    done = inputs.load_into("formats", "german", b"id,day\n1,01/02/2024\n2,13/01/2024\n3,2024-02-01\n4,31/02/2024\n")
    assert [row[2] for row in done.rows] == ["2024-02-01", "2024-01-13"]
    assert done.codes == [(4, "day", "E_FORMAT"), (5, "day", "E_OUT_OF_RANGE")]


def test_40_a_time_without_zone_is_utc(inputs: Inputs, way: str) -> None:
    """There is no E_TIME_GAP: UTC has no gap, and a zone with one must be in the text, where PostgreSQL settles it."""
    times = ["2024-03-31 02:30", "2024-03-31 02:30+02", "2024-03-31 02:30 Europe/Berlin", "2024-03-31 02:30 Nowhere"]
    done = inputs.load("moments", ids(times, "at"), way)
    found = inputs.psql(f"select at at time zone 'UTC' from moments{'' if way == 'direct' else '_staged'} order by id")
    assert found.split("\n") == ["2024-03-31 02:30:00", "2024-03-31 00:30:00", "2024-03-31 01:30:00"]
    assert [code for _, _, code in done.codes] == ["E_TYPE"]


def test_41_boolean_words_are_postgresqls(inputs: Inputs, way: str) -> None:
    """What any boolean column takes; no shorter list of our own. E_TYPE stands for E_BOOL."""
    done = inputs.load("flags", ids(["yes", "Y", "1", "on", "TRUE ", "no", "f", "0", "ja", "2", "maybe"], "flag"), way)
    assert [row[1] for row in done.rows] == [True] * 5 + [False] * 3
    assert done.codes == [(line, "flag", "E_TYPE") for line in (10, 11, 12)]


def test_41_a_definition_adds_words(inputs: Inputs, way: str) -> None:
    inputs.psql("create table if not exists formats (id int, name text, day date, flag boolean, x double precision)")
    done = inputs.load_into("formats", "german", b"id,flag\n1,Ja\n2,NEIN\n3,true\n4,oui\n")
    assert ([row[3] for row in done.rows], done.codes) == ([True, False, True], [(5, "flag", "E_TYPE")])


def test_42_a_value_that_is_too_long_is_never_cut(inputs: Inputs, way: str) -> None:
    done = inputs.load("short", b"id,name,code\n1,abcde,abc\n2,abcdef,abc\n3,abc,abcd\n4,\xc3\xa4\xc3\xa4bcd,a\n", way)
    assert [row[:2] for row in done.rows] == [(1, "abcde"), (4, "ääbcd")]
    assert done.codes == [(3, "name", "E_TOO_LONG"), (4, "code", "E_TOO_LONG")]
    assert set(done.states) == {"22001"}


def test_43_constraints_of_the_table_find_each_record_alone(inputs: Inputs, way: str) -> None:
    table = "children" if way == "direct" else "children_staged"
    constrained(
        inputs,
        "create table if not exists parents (id int primary key)",
        "insert into parents values (1) on conflict do nothing",
        f"alter table {table} alter name set not null, add check (qty > 0), add foreign key (parent) references parents",
    )
    done = inputs.load("children", b"id,name,qty,parent\n1,a,1,1\n2,,1,1\n3,c,0,1\n4,d,1,2\n5,e,1,\n", way)
    assert [row[0] for row in done.rows] == [1, 5]
    assert done.codes == [(3, "name", "E_NOT_NULL"), (4, "qty", "E_CHECK"), (5, "parent", "E_FOREIGN_KEY")]
    assert done.states == ["23502", "23514", "23503"]


def test_44_of_records_with_one_key_the_first_is_in(inputs: Inputs, way: str) -> None:
    """The reject names key and constraint, not the first line: that line may be in another chunk, and no table has it."""
    constrained(inputs, f"alter table {'keyed' if way == 'direct' else 'keyed_staged'} add primary key (id)")
    done = inputs.load("keyed", b"id,name\n1,a\n2,b\n1,c\n3,d\n1,e\n", way)
    assert done.rows == [(1, "a"), (2, "b"), (3, "d")]
    assert done.codes == [(4, "id", "E_DUP_KEY"), (6, "id", "E_DUP_KEY")]
    assert (set(done.states), "a row with the same id exists already" in done.said(4)) == ({"23505"}, True)


@pytest.mark.parametrize(
    ("mode", "rows", "counts", "codes"),
    [
        ("append", [(1, "old"), (2, "b")], (1, 0, 0, 0, 2), [(2, "id", "E_DUP_KEY"), (4, "id", "E_DUP_KEY")]),
        ("skip", [(1, "old"), (2, "b")], (1, 0, 0, 2, 0), []),
        ("upsert", [(1, "new"), (2, "c")], (1, 2, 0, 0, 0), []),
    ],
)
def test_45_a_key_that_is_in_the_table_is_met_as_the_definition_says(
    inputs: Inputs, way: str, mode: str, rows: list[object], counts: tuple[int, ...], codes: list[object]
) -> None:
    inputs.psql("drop table if exists stock; create table stock (id int primary key, name text)")
    inputs.psql("insert into stock values (1, 'old')")
    done = inputs.load_into("stock", mode, b"id,name\n1,new\n2,b\n2,c\n", keep=True)
    job = done.job
    assert (sorted(done.rows), done.codes) == (rows, codes)
    names = ("inserted_rows", "updated_rows", "unchanged_rows", "skipped_rows", "failed_rows")
    assert tuple(job[name] for name in names) == counts


def test_46_a_text_too_large_for_its_index_is_rejected(inputs: Inputs, way: str) -> None:
    constrained(inputs, f"create index on {'indexed' if way == 'direct' else 'indexed_staged'} (name)")
    huge = random.Random(46).randbytes(10_000).hex()
    done = inputs.load("indexed", ids(["a", huge, "c"], "name"), way)
    assert done.rows == [(1, "a"), (3, "c")]
    assert [(line, code) for line, _, code in done.codes] == [(3, "E_TOO_LARGE")]
    assert done.states == ["54000"]


def test_47_a_row_wider_than_a_page_is_rejected(inputs: Inputs, way: str) -> None:
    """And it is found alone, although no staging table can hold it either."""
    names = [f"c{i}" for i in range(1, 501)]
    narrow, wide = ",".join("x" for _ in names), ",".join("a text of some length" for _ in names)
    done = inputs.load("wide", "\n".join([",".join(names), narrow, wide, narrow, narrow, wide, ""]).encode(), way)
    assert done.counts == ("completed", 5, 3, 2)
    assert [(line, code) for line, _, code in done.codes] == [(3, "E_TOO_LARGE"), (6, "E_TOO_LARGE")]
    assert set(done.states) == {"54000"}
    assert "row is too big" in done.said(3)


def test_48_too_many_bad_records_stop_the_job(inputs: Inputs, way: str) -> None:
    """The code is E_TOO_MANY_REJECTS. What is stored is bounded, what is counted is not: see test_rejects."""
    body = b"id,name\n" + b"".join(b"%s,a\n" % (b"x" if n % 2 else b"1") for n in range(20_000))
    done = inputs.load("n", body, way, max_rejects="99")
    assert (done.job["status"], done.job["error"]["code"]) == ("failed", "E_TOO_MANY_REJECTS")
    assert "max_rejects=99 allows" in done.job["error"]["message"]
    assert done.job["failed_rows"] == len(done.rejects) > 99
    assert done.job["inserted_rows"] == len(done.rows)


def test_48_a_definition_has_a_limit_of_its_own(inputs: Inputs, way: str) -> None:
    body = b"id,name\n1,a\n" + b"x,a\n" * 101
    assert inputs.load_into("n", "careful", body).job["error"]["code"] == "E_TOO_MANY_REJECTS"
    assert inputs.load_into("n", "careful", body, max_rejects="101").job["status"] == "completed"


def test_50_what_is_kept_of_a_long_record_is_cut_and_marked(inputs: Inputs, way: str) -> None:
    done = inputs.load("n", b"id,name\nx" + b"1" * 2000 + b"," + b"a" * 100_000 + b"\n2,b\n", way)
    (reject,) = done.rejects
    assert (len(reject["raw"]), len(reject["value"]), reject["truncated"]) == (4096, 1024, True)
    assert len(reject["message"]) <= 1024
    assert done.rows == [(2, "b")]


FORMULAS = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\ttab", "=1+1"]


def test_51_formulas_are_loaded_as_they_are_and_guarded_where_a_spreadsheet_opens(inputs: Inputs, way: str) -> None:
    done = inputs.load("n", ids(FORMULAS, "name") + b'x,"=1+1"\n=2,a\n9,"\rcr"\n', way)
    assert [row[1] for row in done.rows] == [*FORMULAS, "\rcr"]
    assert [reject["value"] for reject in done.rejects] == ["x", "=2"]
    exported = inputs.client.get(f"{BASE}/jobs/{done.job['id']}/rejects.csv").content.decode()
    found = list(csv.DictReader(io.StringIO(exported, newline="")))
    assert [(row["id"], row["name"]) for row in found] == [("x", "'=1+1"), ("'=2", "a")]


def test_52_markup_is_data_and_nothing_shows_it_as_markup(inputs: Inputs, way: str) -> None:
    """There is no page yet; what answers is JSON or CSV, says so, and is not to be guessed at."""
    script = "<script>alert(1)</script>"
    body = f"id,name\n1,{script}\n{script},b\n".encode()
    name = "<script>.csv"
    done = inputs.load("n", body, way, name=name)
    assert (done.rows, done.job["filename"], done.rejects[0]["value"]) == ([(1, script)], name, script)
    for path in (f"/jobs/{done.job['id']}", f"/jobs/{done.job['id']}/rejects", f"/jobs/{done.job['id']}/rejects.csv"):
        answer = inputs.client.get(BASE + path)
        assert answer.headers["content-type"].split(";")[0] in ("application/json", "text/csv")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "<" not in answer.headers.get("content-disposition", "")
    found = inputs.refused("n", f"id,{script}\n".encode(), way)
    assert (found["code"], found["unknown"]) == ("E_HEADER_MISMATCH", [script])
