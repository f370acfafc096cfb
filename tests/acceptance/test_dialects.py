"""Files as they are: dialects, encodings and damage through a real upload, told what they are by the options."""

from __future__ import annotations

import pytest

from tests.acceptance.inputs import WAYS, Inputs

TABLES = {"t": "id int, name text, amount numeric", "n": "id int, name text", "words": "word text"}
DATASETS: dict[str, str] = {}

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
    for encoding in ("utf-16", "utf-16-be", "utf-32", "windows-1252"):
        done = inputs.load("t", body.encode(encoding), way, encoding=encoding, **options)
        assert (done.rows, done.codes) == (ROWS, []), encoding


def sent(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


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
    done = inputs.load("n", sent("".join(lines), encoding), way, encoding=encoding)
    assert done.rows == [(1, text), (2, text)]
    assert done.codes == [(3, "id", "E_TYPE"), (5, "id", "E_TYPE")]
    assert [reject["byte_offset"] for reject in done.rejects] == [
        len(sent("".join(lines[:2]), encoding)), len(sent("".join(lines[:4]), encoding))
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
