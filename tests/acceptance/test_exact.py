"""Real files through HTTP equal a `\\copy` of the same file: every row and every column, once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import FLIGHTS, FLIGHTS_AS_TEXT, LINEITEM, count, digest
from tests.conftest import Psql
from tests.processes import Starter


@pytest.mark.parametrize(("columns", "null"), [(FLIGHTS, "NA"), (FLIGHTS_AS_TEXT, "")], ids=["typed", "as text"])
def test_flights_equal_a_copy(
    service: Starter, connect: Connect, psql: Psql, flights_csv: Path, columns: str, null: str
) -> None:
    psql(f"create table flights ({columns}); create table reference ({columns})")
    psql(f"\\copy reference from '{flights_csv}' with (format csv, header true, null '{null}')")
    client = connect(service())

    job = client.load(flights_csv, "public.flights", name="flights.csv", null=null)

    assert (job["status"], job["error"]) == ("completed", None)
    assert (job["total_rows"], job["processed_rows"], job["inserted_rows"]) == (336_776, 336_776, 336_776)
    assert (job["failed_rows"], job["skipped_rows"], job["updated_rows"]) == (0, 0, 0)
    assert job["progress"] == 1.0
    assert job["bytes_total"] == job["bytes_received"] == job["bytes_processed"] == flights_csv.stat().st_size
    assert job["sha256"] == hashlib.sha256(flights_csv.read_bytes()).hexdigest()
    assert job["filename"] == "flights.csv"
    assert digest(psql, "flights") == digest(psql, "reference")
    assert count(psql, "flights where tailnum is null") == (2512 if null else 0)


@pytest.mark.parametrize("settings", [{}, SMALL], ids=["default settings", "small chunks"])
def test_lineitem_equals_a_copy(
    service: Starter, connect: Connect, psql: Psql, lineitem_csv: Path, settings: Mapping[str, Any]
) -> None:
    psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
    psql(f"\\copy reference from '{lineitem_csv}' with (format csv, header true)")
    client = connect(service(WORKER_CONCURRENT_BATCHES="2", **settings))

    job = client.load(lineitem_csv, "public.lineitem")

    assert job["status"] == "completed"
    assert job["processed_rows"] == count(psql, "reference")
    assert digest(psql, "lineitem") == digest(psql, "reference")


def test_no_object_outlives_its_chunk(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path, tmp_path: Path
) -> None:
    psql(f"create table lineitem ({LINEITEM})")
    client = connect(service(**SMALL))

    job = client.load(small_lineitem_csv, "public.lineitem")

    chunks = client.chunks(job["id"])
    assert len(chunks) > 10
    assert {chunk["status"] for chunk in chunks} == {"completed"}
    assert sum(chunk["records"] for chunk in chunks) == job["total_rows"] == 100_000
    # The object goes after the finish, so the last one may still be on its way out when the job has ended.
    service.started[0].terminate()
    assert [path for path in (tmp_path / "home" / "objects").rglob("*") if path.is_file()] == []


def test_1500_rows_in_batches_of_1000_make_two_ledger_lines(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int, name text)")
    client = connect(service(WORKER_BATCH_SIZE="1000"))
    body = b"id,name\n" + b"".join(b"%d,name %d\n" % (i, i) for i in range(1500))

    job = client.load(body, "public.t")

    assert (job["status"], job["processed_rows"]) == ("completed", 1500)
    assert psql("select records, inserted from ingest.ledger order by byte_start") == "1000|1000\n500|500"
    assert psql("select count(*), count(distinct id), sum(id) from t") == f"1500|1500|{1499 * 750}"


def test_a_form_with_several_files_makes_a_job_for_each(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int)")
    client = connect(service())
    files = {"one.csv": b"id\n1\n2\n", "bad.csv": b"nope\n3\n", "two.csv": b"id\n4\n"}

    answer = client.post_form(files, "public.t")

    assert answer.status_code == 202
    one, bad, two = answer.json()["jobs"]
    assert bad["code"] == "E_HEADER_MISMATCH"
    assert [client.wait(job["id"])["status"] for job in (one, two)] == ["completed", "completed"]
    assert psql("select array_agg(id order by id) from t") == "{1,2,4}"
