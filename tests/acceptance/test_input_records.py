"""Bad input, by the numbers of the design's matrix: files, records and headers. Values and keys: test_input_values.

Where an outcome differs from the matrix, the test says why.
"""

from __future__ import annotations

import gzip

import pytest

from tests.acceptance.inputs import WAYS, Inputs

TABLES = {
    "n": "id int, name text",
    "texts": "a text, b text",
    "words": "word text",
    "documents": "id int, body jsonb",
}

LONG = "x" * 63
DATASETS = {
    "long": f"""
        name = "long"
        table = "long"
        [columns.first]
        type = "text"
        aliases = ["{LONG}1"]
        [columns.second]
        type = "text"
        aliases = ["{LONG}2"]
    """,
    "lenient": """
        name = "lenient"
        table = "n"
        unknown_columns = "ignore"
        [columns.id]
        type = "int"
        required = true
        aliases = ["No."]
        [columns.name]
        type = "text"
    """,
    "empties": """
        name = "empties"
        table = "texts"
        [columns.a]
        type = "text"
        nulls = ["", "n/a"]
        [columns.b]
        type = "text"
        trim = false
        nulls = []
    """,
}

BOM = b"\xef\xbb\xbf"
NAMES = b"id,name\n"

pytestmark = [pytest.mark.parametrize("way", WAYS)]


def test_01_nothing_at_all_is_empty(inputs: Inputs, way: str) -> None:
    for body in (b"", BOM):
        assert inputs.refused("n", body, way)["code"] == "E_EMPTY"
        assert inputs.refused("n", body, way, columns="id,name")["code"] == "E_EMPTY"
        assert inputs.refused("n", body, way, header="false", columns="id,name", skip_rows="1")["code"] == "E_EMPTY"


def test_01_nothing_at_all_has_no_records_where_the_request_says_all_that_a_header_would(
    inputs: Inputs, way: str
) -> None:
    for body in (b"", BOM, b"\n"):
        done = inputs.load("n", body, way, header="false", columns="id,name")
        assert done.counts == ("completed", 0, 0, 0)
        assert [warning["code"] for warning in done.job["warnings"]] == ["W_NO_ROWS"]


def test_02_a_header_alone_is_a_load_of_no_rows_with_a_warning(inputs: Inputs, way: str) -> None:
    """Blank lines alone are refused as E_EMPTY: without a header nobody knows whether the file is the right one."""
    for body in (b"id,name\n", b"id,name", b"\n\nid,name\n\n\n"):
        done = inputs.load("n", body, way)
        assert done.counts == ("completed", 0, 0, 0)
        assert [warning["code"] for warning in done.job["warnings"]] == ["W_NO_ROWS"]
    assert inputs.refused("n", b"\n\r\n\n", way)["code"] == "E_EMPTY"
    assert inputs.load("n", b"id,name\n1,a\n", way).job["warnings"] == []


def test_03_a_byte_order_mark_is_not_part_of_the_first_name(inputs: Inputs, way: str) -> None:
    assert inputs.load("n", BOM + b"id,name\n1,a\n", way).rows == [(1, "a")]
    assert inputs.load("n", BOM + b'"id",name\r\n1,a\r\n', way).rows == [(1, "a")]


