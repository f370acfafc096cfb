"""Files that are unpacked or turned into UTF-8, sent resumably: kept as they are until they are whole, then loaded."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from backports import zstd

from tests.acceptance.client import tracebacks, until
from tests.acceptance.conftest import SMALL
from tests.acceptance.running import Running, rows, running
from tests.acceptance.tusclient import BYTES, FILES, VERSION, Tus, job_of, metadata

CSV = b"id,name\n" + rows(20_000)
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress, "bzip2": bz2.compress}
ENDING = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2"}
MIB = 1024 * 1024
MANY = 20

each_kind = pytest.mark.parametrize("kind", list(PACK))

# Makes the service wait while it adds a chunk to a job.
STALL = """
create function stall() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds}); return new; end $$;
create trigger stall before insert on ingest.chunks for each row when (new.ordinal > 1) execute function stall();
"""
STALLED = "select count(*) from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()"
WAKE = """
drop trigger stall on ingest.chunks;
"""
END_SLEEP = f"select pg_terminate_backend(pid) {STALLED[15:]}"


@pytest.fixture(scope="module")
def service(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(shared_dsn, tmp_path_factory.mktemp("packed"), **SMALL | {"CHUNK_SIZE": "100000"}) as service:
        yield service
        assert tracebacks(service.process) == []


@pytest.fixture
def tus(service: Running) -> Iterator[Tus]:
    with Tus(service.process.url) as tus:
        yield tus


def begin(tus: Tus, length: int, dataset: str, filename: str = "f.csv", **options: str) -> str:
    """Begin an upload; returns its path."""
    told = metadata(filename=filename, dataset=dataset, **options)
    answer = tus.request("POST", headers=VERSION | {"Upload-Length": str(length)} | told)
    assert answer.status_code == 201, answer.text
    return answer.headers["Location"]


def send(tus: Tus, path: str, data: bytes, *stops: int) -> httpx.Response:
    """Send a file in requests that end at these offsets; returns the last answer, or the first refusal."""
    start = 0
    for stop in (*(stop for stop in stops if stop < len(data)), len(data)):
        answer = tus.patch(path, start, data[start:stop])
        if answer.status_code != 204:
            break
        start = stop
    return answer


def refused(answer: httpx.Response) -> tuple[int, str]:
    """Return how a request was refused."""
    assert answer.status_code >= 400, answer.headers
    return answer.status_code, answer.json()["code"]


def assert_loaded(service: Running, dataset: str, job_id: str, sent: bytes) -> None:
    """All rows are in, once; the figures are those of the bytes as they were sent, and nothing is left of these."""
    job = service.client.wait(job_id)
    assert (job["status"], job["processed_rows"], job["total_rows"]) == ("completed", 20_000, 20_000), job["error"]
    assert job["sha256"] == hashlib.sha256(sent).hexdigest()
    assert job["bytes_total"] == job["bytes_received"] == job["bytes_processed"] == len(sent)
    assert service.psql(f"select count(*), sum(id), max(name) from {dataset}") == "20000|200010000|name 9999"
    until(lambda: not of_job(service, job_id), "the spool and the chunks are gone")


def grow_old(service: Running, job_id: str) -> None:
    """Make what a crash has left as old as the janitor wants it: it is not removed while somebody may still write it."""
    for path in of_job(service, job_id):
        with suppress(FileNotFoundError):
            os.utime(path, (0, 0))


def of_job(service: Running, job_id: str) -> list[Path]:
    """Return what lies in the storage of one job."""
    return [path for path in service.stored() if job_id in str(path)]


@each_kind
@pytest.mark.parametrize("by_name", [True, False], ids=["name", "magic"])
def test_a_compressed_file_in_pieces(service: Running, tus: Tus, kind: str, by_name: bool) -> None:
    """The job is there with the header; the file is in the table when its last byte was sent."""
    dataset, sent = service.table(), PACK[kind](CSV[:50_000]) + PACK[kind](CSV[50_000:])
    path = begin(tus, len(sent), dataset, f"f.csv{ENDING[kind]}" if by_name else "f.csv")
    assert "Ingest-Job" not in tus.patch(path, 0, sent[:5]).headers
    most = tus.patch(path, 5, sent[5:-100])
    job = service.client.job(job_of(most))
    assert (job["status"], job["compression"], job["bytes_received"]) == ("receiving", kind, len(sent) - 100)
    last = tus.patch(path, len(sent) - 100, sent[-100:])
    assert (last.status_code, job_of(last)) == (204, job["id"])
    assert_loaded(service, dataset, job["id"], sent)
    head = tus.head(path)
    assert (head.status_code, int(head.headers["Upload-Offset"]), job_of(head)) == (200, len(sent), job["id"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "windows-1252"])
@pytest.mark.parametrize("told", [True, False], ids=["told", "detected"])
def test_another_encoding(service: Running, tus: Tus, encoding: str, told: bool) -> None:
    """Cut anywhere, also in the middle of a character; places of rejects are those in the file as it was sent."""
    dataset = service.table()
    records = "".join(f"{n},Zoë {n} €\n" for n in range(1, 5000))
    text = f"id,name\n{records}x,Zoë €\n"
    sent = (b"" if encoding != "utf-16-be" else b"\xfe\xff") + text.encode(encoding)
    path = begin(tus, len(sent), dataset, **({"encoding": encoding.removesuffix("-be")} if told else {}))
    job = service.client.wait(job_of(send(tus, path, sent, 3, 30_001)))
    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 4999, 1)
    assert job["sha256"] == hashlib.sha256(sent).hexdigest()
    assert service.psql(f"select count(*) from {dataset} where name = 'Zoë ' || id || ' €'") == "4999"
    [reject] = service.client.rejects(job["id"])
    last = "x,Zoë €\n".encode("utf-16-le" if encoding.startswith("utf-16") else encoding)
    assert (reject["line"], reject["byte_offset"]) == (5001, len(sent) - len(last))
    until(lambda: not of_job(service, job["id"]), "nothing is left")


def test_creation_with_the_whole_file(service: Running, tus: Tus) -> None:
    dataset, sent = service.table(), gzip.compress(CSV)
    told = metadata(filename="f.csv.gz", dataset=dataset)
    answer = tus.request(
        "POST", FILES, content=sent, headers=VERSION | BYTES | {"Upload-Length": str(len(sent))} | told
    )
    assert answer.status_code == 201, answer.text
    assert_loaded(service, dataset, job_of(answer), sent)


@pytest.mark.parametrize("load", ["after_upload", "while_uploading"])
def test_both_ways_to_load(service: Running, tus: Tus, load: str) -> None:
    """Nothing of such a file can be loaded before it is whole; a damaged one leaves no rows whatever was asked."""
    dataset, sent = service.table(), gzip.compress(CSV)
    path = begin(tus, len(sent), dataset, load=load)
    assert_loaded(service, dataset, job_of(send(tus, path, sent, 20_000)), sent)
    dataset = service.table()
    path = begin(tus, len(sent), dataset, load=load)
    assert refused(send(tus, path, sent[:-8] + bytes(8), 20_000)) == (422, "E_COMPRESSED")
    service.nothing_left(dataset, "E_COMPRESSED")
    assert tus.head(path).status_code == 410


def test_a_header_that_does_not_fit_is_refused_before_the_rest_is_sent(service: Running, tus: Tus) -> None:
    sent = gzip.compress(CSV.replace(b"name", b"wrong", 1))
    path = begin(tus, len(sent), service.table())
    answer = tus.patch(path, 0, sent[:20_000])
    assert refused(answer) == (422, "E_HEADER_MISMATCH")
    assert answer.json()["unknown"] == ["wrong"]
    again = tus.patch(path, 20_000, b"x")
    assert (*refused(again), again.json()["reason"]) == (410, "E_UPLOAD_ENDED", "E_HEADER_MISMATCH")


@each_kind
def test_a_file_that_is_not_what_its_name_says(service: Running, tus: Tus, kind: str) -> None:
    path = begin(tus, len(CSV), service.table(), f"f.csv{ENDING[kind]}")
    assert refused(send(tus, path, CSV, 20_000)) == (422, "E_COMPRESSED")


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_is_given_up(service: Running, tus: Tus, kind: str) -> None:
    """1 GiB of rows in little space: refused by the last request, and nothing of it stays."""
    dataset = service.table()
    sent = PACK[kind](b"id,name\n") + PACK[kind](b"1,x\n" * (2 * MIB)) * 128
    path = begin(tus, len(sent), dataset)
    answer = send(tus, path, sent, 1000)
    while answer.status_code == 204:  # unpacking takes longer than a request waits: asked again, it says more
        answer = tus.patch(path, len(sent), b"")
    assert refused(answer) == (413, "E_DECOMPRESSED_LIMIT")
    service.nothing_left(dataset, "E_DECOMPRESSED_LIMIT")
    assert tus.head(path).status_code == 410


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_bytes_that_were_loaded_before(service: Running, tus: Tus, pack: Callable[[bytes], bytes]) -> None:
    """Named on the job, or refused with the earlier job."""
    dataset, sent = service.table(), pack(CSV)
    first = job_of(send(tus, begin(tus, len(sent), dataset), sent))
    service.client.wait(first)
    second = service.client.wait(job_of(send(tus, begin(tus, len(sent), dataset), sent)))
    assert second["duplicate_of"] == first
    path = begin(tus, len(sent), dataset, on_duplicate="refuse")
    answer = send(tus, path, sent)
    assert (*refused(answer), answer.json()["duplicate_of"]) == (409, "E_DUPLICATE", first)
    assert tus.head(path).status_code == 410
    assert service.count(dataset) == 40_000


def test_many_at_once(service: Running) -> None:
    """Compressed and not, all at the same time; each file is loaded once."""
    dataset = service.table("id int, name text")
    pack = [bytes, *PACK.values()]

    def upload(number: int) -> str:
        sent = pack[number % 4](b"id,name\n" + rows(300, 1000 * number))
        with Tus(service.process.url) as tus:
            return job_of(send(tus, begin(tus, len(sent), dataset), sent, 100, 700))

    with ThreadPoolExecutor(MANY) as pool:
        jobs = list(pool.map(upload, range(MANY)))
    assert {service.client.wait(job)["status"] for job in jobs} == {"completed"}
    assert service.psql(f"select count(*), count(distinct id) from {dataset}") == f"{MANY * 300}|{MANY * 300}"


def test_what_is_not_finished_in_time_leaves_nothing(service: Running, tus: Tus) -> None:
    dataset, sent = service.table(), gzip.compress(CSV)
    path = begin(tus, len(sent), dataset)
    job_id = job_of(tus.patch(path, 0, sent[:20_000]))
    assert len(of_job(service, job_id)) == 1
    service.psql("update ingest.uploads set expires_at = now() where state = 'open'")
    until(lambda: service.client.job(job_id)["status"] == "failed", "it has expired")
    service.nothing_left(dataset, "E_UPLOAD_EXPIRED")
    assert tus.head(path).status_code == 404


@pytest.mark.parametrize("kind", ["gzip", "utf-16"])
def test_kills_while_it_is_sent_and_while_it_is_finished(dsn: str, tmp_path: Path, kind: str) -> None:
    """No acknowledged byte is lost; a service that starts again finishes what is whole, asked or not, exactly once."""
    sent = CSV.decode().encode(kind) if kind == "utf-16" else gzip.compress(CSV)
    with running(dsn, tmp_path, **SMALL | {"CHUNK_SIZE": "70000"}) as service:
        dataset, port = service.table(), service.process.url.rsplit(":", 1)[1]
        with Tus(service.process.url) as tus:
            path = begin(tus, len(sent), dataset)
            with tus.patching(path, 0, len(sent)) as connection:
                connection.sendall(sent[:30_000])
                until(lambda: service.psql("select received from ingest.uploads") == "30000", "the bytes are safe")
            service.process.kill()
            again = service.starter("serve", "--port", port)
            assert tus.offset(path) == 30_000
            service.psql(STALL.format(seconds=600))
            with tus.patching(path, 30_000, len(sent) - 30_000) as connection:
                connection.sendall(sent[30_000:])
                until(lambda: service.psql(STALLED) == "1", "it is being cut")
                job_id = service.psql("select id from ingest.jobs")
                assert service.count("ingest.chunks") == 1
                assert len(of_job(service, job_id)) > 1
                again.kill()
            service.psql(END_SLEEP)
            service.psql(WAKE)
            service.starter("serve", "--port", port)
            assert service.client.wait(job_id)["status"] == "completed"
            grow_old(service, job_id)
            assert_loaded(service, dataset, job_id, sent)
            assert int(tus.head(path).headers["Upload-Offset"]) == len(sent)
            assert job_of(tus.head(path)) == job_id
        assert service.count("ingest.jobs") == 1


@pytest.mark.parametrize("how", ["terminated", "cancelled"])
def test_an_upload_that_is_given_up_while_it_is_finished(dsn: str, tmp_path: Path, how: str) -> None:
    """Whoever unpacks it hears of it, and leaves nothing."""
    sent = gzip.compress(CSV)
    with running(dsn, tmp_path, **SMALL | {"CHUNK_SIZE": "70000"}) as service:
        dataset = service.table()
        service.psql(STALL.format(seconds=0.3))
        with Tus(service.process.url) as tus, Tus(service.process.url) as other, ThreadPoolExecutor(1) as pool:
            path = begin(tus, len(sent), dataset)
            last = pool.submit(send, tus, path, sent)
            until(lambda: service.psql(STALLED) == "1", "it is being cut")
            job_id = service.psql("select id from ingest.jobs")
            if how == "terminated":
                assert other.delete(path).status_code == 204
            else:
                assert httpx.post(f"{service.process.url}/api/v1/csv/jobs/{job_id}/cancel").status_code == 202
            assert last.result().status_code in (404, 409, 410)
        until(lambda: not of_job(service, job_id), "nothing is left")
        assert service.count(dataset) == service.count("ingest.chunks") == 0
        assert tracebacks(service.process) == []
