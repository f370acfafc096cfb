"""A file with about 1 % of broken records: every good one in the table, every bad one in the rejects at its place."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import Client
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import digest
from tests.canaries import CELL
from tests.conftest import Psql
from tests.processes import Starter

RECORDS = 30_000
CHUNKS = {**SMALL, "CHUNK_SIZE": "300000"}
BROKEN = 0.01

TABLE = (
    "id int primary key, name varchar(60) not null, qty int check (qty >= 0), price numeric(8,2), day date,"
    " parent int references parent"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """How a record is broken: which field becomes what, and what the reject must say."""

    column: int
    text: bytes
    code: str
    sqlstate: str | None
    named: str | None  # the column that the reject names
    value: str | None
    said: str  # part of the message


LONG = CELL.ljust(61, "n")
FAULTS = {
    "text for a number": Fault(
        2, CELL.encode(), "E_TYPE", "22P02", "qty", CELL, "invalid input syntax for type integer"
    ),
    "no value": Fault(1, b"", "E_NOT_NULL", "23502", "name", None, "name is empty, but must have a value"),
    "check": Fault(2, b"-5", "E_CHECK", "23514", "qty", "-5", "qty >= 0"),
    "too large a number": Fault(3, b"1e99", "E_OUT_OF_RANGE", "22003", "price", "1e99", "overflow"),
    "no such day": Fault(4, b"2023-02-29", "E_OUT_OF_RANGE", "22008", "day", "2023-02-29", "out of range"),
    "moving day": Fault(4, b"tomorrow", "E_DATE_SPECIAL", None, "day", "tomorrow", "moving date"),
    "foreign key": Fault(5, b"101", "E_FOREIGN_KEY", "23503", "parent", "101", "refers to a row that does not exist"),
    "key that exists": Fault(0, b"0", "E_DUP_KEY", "23505", "id", "0", "a row with the same id exists already"),
    "too long": Fault(1, LONG.encode(), "E_TOO_LONG", "22001", "name", LONG, "value too long"),
    "not UTF-8": Fault(1, b"caf\xe9", "E_UTF8", None, None, None, "not valid UTF-8"),
    "NUL": Fault(1, b"a\0b", "E_NUL", None, None, None, "NUL byte"),
    "too few fields": Fault(5, b"", "E_COLUMNS", None, None, None, "5 fields, fewer than the 6 columns"),
    "too many fields": Fault(5, b"1,extra", "E_COLUMNS", None, None, None, "7 fields, more than the 6 columns"),
}


@dataclass(slots=True)
class Dirty:
    """A file, the same without its broken records, and the faults by physical line."""

    end: bytes
    data: bytearray = field(default_factory=bytearray)
    good: bytearray = field(default_factory=bytearray)
    faults: dict[int, Fault] = field(default_factory=dict)
    places: dict[int, tuple[int, str]] = field(default_factory=dict)  # by line: byte offset, text
    line: int = 1

    def add(self, record: bytes, fault: Fault | None) -> None:
        """Append a record."""
        if fault is None:
            self.good += record + self.end
        else:
            self.faults[self.line] = fault
            self.places[self.line] = (len(self.data), record.decode("utf-8", "backslashreplace"))
        self.data += record + self.end
        self.line += record.count(b"\n") + 1


def make_dirty(rng: random.Random, end: bytes) -> Dirty:
    """Make a file whose good records are hard too: quotes, line ends and `\\.` inside quotes."""
    dirty = Dirty(end)
    header = b"id,name,qty,price,day,parent"
    dirty.add(header, None)
    every_kind = list(FAULTS.values())
    for i in range(1, RECORDS + 1):
        fields = [b"%d" % i, b"%s %d" % (CELL.encode(), i), b"1", b"9.99", b"2024-02-29", b"%d" % (i % 100 + 1)]
        if rng.random() < 0.05:
            fields[1] = rng.choice((b'"two\nlines, ""quoted"" %d"', b'"end\n\\.\n%d"', b'"\r\n%d\r"', b'", %d"')) % i
        fault = rng.choice(every_kind) if rng.random() < BROKEN else None
        if fault:
            fields[fault.column] = fault.text
        if fault is FAULTS["too few fields"]:
            del fields[-1]
        dirty.add(b",".join(fields), fault)
    return dirty


def prepare(psql: Psql, dirty: Dirty, folder: Path) -> Path:
    """Make the tables: the target with one row in it, and `reference` as it must be afterwards."""
    psql("create table parent (id int primary key); insert into parent select generate_series(1, 100)")
    psql(f"create table t ({TABLE}); insert into t values (0, 'was here', 1, 1, '2024-01-01', 1)")
    psql("create table reference (like t); insert into reference select * from t")
    clean, path = folder / "clean.csv", folder / "dirty.csv"
    clean.write_bytes(dirty.good)
    path.write_bytes(dirty.data)
    psql(f"\\copy reference from '{clean}' with (format csv, header true)")
    return path


def check(client: Client, job_id: str, dirty: Dirty) -> None:
    """Compare every reject of a job with what the file's maker knows about it."""
    rejects = {reject["line"]: reject for reject in client.rejects(job_id)}
    assert sorted(rejects) == sorted(dirty.faults)
    for line, fault in dirty.faults.items():
        reject = rejects[line]
        assert (reject["code"], reject["sqlstate"]) == (fault.code, fault.sqlstate), reject
        assert (reject["column"], reject["value"]) == (fault.named, fault.value), reject
        assert fault.said in reject["message"], reject
        assert (reject["byte_offset"], reject["raw"]) == dirty.places[line], reject
        assert not reject["truncated"]