def test_04_the_header_of_an_appended_file_is_no_record(inputs: Inputs, way: str) -> None:
    """With a byte order mark or without, in quotes or not; there is no W_BOM_MID beside the reject, which says it."""
    for again in (BOM + b"id,name", b"id,name", BOM + b'"id","name"', b'"id" , name '):
        done = inputs.load("n", b"id,name\n1,a\n" + again + b"\n2,b\n", way)
        assert (done.counts, done.rows) == (("completed", 3, 2, 1), [(1, "a"), (2, "b")])
        assert done.codes == [(3, None, "E_HEADER_REPEAT")]
        assert "another file seems to have been appended" in done.said(3)
    # Where every column is a text, PostgreSQL would take it for a row.
    done = inputs.load("texts", b"a,b\nx,y\n\xef\xbb\xbfa,b\nz,\n", way)
    assert (done.rows, done.codes) == ([("x", "y"), ("z", None)], [(3, None, "E_HEADER_REPEAT")])
    # A mark before anything else than the header is text like any other: exact, but no number.
    done = inputs.load("texts", b"a,b\n\xef\xbb\xbfx,y\na,c\n", way)
    assert (done.rows, done.codes) == ([("\ufeffx", "y"), ("a", "c")], [])
    assert inputs.load("n", NAMES + BOM + b"1,a\n2,b\n", way).codes == [(2, "id", "E_TYPE")]
    # In a list of words the column's own name may be a word.
    done = inputs.load("words", b"word\na\nword\n\xef\xbb\xbfword\n", way)
    assert (done.rows, done.codes) == ([("a",), ("word",)], [(4, None, "E_HEADER_REPEAT")])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_05_other_unicode_is_transcoded(inputs: Inputs, way: str, encoding: str) -> None:
    """By its byte order mark, or what the request says."""
    mark = "\ufeff" if encoding.endswith("be") else ""
    body = f"{mark}id,name\n1,é\n".encode(encoding)
    done = inputs.load("n", body, way)
    assert (done.rows, done.codes) == ([(1, "é")], [])
    assert done.job["dialect"]["encoding"].startswith(encoding[:6])
    assert "byte order mark" in done.job["dialect"]["evidence"][0]
    assert inputs.refused("n", body, way, encoding="utf-8")["code"].startswith(("E_ENCODING", "E_NOT_CSV"))


def test_06_utf_16_without_a_byte_order_mark_is_seen_by_its_zeros(inputs: Inputs, way: str) -> None:
    body = "id,name\n1,é\n2,x\n".encode("utf-16-le")
    assert inputs.load("n", body, way).rows == [(1, "é"), (2, "x")]
    assert inputs.refused("n", body, way, encoding="utf-8")["code"] == "E_ENCODING_SUSPECT"


def test_07_bytes_of_windows_1252_are_read_as_such_unless_the_file_is_utf_8(inputs: Inputs, way: str) -> None:
    body = b"id,name\n1,caf\xe9\n2,x\n"
    assert inputs.load("n", body, way).rows == [(1, "café"), (2, "x")]
    done = inputs.load("n", body, way, encoding="utf-8")
    assert (done.rows, done.codes) == ([(2, "x")], [(2, None, "E_UTF8")])
    # Where most of what is not ASCII is UTF-8, the rest is damage.
    done = inputs.load("n", "id,name\n1,caféé\n2,né\n".encode() + b"3,caf\xe9\n", way)
    assert (done.rows, done.codes) == ([(1, "caféé"), (2, "né")], [(4, None, "E_UTF8")])


def test_08_what_only_looks_like_utf_8_is_rejected(inputs: Inputs, way: str) -> None:
    """Overlong forms, surrogates, and a character that the end of the file cuts off."""
    body = b"id,name\n1,\xc0\xaf\n2,\xed\xa0\x80\n3,\xc3\xa9\n4,\xe2\x82"
    done = inputs.load("n", body, way, encoding="utf-8")
    assert (done.rows, [code for _, _, code in done.codes]) == ([(3, "é")], ["E_UTF8"] * 3)


def test_09_a_nul_is_rejected_and_never_stripped(inputs: Inputs, way: str) -> None:
    done = inputs.load("n", b'id,name\n1,a\n2,b\0c\n3,"\0"\n4,d\n', way)
    assert (done.rows, done.codes) == ([(1, "a"), (4, "d")], [(3, None, "E_NUL"), (4, None, "E_NUL")])
    assert done.rejects[0]["raw"] == "2,b\x00c"


def test_10_an_escaped_nul_in_json_is_rejected(inputs: Inputs, way: str) -> None:
    body = b'id,body\n1,"{""a"": ""\\u0000""}"\n2,"{""a"": ""\\u0041""}"\n3,{\n'
    done = inputs.load("documents", body, way)
    assert done.rows == [(2, {"a": "A"})]
    assert done.codes == [(2, "body", "E_JSON_NUL"), (4, "body", "E_TYPE")]
    assert done.states == ["22P05", "22P02"]


