"""Files and requests that cannot be loaded: the right status and code, one line for a person, nothing left behind."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import BASE, Body, Client, until
from tests.acceptance.conftest import Connect
from tests.acceptance.tables import count
from tests.conftest import Psql
from tests.processes import Starter

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(20)
CSV = b"id,name\n1,one\n2,two\n"

Stored = Callable[[], list[Path]]


def workbook() -> bytes:
    """What an Excel file begins with: a ZIP archive."""
    with io.BytesIO() as buffer:
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("[Content_Types].xml", "<Types/>")
        return buffer.getvalue()


def records(n: int) -> bytes:
    """The header and n good records."""
    return b"id,name\n" + b"".join(b"%d,name %d\n" % (i, i) for i in range(n))


@pytest.fixture
def client(service: Starter, connect: Connect, psql: Psql) -> Client:
    """A service with a table t and small limits."""
    psql("create table t (id int not null, name text)")
    return connect(service(CHUNK_SIZE="100000", WORKER_BATCH_BYTES="50000", MAX_RECORD_BYTES="60000"))


def refuse(client: Client, body: Body, dataset: str | None = "public.t", **options: str) -> dict[str, Any]:
    """Upload something that must be refused; returns the problem, after checking its form."""
    answer = client.put(body, dataset, **options)
    found: dict[str, Any] = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == found["status"] >= 400
    assert set(found) >= {"type", "title", "detail", "code"}
    assert "\n" not in found["detail"]
    assert "Traceback" not in answer.text
    return found


def assert_nothing_left(client: Client, psql: Psql, stored: Stored) -> None:
    """No rows, nothing that could be claimed, no objects; whatever jobs there are have failed with a reason."""
    assert count(psql, "t") == 0
    assert count(psql, "ingest.chunks") == 0
    assert until(lambda: stored() == [], "the objects are gone")
    for job in client.jobs():
        assert job["status"] == "failed"
        assert job["error"]["code"]


# fmt: off
BAD_FILES: dict[str, tuple[bytes, str, dict[str, Any], str]] = {
    # name: (file, code, facts, words in the detail)
    "empty": (b"", "E_EMPTY", {}, "empty"),
    "blank lines": (b"\n\r\n\n", "E_EMPTY", {}, "empty"),
    "byte order mark alone": (b"\xef\xbb\xbf", "E_EMPTY", {}, "empty"),
    "PNG": (PNG, "E_NOT_CSV", {}, "PNG image"),
    "ZIP or Excel": (workbook(), "E_NOT_CSV", {}, "Excel workbook or a ZIP"),
    "gzip, cut off": (gzip.compress(CSV)[:-6], "E_COMPRESSED", {}, "gzip"),
    "random bytes": (bytes(range(256)) * 20, "E_NOT_CSV", {}, "NUL bytes"),
    "UTF-16": ("\ufeffid,name\n1,one\n".encode("utf-16-le"), "E_ENCODING", {}, "UTF-16"),
    "UTF-16 without mark": ("id,name\n1,one\n".encode("utf-16-le"), "E_ENCODING_SUSPECT", {}, "UTF-16"),
    "header in Latin-1": (b"id,nam\xe9\n1,one\n", "E_ENCODING", {"line": 1}, "0xe9"),
    "CR line ends": (b"id,name\r1,one\r", "E_LINE_END", {"line": 1}, "CR alone"),
    "unknown and missing": (
        b"name,nope\none,1\n", "E_HEADER_MISMATCH", {"missing": ["id"], "unknown": ["nope"], "duplicate": []}, "nope"
    ),
    "duplicate": (b"id,name,ID\n1,a,2\n", "E_HEADER_MISMATCH", {"duplicate": ["id"]}, "more than once: 'id'"),
    "other delimiter": (b"id;name\n1;a\n", "E_HEADER_MISMATCH", {"delimiter_seen": ";"}, "delimiter ';'"),
    "nameless column": (b"id,,name\n1,2,3\n", "E_HEADER_EMPTY", {"line": 1, "column": 2}, "column 2"),
    "open quote in the header": (b'id,"name\n1,2\n', "E_QUOTE_OPEN", {"line": 1}, "line 1"),
    "open quote on line 4": (b'id,name\n1,a\n2,"b\nb"\n4,"c\nd\ne\n', "E_QUOTE_OPEN", {"line": 5}, "line 5"),
    "open quote in a later chunk": (
        records(20_000) + b'1,"x\n2\ny\n', "E_QUOTE_OPEN", {"line": 20_002}, "line 20002"
    ),
    "too long a record": (b"id,name\n1,a\n2," + b"b" * 70_000 + b"\n", "E_RECORD_TOO_LARGE", {"line": 3}, "line 3"),
    "open quote and much after it": (
        b'id,name\n1,a\n2,b\n3,"c\n' + b"and\n" * 50_000, "E_RECORD_TOO_LARGE", {"line": 4}, "line 4"
    ),
}
# fmt: on


def test_bad_files_are_refused_with_their_reason(client: Client, psql: Psql, stored: Stored) -> None:
    for name, (body, code, facts, words) in BAD_FILES.items():
        found = refuse(client, body, encoding="utf-8", newline="lf", delimiter=",")  # else they would be found out
        assert (found["status"], found["code"]) == (422, code), name
        assert {key: found[key] for key in facts} == facts, name
        assert words in found["detail"], name
    assert_nothing_left(client, psql, stored)
    # Nor was the service hurt.
    assert client.load(CSV, "public.t")["processed_rows"] == 2


def test_wrong_requests_are_refused_with_their_reason(client: Client, psql: Psql, stored: Stored) -> None:
    wrong: dict[str, tuple[dict[str, Any], int, str, str]] = {
        "dataset unknown": ({"dataset": "public.nope"}, 404, "E_DATASET_UNKNOWN", "public.nope"),
        "dataset of another schema": ({"dataset": "ingest.jobs"}, 404, "E_DATASET_UNKNOWN", "ingest.jobs"),
        "dataset missing": ({"dataset": None}, 400, "E_OPTION", "dataset is missing"),
        "unknown option": ({"colour": "red"}, 400, "E_OPTION", "colour"),
        "encoding": ({"encoding": "latin99"}, 400, "E_OPTION", "encoding 'latin99' is not known"),
        "ragged": ({"on_ragged": "padded"}, 400, "E_OPTION", "on_ragged must be reject or pad or merge"),
        "options that do not go together": (
            {"load": "while_uploading", "mode": "atomic"},
            400,
            "E_OPTION",
            "mode=atomic",
        ),
        "wrong value": ({"mode": "fast"}, 400, "E_OPTION", "mode must be batches or atomic or validate, not 'fast'"),
        "budget": ({"max_rejects": "101%"}, 400, "E_OPTION", "max_rejects must be a count like 100 or a share like 5%"),
        "parent": ({"parent": "mine"}, 400, "E_OPTION", "parent must be the id of a job"),
        "priority": ({"priority": "10"}, 400, "E_OPTION", "priority must be a whole number from 0 to 9"),
        "delimiter": ({"delimiter": "ab"}, 400, "E_OPTION", "delimiter 'ab' cannot be used"),
        "delimiter is the quote": ({"delimiter": '"'}, 400, "E_OPTION", "delimiter"),
    }
    for name, (options, status, code, words) in wrong.items():
        found = refuse(client, CSV, **{"dataset": "public.t"} | options)
        assert (found["status"], found["code"]) == (status, code), name
        assert words in found["detail"], name
    assert client.jobs() == []
    assert_nothing_left(client, psql, stored)


def test_wrong_paths_are_refused_with_their_reason(client: Client) -> None:
    nobody = "00000000-0000-7000-8000-000000000000"
    for path, status, code in (
        (f"{BASE}/jobs/{nobody}", 404, "E_NOT_FOUND"),
        (f"{BASE}/jobs/nonsense", 404, "E_NOT_FOUND"),
        (f"{BASE}/jobs/{nobody}/rejects", 404, "E_NOT_FOUND"),
        (f"{BASE}/jobs?limit=0", 400, "E_OPTION"),
        (f"{BASE}/jobs?sort=name", 400, "E_OPTION"),
        (f"{BASE}/jobs?status=sleeping", 400, "E_OPTION"),
        (f"{BASE}/datasets/public.nope", 404, "E_DATASET_UNKNOWN"),
        (f"{BASE}/upload/x.csv", 405, "E_METHOD"),
        ("/nowhere", 404, "E_NOT_FOUND"),
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_file_without_records_is_completed_with_none(client: Client, psql: Psql, stored: Stored) -> None:
    for body in (b"id,name\n", b"id,name", b"\xef\xbb\xbfid,name\r\n", b"\nid,name\n\n\n"):
        job = client.load(body, "public.t")
        assert (job["status"], job["total_rows"], job["processed_rows"]) == ("completed", 0, 0), body
        assert job["progress"] == 1.0, body
    assert (count(psql, "t"), stored()) == (0, [])


def test_the_same_rows_however_the_file_is_written(client: Client, psql: Psql) -> None:
    ways = {
        "plain": CSV,
        "BOM": b"\xef\xbb\xbfid,name\n1,one\n2,two\n",
        "CRLF without last line end": b"id,name\r\n1,one\r\n2,two",
        "quoted, other order, blank lines": b'"name","ID"\n"one",1\n\n"two",2\n\n\n',
    }
    for name, body in ways.items():
        job = client.load(body, "public.t")
        assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 2, 0), name
        assert psql("select id, name from t order by id; truncate t") == "1|one\n2|two", name


def test_a_file_over_the_limit_is_refused_at_the_byte_that_crosses_it(
    service: Starter, connect: Connect, psql: Psql, stored: Stored
) -> None:
    psql("create table t (id int not null, name text)")
    client = connect(service(MAX_UPLOAD_BYTES="1000000"))
    body = records(60_000)[:1_000_000].rpartition(b"\n")[0] + b"\n"
    body += b"\n" * (1_000_000 - len(body))

    for too_long in (body + b"\n", iter([body, b"\n"])):
        found = refuse(client, too_long)
        assert (found["status"], found["code"]) == (413, "E_TOO_LARGE")
    assert_nothing_left(client, psql, stored)

    assert client.load(iter([body]), "public.t")["status"] == "completed"
