"""What a person does about rejects: stop early, download, correct, send again, try again."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest

from ingest.formula import unguard
from tests.acceptance.client import BASE, Client, events, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect, Run
from tests.acceptance.tables import count, digest
from tests.acceptance.test_dirty import CHUNKS, make_dirty, prepare
from tests.canaries import CELL
from tests.conftest import Psql
from tests.processes import Starter

RECORDS = 100_000


def half_bad() -> bytes:
    """A file of which every second record has a text for its number."""
    return b"id,name\n" + b"".join(b"%s,name %d\n" % (CELL.encode() if n % 2 else b"%d" % n, n) for n in range(RECORDS))


def download(client: Client, job: dict[str, Any], **query: str) -> list[dict[str, str]]:
    """The records of a job's file of rejects."""
    answer = client.get(f"{BASE}/jobs/{job['id']}/rejects.csv", **query)
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


def written(records: list[dict[str, str]]) -> bytes:
    """The records as a file."""
    with io.StringIO(newline="") as text:
        writer = csv.DictWriter(text, records[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        return text.getvalue().encode()


@pytest.mark.parametrize("budget", ["1000", "5%"])
def test_a_job_stops_when_it_rejects_too_much(service: Starter, connect: Connect, psql: Psql, budget: str) -> None:
    psql("create table t (id int, name text)")
    process = service(**SMALL)
    client = connect(process)

    job = client.load(half_bad(), "public.t", max_rejects=budget)

    batches = int(psql("select sum(cardinality(batch_ends)) from ingest.chunks"))
    assert count(psql, "ingest.ledger") < batches / 2
    assert (job["status"], job["error"]["code"]) == ("failed", "E_TOO_MANY_REJECTS")
    assert f"max_rejects={budget} allows" in job["error"]["message"]
    assert f"{count(psql, 't')} rows of the file are in the table" in job["error"]["message"]
    assert job["inserted_rows"] == count(psql, "t")
    assert job["failed_rows"] == count(psql, "ingest.rejects")
    assert (job["chunks"]["pending"], job["chunks"]["processing"]) == (0, 0)
    assert client.load(b"id,name\n1,one\n", "public.t", max_rejects=budget)["status"] == "completed"
    assert len(events(process, "job_over_budget")) == 1
    assert tracebacks(process) == []
    refused = client.post(f"{BASE}/jobs/{job['id']}/retry")
    assert (refused.status_code, refused.json()["code"]) == (409, "E_STATE")


def test_what_is_stored_is_bounded_and_what_is_counted_is_not(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int, name text)")
    client = connect(
        service(**SMALL, MAX_STORED_REJECTS="700", WORKER_CONCURRENT_BATCHES="1", WORKER_CONCURRENT_CHUNKS="1")
    )

    job = client.load(half_bad(), "public.t")

    assert (job["status"], job["failed_rows"]) == ("completed", RECORDS // 2)
    page = client.json(f"{BASE}/jobs/{job['id']}/rejects", limit=1)
    assert (page["stored"], page["rejected"]) == (700, RECORDS // 2)
    summary = client.json(f"{BASE}/jobs/{job['id']}/rejects/summary")
    assert (summary["total"], summary["stored"], summary["groups"][0]["count"]) == (RECORDS // 2, 700, 700)
    assert [example["line"] for example in summary["groups"][0]["examples"]] == [3, 5, 7]
    assert len(download(client, job)) == 700


def test_the_file_of_rejects_holds_the_records_as_they_were(
    service: Starter, connect: Connect, psql: Psql, moments: random.Random, tmp_path: Path
) -> None:
    dirty = make_dirty(moments, b"\n")
    path = prepare(psql, dirty, tmp_path)
    client = connect(service(**CHUNKS))

    job = client.load(path, "public.t", encoding="utf-8")

    found = {int(record["_line"]): record for record in download(client, job)}
    assert sorted(found) == sorted(dirty.faults)
    for line, fault in dirty.faults.items():
        record = found[line]
        assert (record["_code"], record["_column"]) == (fault.code, fault.named or "")
        assert fault.said in record["_error"]
        fields = next(csv.reader(io.StringIO(dirty.places[line][1], newline="")))
        expected = [*[*fields, ""][:5], ",".join(fields[5:])]
        # The guard is for spreadsheets; here it stands before fields that begin with a carriage return.
        assert [unguard(field) for field in list(record.values())[:6]] == [f.replace("\0", "\\x00") for f in expected]


def test_rejects_are_corrected_and_sent_again(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int primary key, name text not null, note text)")
    client = connect(service(**SMALL))
    good = [{"id": str(n), "name": f"name {n}", "note": f"=1+{n}" if n % 3 else ""} for n in range(5000)]
    broken = [{**record, "id": "x" + record["id"]} if n % 7 == 0 else record for n, record in enumerate(good)]
    parent = client.load(written(broken), "public.t")
    rejects = download(client, parent)
    assert len(rejects) == parent["failed_rows"] == len(range(0, 5000, 7))

    corrected = [{**record, "id": record["id"].removeprefix("x")} for record in rejects]
    half = len(corrected) // 2
    first = client.load(written(corrected[:half]), "public.t", parent=parent["id"])
    assert (first["status"], first["failed_rows"], first["parent_id"]) == ("completed", 0, parent["id"])
    assert client.job(parent["id"])["resolved_rows"] == half
    left = download(client, parent)
    assert [record["_line"] for record in left] == [record["_line"] for record in rejects[half:]]
    client.load(written(corrected[half:]), "public.t", parent=parent["id"])

    assert client.job(parent["id"])["resolved_rows"] == len(rejects)
    assert download(client, parent) == []
    assert len(download(client, parent, resolved="true")) == len(rejects)
    summary = client.json(f"{BASE}/jobs/{parent['id']}/rejects/summary")
    assert summary["resolved"] == summary["total"] == len(rejects)
    rows = psql("select coalesce(json_agg(t order by id), '[]') from t")
    expected = [{"id": int(r["id"]), "name": r["name"], "note": r["note"] or None} for r in good]
    assert json.loads(rows) == expected


def test_a_wrong_parent_is_refused(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int); create table u (id int)")
    client = connect(service())
    other = client.load(b"id\n1\n", "public.u")
    for parent, status, code in (
        (other["id"], 422, "E_PARENT"),
        ("01990000-0000-7000-8000-000000000000", 422, "E_PARENT"),
        ("1", 400, "E_OPTION"),
    ):
        answer = client.put(b"id\n1\n", "public.t", parent=parent)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert count(psql, "t") == 0


def test_failed_chunks_run_again_and_nothing_is_doubled(service: Starter, connect: Connect, psql: Psql) -> None:
    psql("create table t (id int); create table reference (id int)")
    psql(f"insert into reference select generate_series(1, {RECORDS})")
    client = connect(service(**{**SMALL, "CHUNK_SIZE": "70000"}))
    # Another type than when the job began, for a while: the chunks of that time fail in the middle.
    psql("create function spoil() returns trigger language plpgsql as $$ begin "
         "if new.id % 20000 = 0 then raise exception 'no' using errcode = '42501'; end if; return new; end $$; "
         "create trigger spoil before insert on t for each row execute function spoil()")  # fmt: skip
    job = client.load(b"id\n" + b"".join(b"%d\n" % n for n in range(1, RECORDS + 1)), "public.t")
    assert (job["status"], job["error"]["code"], job["chunks"]["failed"]) == ("failed", "E_DATABASE_REFUSED", 5)
    failed = [chunk for chunk in client.chunks(job["id"]) if chunk["status"] == "failed"]
    assert {chunk["error"]["code"] for chunk in failed} == {"E_DATABASE_REFUSED"}
    before = count(psql, "t")
    assert job["inserted_rows"] == before < RECORDS

    psql("drop trigger spoil on t")
    retried = client.post(f"{BASE}/jobs/{job['id']}/retry")

    assert (retried.status_code, retried.json()["error"]) == (202, None)
    assert retried.json()["status"] != "failed"  # a worker may have it already
    done = client.wait(job["id"])
    assert (done["status"], done["inserted_rows"], done["failed_rows"]) == ("completed", RECORDS, 0)
    assert digest(psql, "t") == digest(psql, "reference")
    again = client.post(f"{BASE}/jobs/{job['id']}/retry")
    assert (again.status_code, again.json()["code"], again.json()["state"]) == (409, "E_STATE", "completed")
    assert until(lambda: not [c for c in client.chunks(job["id"]) if c["status"] != "completed"], "all are completed")


def test_ingest_load_writes_the_rejects_and_keeps_to_the_budget(run: Run, psql: Psql, tmp_path: Path) -> None:
    psql("create table t (id int, name text)")
    path, out = tmp_path / "f;x.csv", tmp_path / "out.csv"
    path.write_bytes(b'id;name\n1;one\nx;"=two"\ny;-3\n')
    arguments = ("load", path, "--dataset", "public.t", "--delimiter", ";", "--rejects", out)

    loaded = run(*arguments)

    assert loaded.code == 3, loaded.err
    lines = out.read_bytes().splitlines()
    assert lines[0] == b"id;name;_line;_column;_code;_error"
    assert [line.split(b";")[:5] for line in lines[1:]] == [
        [b"x", b"'=two", b"3", b"id", b"E_TYPE"], [b"y", b"-3", b"4", b"id", b"E_TYPE"]
    ]  # fmt: skip
    stopped = run(*arguments, "--max-rejects", "1")
    assert (stopped.code, "max_rejects=1 allows" in stopped.err) == (1, True)
    path.write_bytes(b"id;name\n1;one\n")
    assert (run(*arguments).code, out.read_bytes()) == (0, b"id;name;_line;_column;_code;_error\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("f.csv", "g.csv", "--rejects", "out.csv"), "one FILE"),
        (("f.csv", "--rejects", "f.csv"), "names the FILE itself"),
        (("f.csv", "--max-rejects", "5 percent"), "max_rejects must be a count"),
        (("f.csv", "--mode", "fast"), "'fast' is not one of"),
    ],
)
def test_wrong_usage_of_ingest_load(run: Run, service: Starter, arguments: tuple[str, ...], words: str) -> None:
    (service.folder / "f.csv").write_bytes(b"id\n1\n")
    ended = run("load", "--dataset", "public.t", *arguments)
    assert (ended.code, words in ended.err) == (2, True), ended.err
    assert (service.folder / "f.csv").read_bytes() == b"id\n1\n"