def test_11_characters_that_nobody_sees_are_loaded_as_they_are(inputs: Inputs, way: str) -> None:
    values = ["a\x01\x1b[31mb", "\u202egnp.exe", "z\u200bw", "\u200b", "tab\there", "\x7f", "e\u0301", "\x0b"]
    done = inputs.load("words", "\n".join(["word", *values, ""]).encode(), way)
    assert (done.rows, done.codes) == ([(value,) for value in values], [])
    assert "\x1b" not in inputs.process.log
    assert "\u202e" not in inputs.process.log


def test_12_line_ends_of_cr_alone_are_line_ends(inputs: Inputs, way: str) -> None:
    done = inputs.load("n", b"id,name\r1,a\r2,b\r", way)
    assert (done.rows, done.job["dialect"]["newline"]) == ([(1, "a"), (2, "b")], "cr")
    assert inputs.refused("n", b"id,name\r1,a\r2,b\r", way, newline="lf")["code"] == "E_LINE_END"
    done = inputs.load("n", b"id,name\n1,a\r2,b\r\n3,c\n4,d\re\n", way)
    assert (done.rows, done.codes) == ([(3, "c")], [(2, None, "E_COLUMNS"), (4, None, "E_LINE_END")])


def test_13_line_ends_may_be_mixed_and_stand_in_quotes(inputs: Inputs, way: str) -> None:
    body = b'id,name\r\n1,"a\r\nb"\n2,"c\nd"\r\nx,e\n3,"f\rg"\r\ny,h\r\n'
    done = inputs.load("n", body, way)
    assert done.rows == [(1, "a\r\nb"), (2, "c\nd"), (3, "f\rg")]
    assert done.codes == [(6, "id", "E_TYPE"), (8, "id", "E_TYPE")]


def test_14_the_last_line_needs_no_end(inputs: Inputs, way: str) -> None:
    for last in (b"2,b", b"2,b\r", b'2,"b"'):
        assert inputs.load("n", b"id,name\n1,a\n" + last, way).rows == [(1, "a"), (2, "b")]


def test_15_a_quote_that_is_never_closed_costs_its_own_line(inputs: Inputs, way: str) -> None:
    """If what follows are whole records; else nobody knows what the file says, and the line is named."""
    done = inputs.load("n", b'id,name\n1,a\n2,"b\nb"\n3,"c\n4,d\n', way)
    assert (done.rows, done.codes) == ([(1, "a"), (2, "b\nb"), (4, "d")], [(5, None, "E_QUOTE_OPEN")])
    assert done.said(5) == "the quote that opens field 2 is never closed"
    assert inputs.load("n", b'id,name\n1,a\n2,"b', way).codes == [(3, None, "E_QUOTE_OPEN")]
    found = inputs.refused("n", b'id,name\n1,a\n2,"b\nb"\n3,"c\nd\ne\n', way)
    assert (found["code"], found["line"]) == ("E_QUOTE_OPEN", 5)
    assert "opens on line 5" in found["detail"]


def test_16_a_quote_on_line_2_does_not_swallow_the_file(inputs: Inputs, way: str) -> None:
    """It is told within the limit of a record, however long the file is; in a file that quotes everything, at once."""
    rows = range(3, 60_000)
    done = inputs.load("n", b'id,name\n2,"b\n' + b"".join(b"%d,a text of some length\n" % n for n in rows), way)
    assert done.counts == ("completed", len(rows) + 1, len(rows), 1)
    assert done.codes == [(2, None, "E_QUOTE_OPEN")]
    done = inputs.load("n", b'"id","name"\n"2,"b"\n' + b"".join(b'"%d","a text"\n' % n for n in range(3, 500)), way)
    assert (len(done.rows), [(line, code) for line, _, code in done.codes]) == (497, [(2, "E_QUOTE_OPEN")])


def test_17_one_field_without_an_end_stops_at_the_limit(inputs: Inputs, way: str) -> None:
    for field in (b"x", b'"'):
        found = inputs.refused("n", b"id,name\n1," + field + b"x" * 1_100_000, way)
        assert (found["code"], found["line"]) == ("E_RECORD_TOO_LARGE", 2)