@pytest.mark.parametrize(
    ("end", "settings"), [(b"\n", {}), (b"\r\n", CHUNKS), (b"\n", CHUNKS)], ids=["one chunk", "CRLF, chunks", "chunks"]
)
def test_every_good_record_is_in_and_every_bad_one_is_explained(
    service: Starter,
    connect: Connect,
    psql: Psql,
    moments: random.Random,
    tmp_path: Path,
    end: bytes,
    settings: Mapping[str, Any],
) -> None:
    dirty = make_dirty(moments, end)
    path = prepare(psql, dirty, tmp_path)
    client = connect(service(**settings))

    job = client.load(path, "public.t", encoding="utf-8")

    assert len({fault.code for fault in dirty.faults.values()}) >= 8
    assert job["status"] == "completed"
    assert (job["total_rows"], job["failed_rows"]) == (RECORDS, len(dirty.faults))
    assert job["inserted_rows"] == job["processed_rows"] == RECORDS - len(dirty.faults)
    assert digest(psql, "t") == digest(psql, "reference")
    check(client, job["id"], dirty)
    assert (len(client.chunks(job["id"])) > 1) == bool(settings)


@pytest.mark.parametrize("writers", ["1", "4"])
def test_of_records_with_one_key_one_is_in_and_the_others_are_rejected(
    service: Starter, connect: Connect, psql: Psql, writers: str
) -> None:
    psql("create table t (id int primary key, line int)")
    client = connect(service(WORKER_BATCH_SIZE="100", WORKER_CONCURRENT_BATCHES=writers))
    body = b"id,line\n" + b"".join(b"%d,%d\n" % (line % 1000, line) for line in range(2, 3002))

    job = client.load(body, "public.t", encoding="utf-8")

    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 1000, 2000)
    rejects = client.rejects(job["id"])
    assert {(reject["code"], reject["column"]) for reject in rejects} == {("E_DUP_KEY", "id")}
    lines_in = [int(line) for line in psql("select line from t order by line").splitlines()]
    assert sorted(lines_in + [reject["line"] for reject in rejects]) == list(range(2, 3002))
    if writers == "1":
        assert lines_in == list(range(2, 1002))


def test_a_file_of_bad_records_alone_has_failed(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int)")
    client = connect(service())

    job = client.load(b"id\nx\ny\n", "public.t")

    assert (job["status"], job["error"]["code"]) == ("failed", "E_ALL_REJECTED")
    assert (job["total_rows"], job["processed_rows"], job["failed_rows"]) == (2, 0, 2)
    assert [reject["line"] for reject in client.rejects(job["id"])] == [2, 3]
