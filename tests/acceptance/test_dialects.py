"""Files as they are: dialects, encodings and damage through a real upload, told what they are by the options."""

from __future__ import annotations

from urllib.parse import parse_qsl

import httpx
import pytest

from tests.acceptance.inputs import WAYS, Inputs

DATASETS: dict[str, str] = {}
TABLES = {
    "t": "id int, name text, amount numeric",
    "n": "id int, name text",
    "words": "word text",
    "texts": "word text, other text",
}

ROWS = [(1, "plain", 1.5), (2, 'with "quotes"; and, more', 2), (3, None, 3)]

pytestmark = [pytest.mark.parametrize("way", WAYS)]


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ('id;name;amount\n1;plain;1.5\n2;"with ""quotes""; and, more";2\n3;;3\n', {"delimiter": ";"}),
        ('id\tname\tamount\n1\tplain\t1.5\n2\twith "quotes"; and, more\t2\n3\t\t3\n', {"delimiter": "tab", "quote": "none"}),
        ('id|name|amount\n1|plain|1.5\n2|"with \\"quotes\\"; and, more"|2\n3||3\n', {"delimiter": "|", "escape": "\\"}),
        ("id,name,amount\n1,plain,1.5\n2,'with \"quotes\"; and, more',2\n3,,3\n", {"quote": "'"}),
        ('id||name||amount\n1||plain||1.5\n2||with "quotes"; and, more||2\n3||||3\n', {"delimiter": "||", "quote": "none"}),
        ('id, name, amount\n1, plain, 1.5\n2, "with ""quotes""; and, more" , 2\n3, ,3\n', {"trim": "true"}),
        ('id,name,amount\r1,plain,1.5\r2,"with ""quotes""; and, more",2\r3,,3\r', {"newline": "cr"}),
        ('id,name,amount\n1,plain,1.5\n2,with "quotes"; and\\, more,2\n3,,3\n', {"quote": "none", "escape": "\\"}),
        ('# by us\n\nid,name,amount\n1,plain,1.5\n# it\'s "so\n2,"with ""quotes""; and, more",2\n3,,3\n#', {"comment": "#"}),
        ('Report of May\n"x\nid,name,amount\n1,plain,1.5\n2,"with ""quotes""; and, more",2\n3,,3\n', {"skip_rows": "2"}),
        ('1,plain,1.5\n2,"with ""quotes""; and, more",2\n3,,3\n', {"header": "false"}),
        ('plain,1.5,1\n"with ""quotes""; and, more",2,2\n,3,3\n', {"header": "false", "columns": "name,amount,id"}),
        ('a,x,b,c\n1,y,plain,1.5\n2,"z","with ""quotes""; and, more",2\n3,,,3\n', {"columns": "id,,name,amount"}),
        ('I,na,\nd,me,amount\n1,plain,1.5\n2,"with ""quotes""; and, more",2\n3,,3\n', {"header_rows": "2", "columns": "id,name,amount"}),
        ('id,name,amount\n1,plain,1.5\n2,"with ""quotes""; and, more",2\n3,,3\n\nTotal,"x,6.5\nEnd\n\n', {"footer_rows": "2"}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_file_is_read_as_the_options_say(inputs: Inputs, way: str, body: str, options: dict[str, str]) -> None:
    done = inputs.load("t", body.encode(), way, **options)
    assert (done.rows, done.codes) == (ROWS, [])
    # In any encoding the same.
    for encoding in ("utf-16", "windows-1252") if way == "direct" else ():
        done = inputs.load("t", body.encode(encoding), way, encoding=encoding, **options)
        assert (done.rows, done.codes) == (ROWS, []), encoding


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("windows-1252", "Zoë €5 “x”"),
        ("latin-1", "Zoë §5"),
        ("utf-16", "Zoë €5 😀"),
        ("utf-16-le", "Zoë €5 😀"),
        ("utf-32-be", "Zoë €5 😀"),
        ("koi8-r", "Привет"),
        ("cp037", "Zoe 5"),
        ("gbk", "你好"),
        ("shift_jis", "こんにちは"),
    ],
)
def test_rejects_say_where_they_are_in_the_file_as_it_was_sent(
    inputs: Inputs, way: str, encoding: str, text: str
) -> None:
    lines = ["id,name\n", f"1,{text}\n", f"x,{text}\n", "\n", f"y,{text}\n", f"2,{text}\n"]
    done = inputs.load("n", "".join(lines).encode(encoding), way, encoding=encoding)
    assert done.rows == [(1, text), (2, text)]
    assert done.codes == [(3, "id", "E_TYPE"), (5, "id", "E_TYPE")]
    assert [reject["byte_offset"] for reject in done.rejects] == [
        len("".join(lines[:2]).encode(encoding)), len("".join(lines[:4]).encode(encoding))
    ]  # fmt: skip
    assert [reject["raw"] for reject in done.rejects] == [f"x,{text}", f"y,{text}"]