def test_18_a_quote_inside_a_field_costs_its_own_record(inputs: Inputs, way: str) -> None:
    """COPY would load lines 2 to 4 as one row, and say nothing; and drop the quotes of line 6."""
    body = b'id,name\n1,24" screen\n2,b\n3,32" screen\n4,d\n5,a "b" c\n6,"say ""hi"""\n7, "e"\n8,f""\n9,"g" \n'
    for bad in (b"", b"x,bad neighbour\n"):
        done = inputs.load("n", body + bad, way)
        assert done.rows == [(2, "b"), (4, "d"), (6, 'say "hi"'), (7, " e"), (9, "g ")]
        assert done.codes[:4] == [(line, None, "E_QUOTE_BARE") for line in (2, 4, 6, 9)]
        assert len(done.codes) == (5 if bad else 4)
    assert "field 2 holds a quote without beginning with one" in done.said(2)
    assert done.rejects[0]["raw"] == '1,24" screen'
    done = inputs.load("n", body, way, on_quote="keep")
    assert done.codes == []
    assert [row for row in done.rows if row[0] in (1, 5, 8)] == [(1, '24" screen'), (5, 'a "b" c'), (8, 'f""')]
    done = inputs.load("n", b'id,name\n1,a"b,2"c,x\n3,c\n', way)
    assert (done.rows, done.codes) == ([(3, "c")], [(2, None, "E_QUOTE_BARE")])


def test_19_text_after_a_closing_quote_is_rejected(inputs: Inputs, way: str) -> None:
    body = b'id,name\n1,"a\nb"c\n2,"c"\n3,"d""e"f,g\n4,"g"" h"\n5,"i"j\n'
    done = inputs.load("n", body, way)
    assert done.rows == [(2, "c"), (4, 'g" h')]
    assert done.codes == [(line, None, "E_QUOTE_TRAIL") for line in (2, 5, 7)]
    assert "field 2 goes on after its closing quote" in done.said(2)


def test_20_an_escape_is_one_if_the_options_say_so_or_the_file_does(inputs: Inputs, way: str) -> None:
    body = b'id,name\n1,"say \\"hi\\""\n2,"b\\\\"\n3,"c"\n'
    for options in ({"escape": "\\"}, {"escape": "backslash"}, {}):
        done = inputs.load("n", body, way, **options)
        assert (done.rows, done.codes) == ([(1, 'say "hi"'), (2, "b\\"), (3, "c")], []), options
    done = inputs.load("n", body, way, escape="none")
    assert (done.rows, done.codes) == ([(2, "b\\\\"), (3, "c")], [(2, None, "E_QUOTE_TRAIL")])


def test_21_another_quote_than_the_files_is_hinted_at(inputs: Inputs, way: str) -> None:
    """Where the options say a wrong one; left out, it is found."""
    body = b"id,name\n1,'a,b'\n2,c\n"
    done = inputs.load("n", body, way, quote="double")
    assert (done.rows, done.codes) == ([(2, "c")], [(2, None, "E_COLUMNS")])
    assert "fields seem to be quoted with ', which the option quote would say" in done.said(2)
    for options in ({"quote": "'"}, {}):
        assert inputs.load("n", body, way, **options).rows == [(1, "a,b"), (2, "c")]


def test_22_empty_is_null_and_quoted_empty_is_text(inputs: Inputs, way: str) -> None:
    assert inputs.load("texts", b'a,b\n,""\n"",\n', way).rows == [(None, ""), ("", None)]
    assert inputs.load("texts", b'a,b\nNA,"NA"\n,""\n', way, null="NA").rows == [(None, "NA"), ("", "")]


def test_22_a_definition_says_which_texts_are_null(inputs: Inputs, way: str) -> None:
    """By default the quoted empty field too: most exports quote everything. Its words count in quotes as well."""
    done = inputs.load_into("texts", "empties", b'a,b\n"","x"\n"N/A",""\n" ",\n')
    assert done.rows == [(None, "x"), (None, ""), (None, None)]


