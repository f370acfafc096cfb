"""load=while_uploading: rows are in the table before the file has ended; memory and disk are bounded; breaks are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import BASE, tracebacks, until
from tests.acceptance.conftest import SMALL
from tests.acceptance.running import Running, Slow, rows, running, the_job
from tests.acceptance.tables import LINEITEM, digest

LOAD = "&load=while_uploading"
# Chunks of about 50 KB, a few batches each.
TINY = {**SMALL, "CHUNK_SIZE": "65536", "WORKER_BATCH_BYTES": "16384", "MAX_RECORD_BYTES": "16384"}
BACKLOG_BYTES = 1_000_000
BLOCK = rows(100_000)  # some blocks of an upload, dozens of chunks


@pytest.fixture(scope="module")
def service(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("while")
    with running(shared_dsn, folder, **TINY, MAX_BACKLOG_BYTES=str(BACKLOG_BYTES)) as running_service:
        yield running_service


def in_table(service: Running, dataset: str, at_least: int) -> int:
    """Wait until so many rows are in the table; returns how many there are."""
    return until(lambda: n if (n := service.count(dataset)) >= at_least else None, f"{at_least} rows are in")


def assert_books_agree(service: Running, dataset: str, job: dict[str, Any]) -> None:
    """What the job says, what the ledger says and what the table holds is the same."""
    ledger = f"ingest.ledger g join ingest.chunks c on c.id = g.chunk_id where c.job_id = '{job['id']}'"
    held = service.count(dataset)
    assert int(service.psql(f"select coalesce(sum(g.inserted), 0) from {ledger}")) == held
    assert job["processed_rows"] == held
    assert service.psql(f"select count(*) from ingest.chunks where job_id = '{job['id']}' and state not in"
                        " ('completed', 'cancelled', 'failed')") == "0"  # fmt: skip
    assert service.count(f"(select id from {dataset} group by id having count(*) > 1) as twice") == 0


def test_rows_are_in_before_the_file_has_ended(service: Running) -> None:
    """The job is received and loaded at once, and ends only when both have."""
    dataset = service.table()
    with Slow(service.process, dataset, LOAD) as upload:
        upload.send(b"id,name\n" + BLOCK)
        in_table(service, dataset, 10_000)
        job = the_job(service, dataset)
        assert (job["status"], job["load"], job["total_rows"]) == ("receiving", "while_uploading", None)
        assert job["processed_rows"] > 0
        assert (job["progress"], job["eta_seconds"], job["bytes_total"]) == (0.0, None, None)
        upload.send(rows(50_000, first=100_001))
        status, answer = upload.end()
    assert (status, answer["id"], answer["total_rows"]) == (202, job["id"], 150_000)
    assert answer["status"] in ("processing", "completed")
    job = service.client.wait(job["id"])
    assert (job["status"], job["processed_rows"], job["progress"]) == ("completed", 150_000, 1.0)
    assert service.psql(f"select count(distinct id), max(id) from {dataset}") == "150000|150000"
    assert_books_agree(service, dataset, job)


def test_progress_of_a_file_whose_length_is_known(service: Running) -> None:
    """Never goes back, not when the upload is complete either, and ends at 1."""
    dataset, body = service.table(), b"id,name\n" + rows(300_000)
    host, _, port = service.process.url.removeprefix("http://").partition(":")
    seen = []
    with socket.create_connection((host, int(port)), 30) as connection:
        head = f"PUT {BASE}/upload/f.csv?dataset={dataset}{LOAD} HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[: len(body) // 2])
        in_table(service, dataset, 10_000)
        job = the_job(service, dataset)
        assert 0 < job["progress"] < 0.6
        seen.append(job["progress"])
        connection.sendall(body[len(body) // 2 :])
        assert b" 202 " in connection.recv(100)
    while (job := service.client.job(job["id"]))["status"] != "completed":
        seen.append(job["progress"])
    assert [*seen, job["progress"]] == sorted([*seen, 1.0])


def test_an_empty_file_and_a_tiny_one(service: Running) -> None:
    """Without a chunk, or with one that is complete only at the end."""
    dataset = service.table()
    for content, count in ((b"id,name\n", 0), (b"id,name\n1,a\n", 1)):
        job = service.wait(service.put(content, dataset, load="while_uploading"))
        assert (job["status"], job["total_rows"]) == ("completed", count)


def test_the_last_record_wins_of_a_keyed_dataset(service: Running, tmp_path: Path) -> None:
    """Its chunks are loaded one after the other, also while they arrive."""
    service.psql("create table keyed (id int primary key, name text)")
    (tmp_path / "keyed.toml").write_text(
        'name = "keyed"\ntable = "public.keyed"\nkey = ["id"]\nmode = "upsert"\n'
        '[columns.id]\ntype = "int"\n[columns.name]\ntype = "text"\n'
    )
    done = service.starter.command("datasets", "apply", str(tmp_path / "keyed.toml"))
    assert done.wait() == 0, done.log
    with Slow(service.process, "keyed", LOAD) as upload:
        upload.send(b"id,name\n" + rows(40_000))
        in_table(service, "keyed", 1000)
        upload.send(b"".join(b"%d,again\n" % n for n in range(1, 40_001)))
        status, answer = upload.end()
    assert status == 202
    job = service.client.wait(answer["id"])
    assert (job["status"], job["inserted_rows"], job["updated_rows"]) == ("completed", 40_000, 40_000)
    assert service.count("keyed where name = 'again'") == 40_000


def test_a_chunk_in_the_way_of_all_others_stops_the_upload(service: Running, tmp_path: Path) -> None:
    """Where the order of the file matters, nothing after it could be loaded: the client need not send it."""
    service.psql(
        "create table halted (id int primary key, name text);"
        "create function halt() returns trigger language plpgsql as"
        " $$ begin if new.id = 5000 then perform 1 from nowhere; end if; return new; end $$;"
        "create trigger halt before insert on halted for each row execute function halt()"
    )
    (tmp_path / "halted.toml").write_text(
        'name = "halted"\ntable = "public.halted"\nkey = ["id"]\nmode = "upsert"\n'
        '[columns.id]\ntype = "int"\n[columns.name]\ntype = "text"\n'
    )
    assert service.starter.command("datasets", "apply", str(tmp_path / "halted.toml")).wait() == 0
    with Slow(service.process, "halted", LOAD) as upload:
        upload.send(b"id,name\n" + BLOCK)
        until(lambda: service.count("ingest.chunks where state = 'failed'") > 0, "a chunk has failed")
        upload.send(BLOCK)
        status, problem = upload.answer()
    assert (status, problem["code"]) == (409, "E_UPLOAD_GONE")
    job = service.client.wait(the_job(service, "halted")["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "E_DATABASE_REFUSED")
    assert_books_agree(service, "halted", job)
    assert service.client.post(f"{BASE}/jobs/{job['id']}/retry").status_code == 409


def test_a_broken_upload_says_what_is_in_the_table(service: Running) -> None:
    """Its other chunks are not loaded, and their objects go."""
    dataset = service.table()
    with Slow(service.process, dataset, LOAD) as upload:
        upload.send(b"id,name\n" + BLOCK)
        in_table(service, dataset, 10_000)
        job = the_job(service, dataset)
    job = service.client.wait(job["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "E_UPLOAD_INCOMPLETE")
    held = service.count(dataset)
    assert f"{held} rows of the file are in the table, the rest was not loaded" in job["error"]["message"]
    assert_books_agree(service, dataset, job)
    until(lambda: not service.stored(), "the objects are gone")
    assert service.client.post(f"{BASE}/jobs/{job['id']}/retry").status_code == 409


def test_a_file_that_turns_bad_is_stopped_the_same_way(service: Running) -> None:
    """A record too large at the end is known only there; so is a wrong digest."""
    for options, fields, tail, code in (
        (LOAD, "", b"9," + b"x" * 70_000 + b"\n", "E_RECORD_TOO_LARGE"),
        (LOAD, f"Repr-Digest: sha-256=:{'A' * 43}=:\r\n", b"9,x\n", "E_DIGEST"),
    ):
        dataset = service.table()
        with Slow(service.process, dataset, options, fields) as upload:
            upload.send(b"id,name\n" + BLOCK)
            in_table(service, dataset, 10_000)
            upload.send(tail)
            status, problem = upload.end()
        assert (status, problem["code"]) == (422, code)
        job = service.client.wait(the_job(service, dataset)["id"])
        assert (job["status"], job["error"]["code"]) == ("failed", code)
        assert_books_agree(service, dataset, job)


def test_too_many_rejects_stop_the_upload(service: Running) -> None:
    """The client learns why, before it has sent everything."""
    dataset = service.table()
    with Slow(service.process, dataset, f"{LOAD}&max_rejects=10") as upload:
        upload.send(b"id,name\n" + b"bad,x\n" * 200_000)
        until(lambda: the_job(service, dataset)["status"] == "failed", "the job has failed")
        for _ in range(3):
            upload.send(BLOCK)
        status, problem = upload.answer()
    assert (status, problem["code"]) == (409, "E_UPLOAD_GONE")
    assert "max_rejects=10" in problem["detail"]
    assert the_job(service, dataset)["error"]["code"] == "E_TOO_MANY_REJECTS"
    until(lambda: not service.stored(), "the objects are gone")


def test_kill_9_while_it_is_loaded_and_uploaded(service: Running, shared_dsn: str, tmp_path: Path) -> None:
    """What is stored is still loaded by another worker; then the silent upload is failed, and the books agree."""
    dataset = service.table()
    with running(shared_dsn, tmp_path, "api", **TINY, INGEST_HOME=str(home_of(service))) as receiver:
        with Slow(receiver.process, dataset, LOAD) as upload:
            upload.send(b"id,name\n" + BLOCK)
            in_table(service, dataset, 10_000)
            receiver.process.kill()
        job = the_job(service, dataset)
        assert job["status"] == "receiving"
        pending = f"ingest.chunks where job_id = '{job['id']}' and state in ('pending', 'processing')"
        until(lambda: service.count(pending) == 0, "what was stored is loaded")
        service.psql(f"update ingest.jobs set updated_at = updated_at - interval '600 s' where id = '{job['id']}'")
        job = service.client.wait(job["id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "E_UPLOAD_INCOMPLETE")
    assert f"{service.count(dataset)} rows of the file are in the table" in job["error"]["message"]
    assert_books_agree(service, dataset, job)
    until(lambda: not service.stored(), "the objects are gone")


def home_of(service: Running) -> Path:
    """Return the folder with its storage."""
    return Path(service.starter.environment["INGEST_HOME"])


def test_kill_9_of_workers_while_it_is_uploaded(dsn: str, small_lineitem_csv: Path, tmp_path: Path) -> None:
    """Every record once, as ever."""
    with running(dsn, tmp_path, "api", **SMALL) as service:
        service.psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
        service.psql(f"\\copy reference from '{small_lineitem_csv}' with (format csv, header true)")
        content = small_lineitem_csv.read_bytes()
        with Slow(service.process, "public.lineitem", LOAD) as upload:
            for start in range(0, len(content), 3_000_000):
                upload.send(content[start : start + 3_000_000])
                worker = service.starter("worker", **SMALL)
                done = service.count("ingest.ledger")
                until(lambda done=done: service.count("ingest.ledger") > done, "it loads")
                worker.kill()
            status, answer = upload.end()
        assert status == 202
        service.starter("worker", **SMALL)
        job = service.client.wait(answer["id"])
        assert (job["status"], job["processed_rows"]) == ("completed", 100_000)
        assert digest(service.psql, "lineitem") == digest(service.psql, "reference")


def stored_bytes(service: Running) -> int:
    """Return the size of what is in the storage."""
    return sum(path.stat().st_size for path in service.stored())


def send_all(upload: Slow) -> None:
    """Send half a gigabyte."""
    for block in range(300):
        upload.send(rows(100_000, first=100_000 * block))


def test_the_client_waits_when_nothing_is_loaded(dsn: str, tmp_path: Path) -> None:
    """Without a worker, a little more than the limit is stored; the rest stays with the client until one comes."""
    with running(dsn, tmp_path, "api", **TINY, MAX_BACKLOG_BYTES=str(BACKLOG_BYTES)) as service:
        dataset = service.table()
        with Slow(service.process, dataset, LOAD) as upload:
            upload.send(b"id,name\n")
            upload.socket.settimeout(5)  # a connection that takes nothing for so long takes nothing more
            with pytest.raises(TimeoutError):
                send_all(upload)
            until(lambda: stored_bytes(service) > BACKLOG_BYTES, "as much is stored as may be")
            assert stored_bytes(service) < BACKLOG_BYTES + 3_000_000
            job = the_job(service, dataset)
            assert job["status"] == "receiving"
            assert tracebacks(service.process) == []
            service.starter("worker", **TINY)
            in_table(service, dataset, 100_000)
        job = service.client.wait(job["id"])
        assert job["error"]["code"] == "E_UPLOAD_INCOMPLETE"
        assert_books_agree(service, dataset, job)


def test_an_upload_that_waits_can_be_stopped(dsn: str, tmp_path: Path) -> None:
    """By the end of the job, whoever ends it, and by the service's own."""
    with running(dsn, tmp_path, "api", **TINY, MAX_BACKLOG_BYTES="1") as service:
        dataset = service.table()
        with Slow(service.process, dataset, LOAD) as upload:
            upload.send(b"id,name\n" + BLOCK)
            job = the_job(service, dataset)
            until(lambda: service.count("ingest.chunks") >= 1, "a chunk is stored")
            service.psql(f"select ingest.fail_upload('{job['id']}', 'E_UPLOAD_INCOMPLETE', 'stopped')")
            status, problem = upload.answer()
            assert (status, problem["code"]) == (409, "E_UPLOAD_GONE")
            assert "stopped" in problem["detail"]
        other = service.table()
        with Slow(service.process, other, LOAD) as upload:
            upload.send(b"id,name\n" + BLOCK)
            until(lambda: service.count("ingest.chunks where state = 'pending'") >= 1, "a chunk is stored")
            assert service.process.terminate() == 0
    assert service.psql("select distinct state from ingest.jobs") == "failed"