@pytest.mark.parametrize(
    ("encoding", "bad"), [("windows-1252", b"\x81"), ("utf-16-le", b"\x00\xd8"), ("gbk", b"\xff"), ("utf-8", b"\xff")]
)
def test_bytes_that_mean_nothing_cost_their_record(inputs: Inputs, way: str, encoding: str, bad: bytes) -> None:
    head = "id,name\n1,aé\n2,b".encode(encoding) if encoding != "gbk" else "id,name\n1,a\n2,b".encode(encoding)
    done = inputs.load("n", head + bad + "c\n3,d\n".encode(encoding), way, encoding=encoding)
    assert [row[0] for row in done.rows] == [1, 3]
    assert done.codes == [(3, None, "E_UTF8")]


def test_ragged_records_are_rejected_padded_or_merged(inputs: Inputs, way: str) -> None:
    body = b"id,name,amount\n1,a,1\n2,b\n3,c,d,3\n4,e,4,,\n5,f,g,h\n"
    done = inputs.load("t", body, way)
    assert (done.rows, done.codes) == ([(1, "a", 1)], [(line, None, "E_COLUMNS") for line in (3, 4, 5, 6)])
    done = inputs.load("t", body, way, on_ragged="pad")
    assert done.rows == [(1, "a", 1), (2, "b", None), (4, "e", 4)]
    assert done.codes == [(4, None, "E_COLUMNS"), (6, None, "E_COLUMNS")]
    done = inputs.load("t", body, way, on_ragged="merge")
    assert done.rows == [(1, "a", 1), (3, "c,d", 3), (4, "e", 4)]
    assert [(reject["line"], reject["raw"]) for reject in done.rejects] == [(3, "2,b"), (6, "5,f,g,h")]


def test_a_second_table_in_the_file_is_rejected_and_not_mixed_in(inputs: Inputs, way: str) -> None:
    """With a header and columns of its own; the header of the first one, once more, is told as such."""
    body = b"id,name\n1,a\n2,b\n\nday,place,note\n2024-01-02,x,y\n\nid,name\n3,c\n"
    done = inputs.load("n", body, way, skip_rows="0", header_rows="1")
    assert done.rows == [(1, "a"), (2, "b"), (3, "c")]
    assert done.codes == [(5, None, "E_COLUMNS"), (6, None, "E_COLUMNS"), (8, None, "E_HEADER_REPEAT")]