def test_23_a_line_of_backslash_dot_is_data(inputs: Inputs, way: str) -> None:
    """Raw COPY of PostgreSQL 15 to 17 stops there and says nothing."""
    for end in (b"\n", b"\r\n"):
        done = inputs.load("words", end.join([b"word", b"a", b"\\.", b"b", b""]), way)
        assert (done.rows, done.codes) == ([("a",), ("\\.",), ("b",)], [])
    done = inputs.load("n", b'id,name\n1,"a\n\\.\nb"\n2,c\n', way)
    assert done.rows == [(1, "a\n\\.\nb"), (2, "c")]


def test_24_too_few_fields_say_how_many_there_are(inputs: Inputs, way: str) -> None:
    done = inputs.load("n", b"id,name\n1,a\n2\n3,c\n", way)
    assert (done.rows, done.codes) == ([(1, "a"), (3, "c")], [(3, None, "E_COLUMNS")])
    assert done.said(3) == "the record has 1 fields, fewer than the 2 columns of the header"


def test_25_too_many_fields_name_a_trailing_delimiter(inputs: Inputs, way: str) -> None:
    """When every record has one, the job has failed with E_ALL_REJECTED; the hint is with each record."""
    done = inputs.load("n", b"id,name\n1,a,\n2,b\n3,c,x\n", way)
    assert (done.rows, done.codes) == ([(2, "b")], [(2, None, "E_COLUMNS"), (4, None, "E_COLUMNS")])
    assert done.said(2).endswith("3 fields, more than the 2 columns of the header; it ends with a delimiter"
                                 " (trailing delimiter)")  # fmt: skip
    assert "trailing" not in done.said(4)
    done = inputs.load("n", b"id,name\n1,a,\n2,b,\n", way)
    assert (done.counts, done.rows) == (("failed", 2, 0, 2), [])
    assert done.job["error"]["code"] == "E_ALL_REJECTED"


def test_26_a_line_of_a_million_delimiters_costs_little(inputs: Inputs, way: str) -> None:
    """In the header they fail the file; in a record they cost the record alone."""
    many = b"," * 1_000_000
    assert inputs.refused("n", many + b"\n1\n", way)["code"] == "E_TOO_MANY_COLUMNS"
    done = inputs.load("n", b"id,name\n1,a\n" + many + b"\n3,c\n", way)
    assert (done.rows, done.codes) == ([(1, "a"), (3, "c")], [(3, None, "E_COLUMNS")])
    assert "1000001 fields" in done.said(3)
    assert done.rejects[0]["truncated"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_27_another_delimiter_is_found_or_named(inputs: Inputs, way: str, delimiter: str) -> None:
    body = f"id{delimiter}name\n1{delimiter}a\n"
    done = inputs.load("n", body.encode(), way)
    assert (done.rows, done.job["dialect"]["delimiter"]) == ([(1, "a")], delimiter)
    found = inputs.refused("n", body.encode(), way, delimiter=",")
    assert (found["code"], found["delimiter_seen"]) == ("E_HEADER_MISMATCH", delimiter)
    for line in (f"sep={delimiter}", f'"sep={delimiter}"'):
        assert inputs.load("n", f"{line}\n{body}".encode(), way).rows == [(1, "a")]
        found = inputs.refused("n", f"{line}\n{body}".encode(), way, delimiter=delimiter, skip_rows="0")
        assert (found["code"], found["delimiter_seen"], found["line"]) == ("E_HEADER_MISMATCH", delimiter, 1)
        assert "tells Excel the delimiter" in found["detail"]


def test_28_missing_and_unknown_columns_are_named_at_once(inputs: Inputs, way: str) -> None:
    """E_HEADER_MISMATCH stands for E_HEADER_MISSING, E_HEADER_EXTRA and E_HEADER_DUP: a person corrects them at once."""
    found = inputs.refused("n", b"id,nmae,x\n1,a,b\n", way)
    assert (found["code"], found["unknown"]) == ("E_HEADER_MISMATCH", ["nmae", "x"])


def test_28_a_definition_may_ignore_columns_but_not_miss_one(inputs: Inputs, way: str) -> None:
    assert inputs.load_into("n", "lenient", b"colour,No.,name\nred,1,a\n").rows == [(1, "a")]
    answer = inputs.client.put(b"colour,name\nred,a\n", "lenient")
    assert (answer.status_code, answer.json()["missing"]) == (422, ["id"])


def test_29_a_column_that_comes_twice_is_named(inputs: Inputs, way: str) -> None:
    """Also when the two are equal only without case, blanks and the ways to write an accent. See 28 for the code."""
    for header in ("id,name,id", "id,name, ID ", 'id,name,"Name"', "\uff49d,id,name"):
        found = inputs.refused("n", f"{header}\n1,a,2\n".encode(), way)
        assert (found["code"], len(found["duplicate"])) == ("E_HEADER_MISMATCH", 1), header


def test_30_a_column_without_a_name_and_names_with_invisible_characters(inputs: Inputs, way: str) -> None:
    """What is invisible around a name is dropped without a warning: there is only one thing it can mean."""
    for header in ("id,", "id,\u00a0", "id,\u200b", 'id,""'):
        found = inputs.refused("n", f"{header}\n1,a\n".encode(), way)
        assert (found["code"], found["column"]) == ("E_HEADER_EMPTY", 2)
    for header in ("id,\u00a0name\u00a0", "\u200bid\u200b,\ufeffname"):
        assert inputs.load("n", f"{header}\n1,a\n".encode(), way).rows == [(1, "a")]


def test_31_long_names_that_begin_alike_are_different(inputs: Inputs, way: str) -> None:
    """Columns are taken by place; a header is never an identifier, which PostgreSQL would cut to 63 bytes."""
    inputs.psql("create table if not exists long (first text, second text)")
    body = f"{LONG}2,{LONG}1\ntwo,one\n".encode()
    assert inputs.load_into("long", "long", body).rows == [("one", "two")]


@pytest.mark.parametrize("name", ['"x""; DROP TABLE n;--"', "ctid", "xmin", "tableoid", "id); DROP TABLE n; --"])
def test_32_a_header_never_reaches_sql(inputs: Inputs, way: str, name: str) -> None:
    """It is an unknown column. See 28 for the code."""
    found = inputs.refused("n", f"id,{name}\n1,a\n".encode(), way)
    assert (found["code"], found["unknown"]) == ("E_HEADER_MISMATCH", [name.strip('"').replace('""', '"')])
    assert inputs.load_into("n", "lenient", f"id,{name}\n1,a\n".encode()).rows == [(1, None)]


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"%PDF-1.7", b"\x7fELF", b"\x89PNG\r\n"])
def test_53_what_is_no_csv_is_refused_by_its_first_bytes(inputs: Inputs, way: str, start: bytes) -> None:
    """Whatever its name, and in whatever encoding it is said to be."""
    for options in ({}, {"encoding": "windows-1252", "delimiter": ","}):
        assert inputs.refused("n", start + bytes(range(256)) * 20, way, **options)["code"] == "E_NOT_CSV"


def test_54_gzip_that_nobody_declared_is_unpacked(inputs: Inputs, way: str) -> None:
    """Detection looks at what is inside."""
    done = inputs.load("n", gzip.compress("id;name\n1;é\n".encode("utf-16")), way)
    assert (done.rows, done.job["compression"]) == ([(1, "é")], "gzip")


def test_55_a_bomb_stops_at_its_ratio(inputs: Inputs, way: str) -> None:
    bomb = gzip.compress(b"id,name\n" + b"1,a\n" * 10_000_000, 9)
    answer = inputs.client.put(bomb, "public.n" if way == "direct" else "n")
    assert (answer.status_code, answer.json()["code"]) == (413, "E_DECOMPRESSED_LIMIT")


def test_56_damaged_gzip_is_refused_and_several_members_are_one_file(inputs: Inputs, way: str) -> None:
    whole = gzip.compress(b"id,name\n1,a\n")
    for damaged in (whole[:-9], whole[:-8] + b"xxxx" + whole[-4:], whole + b"and more"):
        assert inputs.refused("n", damaged, way)["code"] == "E_COMPRESSED"
    assert inputs.load("n", whole + gzip.compress(b"2,b\n"), way).rows == [(1, "a"), (2, "b")]