@pytest.mark.parametrize("load", ["after_upload", "while_uploading"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_footer_that_is_told_is_left_out_of_a_file_of_any_size(
    inputs: Inputs, way: str, load: str, encoding: str
) -> None:
    """What is looked at to find one are the first 64 KiB: in a longer file its lines are rejected, not guessed at."""
    count = 30_000
    records = "".join(f"{number},{'a text ' * 8}{number}\n" for number in range(count))
    body = f'id,name\n{records}\nTotal,"of all\n\nEnd\n\n'.encode(encoding)
    done = inputs.load("n", body, way, footer_rows="2", load=load, encoding=encoding)
    assert done.counts == ("completed", count, count, 0)
    if (load, encoding) == ("after_upload", "utf-8"):
        done = inputs.load("n", body.replace(b'"', b""), way)
        assert done.counts == ("completed", count + 2, count, 2)
        assert [(line - count, code) for line, _, code in done.codes] == [(3, "E_TYPE"), (5, "E_COLUMNS")]
        short = inputs.load("n", b"id,name\n1,a\n2,b\n3,c\n\nTotal: 3\n", way)
        assert (len(short.rows), short.codes) == (3, [])


HEADLESS = b"Ann,Main Street 1\nBob,Side Street 2\nCleo,Back Street 3\nDan,Main Street 4\n"


def test_texts_without_a_header_are_not_taken_for_columns_by_guess(inputs: Inputs, way: str) -> None:
    """What they are is said to be unknown, unless the request says it, or settles for the likeliest reading."""
    problem = inputs.refused("texts", HEADLESS, way)
    assert problem["code"] == "E_HEADER_MISMATCH"
    assert "does not look like a header: if it is none, say header=false" in problem["detail"]
    rows = [tuple(line.split(",")) for line in HEADLESS.decode().splitlines()]
    for options in ({"header": "false"}, {"on_ragged": "merge"}, {"on_quote": "keep"}):
        assert inputs.load("texts", HEADLESS, way, **options).rows == rows
    # A header that does not fit is none for any settings, and so is another number of columns.
    assert inputs.refused("texts", b"id,name\n1,x\n2,y\n3,z\n", way, on_ragged="pad")["code"] == "E_HEADER_MISMATCH"
    problem = inputs.refused("t", HEADLESS, way, on_ragged="merge", on_quote="keep")
    assert (problem["code"], "name them with the option columns" in problem["detail"]) == ("E_HEADER_MISMATCH", True)


def test_the_preview_of_a_file_without_a_header_has_the_columns_of_its_load(inputs: Inputs, way: str) -> None:
    dataset = "public.t" if way == "direct" else "t"
    params = {"dataset": dataset, "header": "false"}
    shown = httpx.post(f"{inputs.process.url}/api/v1/csv/preview", params=params, content=b"1,a,2\n2,b\n").json()
    assert [column["column"] for column in shown["columns"]] == ["id", "name", "amount"]
    assert (shown["header"], shown["missing"], shown["rows"][0]) == ([], [], ["1", "a", "2"])
    assert shown["problems"] == ["line 2 has 2 fields, the first record has 3"]


SECOND = b'id,name,amount\n1,a,1\n2,b\nid,name\n7,x\n8,"y\nz"\n\nid,name,amount,more\n9,z,9,\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("load", ["after_upload", "while_uploading"])
def test_where_any_width_is_taken_the_header_once_more_ends_the_table(
    inputs: Inputs, way: str, encoding: str, load: str
) -> None:
    """Or the records of the second table would be padded and merged into the first, and nobody would see it."""
    done = inputs.load("t", SECOND.decode().encode(encoding), way, on_ragged="pad", encoding=encoding, load=load)
    assert done.rows == [(1, "a", 1), (2, "b", None)]
    assert done.counts == ("completed", 7, 2, 5)
    assert done.codes == [(line, None, "E_SECOND_TABLE") for line in (4, 5, 6, 9, 10)]
    assert [reject["raw"] for reject in done.rejects] == ["id,name", "7,x", '8,"y\nz"', "id,name,amount,more", "9,z,9,"]
    starts = [SECOND.index(reject["raw"].encode(), 20) for reject in done.rejects]
    assert [reject["byte_offset"] for reject in done.rejects] == [
        start if encoding == "utf-8" else 2 + 2 * start for start in starts
    ]


def test_the_end_of_a_table_can_be_told(inputs: Inputs, way: str) -> None:
    """on_header: files that were put together are loaded on, and a header ends the table in default settings too."""
    body = b"id,name,amount\n1,a,1\nid,name,amount\n2,b,2\n"
    for options in ({}, {"on_ragged": "merge", "on_header": "reject"}, {"on_quote": "keep"}):
        done = inputs.load("t", body, way, **options)
        assert (done.rows, done.codes) == ([(1, "a", 1), (2, "b", 2)], [(3, None, "E_HEADER_REPEAT")])
    for options in ({"on_ragged": "merge"}, {"on_header": "end"}, {"on_header": "end", "mode": "atomic"}):
        done = inputs.load("t", body, way, **options)
        assert (done.rows, done.codes) == ([(1, "a", 1)], [(3, None, "E_SECOND_TABLE"), (4, None, "E_SECOND_TABLE")])


def test_the_header_that_comes_once_more_is_the_one_in_the_file(inputs: Inputs, way: str) -> None:
    """Not the names that the request gives instead, nor those of the columns that are loaded alone."""
    for columns in ("word,other", "word,"):
        done = inputs.load("texts" if columns.endswith("r") else "words", b"a,b\nx,y\na,b\nz,z\n", way, columns=columns)
        assert done.codes == [(3, None, "E_HEADER_REPEAT")]
        assert [row[0] for row in done.rows] == ["x", "z"]


def test_damage_costs_its_own_records_in_other_dialects_too(inputs: Inputs, way: str) -> None:
    body = "id;name;amount\r\n1;'a;1\r\n2;b'c;2\r\n3;'d'e;3\r\n4;'f\r\ng';4\r\n5;é;5\r\n"
    options = {"delimiter": ";", "quote": "'"}
    for encoding in ("utf-8", "utf-16", "windows-1252"):
        done = inputs.load("t", body.encode(encoding), way, encoding=encoding, **options)
        assert done.rows == [(4, "f\r\ng", 4), (5, "é", 5)]
        assert done.codes == [(2, None, "E_QUOTE_OPEN"), (3, None, "E_QUOTE_BARE"), (4, None, "E_QUOTE_TRAIL")]
    kept = inputs.load("t", body.encode(), way, on_quote="keep", **options)
    assert kept.rows[:3] == [(1, "'a", 1), (2, "b'c", 2), (3, "'d'e", 3)]


def test_the_preview_and_the_job_say_what_was_found_and_how_to_pin_it(inputs: Inputs, way: str) -> None:
    body = "id;name;amount\n1;Zoë;1,5\n2;b;2\n".encode("windows-1252")
    dataset = "public.t" if way == "direct" else "t"
    shown = httpx.post(f"{inputs.process.url}/api/v1/csv/preview", params={"dataset": dataset}, content=body).json()
    assert (shown["dialect"]["delimiter"], shown["dialect"]["encoding"]) == (";", "cp1252")
    assert shown["rows"] == [["1", "Zoë", "1,5"], ["2", "b", "2"]]
    done = inputs.load("t", body, way)
    assert done.job["dialect"] == shown["dialect"]
    assert any("delimiter" in sentence for sentence in shown["dialect"]["evidence"])
    pinned = dict(parse_qsl(shown["dialect"]["options"]))
    assert inputs.load("t", body, way, **pinned).codes == done.codes == [(2, "amount", "E_TYPE")]


def test_two_readings_that_are_equally_good_are_refused_with_both(inputs: Inputs, way: str) -> None:
    """Each as the options that say it, which are then taken at their word."""
    body = b"x;y|z\n1;2|3\n2;3|4\n"
    found = inputs.refused("n", body, way)
    assert found["code"] == "E_DIALECT_AMBIGUOUS"
    assert {dict(parse_qsl(options))["delimiter"] for options in found["alternatives"]} == {";", "|"}
    for options in found["alternatives"]:
        assert options in found["detail"]
        assert inputs.refused("n", body, way, **dict(parse_qsl(options)))["code"] == "E_HEADER_MISMATCH"
