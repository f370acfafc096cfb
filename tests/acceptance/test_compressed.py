"""Compressed files through a real service: the same rows, truthful figures, and nothing left of those that are bad."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backports import zstd

from tests.acceptance.client import until
from tests.acceptance.conftest import SMALL
from tests.acceptance.running import Running, rows, running
from tests.acceptance.tables import LINEITEM, digest
from tests.processes import Process

CSV = b"id,name\n" + rows(20_000)
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress, "bzip2": bz2.compress}
ENDING = {"gzip": ".gz", "zstd": ".zst", "bzip2": ".bz2"}
MIB = 1024 * 1024

each_kind = pytest.mark.parametrize("kind", list(PACK))


@pytest.fixture(scope="module")
def service(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(shared_dsn, tmp_path_factory.mktemp("compressed"), **SMALL) as running_service:
        yield running_service


def assert_loaded(service: Running, dataset: str, job: dict[str, object], sent: bytes, kind: str) -> None:
    """All rows are in; the figures are those of the bytes as they were sent."""
    assert (job["status"], job["processed_rows"], job["total_rows"]) == ("completed", 20_000, 20_000)
    assert job["sha256"] == hashlib.sha256(sent).hexdigest()
    assert job["bytes_total"] == job["bytes_received"] == job["bytes_processed"] == len(sent)
    assert (job["compression"], job["progress"]) == (kind, 1.0)
    assert service.psql(f"select count(*), sum(id), max(name) from {dataset}") == "20000|200010000|name 9999"


@each_kind
def test_told_by_the_name(service: Running, kind: str) -> None:
    dataset, sent = service.table(), PACK[kind](CSV)
    job = service.wait(service.put(sent, dataset, name=f"f.csv{ENDING[kind]}"))
    assert_loaded(service, dataset, job, sent, kind)
    assert job["filename"] == f"f.csv{ENDING[kind]}"


@each_kind
def test_told_by_content_encoding(service: Running, kind: str) -> None:
    dataset, sent = service.table(), PACK[kind](CSV)
    job = service.wait(service.put(sent, dataset, headers={"Content-Encoding": kind}))
    assert_loaded(service, dataset, job, sent, kind)


@each_kind
def test_told_by_the_first_bytes(service: Running, kind: str) -> None:
    """Of a file in several members, sent without a length."""
    dataset = service.table()
    sent = b"".join(PACK[kind](part) for part in (CSV[:3], b"", CSV[3:99_999], CSV[99_999:]))
    job = service.wait(service.put(iter([sent[:5], sent[5:]]), dataset))
    assert_loaded(service, dataset, job, sent, kind)


def test_curl_as_the_readme_has_it(service: Running, tmp_path: Path) -> None:
    """`curl -T flights.csv.gz`, and several files of a form."""
    dataset, path = service.table(), tmp_path / "f.csv.gz"
    path.write_bytes(gzip.compress(CSV))
    url = f"{service.process.url}/api/v1/csv/upload"
    status, job = service.curl("-T", str(path), f"{url}/f.csv.gz?dataset={dataset}")
    assert (status, service.client.wait(job["id"])["processed_rows"]) == (202, 20_000)
    plain = tmp_path / "plain.csv"
    plain.write_bytes(CSV)
    status, answer = service.curl("-F", f"file=@{path}", "-F", f"file=@{plain}", f"{url}?dataset={dataset}")
    assert status == 202
    assert [service.client.wait(job["id"])["compression"] for job in answer["jobs"]] == ["gzip", None]
    assert service.count(dataset) == 60_000


def test_places_of_rejects_are_those_in_the_file_inside(service: Running) -> None:
    """Line and byte offset lead to the record once the file is unpacked."""
    dataset = service.table()
    content = CSV + b"no number,x\n"
    job = service.wait(service.put(gzip.compress(content), dataset))
    [reject] = service.client.rejects(job["id"])
    assert (reject["line"], reject["byte_offset"]) == (20_002, content.index(b"no number"))


@each_kind
@pytest.mark.parametrize("harm", ["cut", "tail"])
def test_a_damaged_file_leaves_nothing(service: Running, kind: str, harm: str) -> None:
    dataset, sent = service.table(), PACK[kind](CSV)
    bad = sent[:-7] if harm == "cut" else sent + b"garbage"
    answer = service.put(bad, dataset, name=f"f{ENDING[kind]}")
    assert (answer.status_code, answer.json()["code"], answer.json()["compression"]) == (422, "E_COMPRESSED", kind)
    service.nothing_left(dataset, "E_COMPRESSED")


def test_a_file_that_is_not_what_it_says(service: Running) -> None:
    """Before there is a job; one that is packed twice is no CSV inside."""
    dataset = service.table()
    cases = ((CSV, "f.csv.gz", "E_COMPRESSED"), (gzip.compress(gzip.compress(CSV)), "f.csv.gz", "E_NOT_CSV"))
    for sent, name, code in cases:
        answer = service.put(sent, dataset, name=name)
        assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert service.client.jobs(dataset=dataset) == []


@each_kind
def test_a_bomb_is_given_up_early(service: Running, kind: str) -> None:
    """1 GiB of rows in little space: refused, and neither memory nor disk has seen more than a little of it."""
    dataset = service.table()
    head, repeated = PACK[kind](b"id,name\n"), PACK[kind](b"1,x\n" * (16 * MIB))
    before = peak_bytes(service.process)
    answer = service.put(head + repeated * 16, dataset, name=f"bomb{ENDING[kind]}")
    assert (answer.status_code, answer.json()["code"]) == (413, "E_DECOMPRESSED_LIMIT")
    service.nothing_left(dataset, "E_DECOMPRESSED_LIMIT")
    assert peak_bytes(service.process) - before < 40 * MIB


def test_a_bomb_without_an_end_of_its_header(service: Running) -> None:
    """Stopped by the length of a record; one of blank lines by the ratio."""
    dataset = service.table()
    for repeated, code in ((b"x", "E_RECORD_TOO_LARGE"), (b"\n", "E_DECOMPRESSED_LIMIT")):
        answer = service.put(gzip.compress(repeated * 64 * MIB), dataset)
        assert answer.json()["code"] == code
    assert service.client.jobs(dataset=dataset) == []


def peak_bytes(process: Process) -> int:
    """Return the peak memory of a service."""
    status = Path(f"/proc/{process.process.pid}/status").read_text(encoding="ascii")
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_the_unpacked_file_may_not_be_larger_than_a_plain_one(dsn: str, tmp_path: Path) -> None:
    with running(dsn, tmp_path, MAX_UPLOAD_BYTES="100000") as service:
        dataset = service.table()
        answer = service.put(gzip.compress(b"id,name\n" + rows(10_000)), dataset)
        assert (answer.status_code, answer.json()["limit_bytes"]) == (413, 100_000)
        service.nothing_left(dataset, "E_DECOMPRESSED_LIMIT")


@each_kind
def test_a_local_file_is_unpacked_too(service: Running, kind: str, tmp_path: Path) -> None:
    """Through stored chunks, which are gone at the end; by its name or by what it is."""
    dataset = service.table()
    for name in (f"f.csv{ENDING[kind]}", "f"):
        path = tmp_path / name
        path.write_bytes(PACK[kind](CSV))
        ended = service.load(path, "--dataset", dataset)
        assert ended.code == 0, ended.err
    assert service.count(dataset) == 40_000
    until(lambda: not service.stored(), "the objects are gone")


def test_a_load_of_a_compressed_file_that_was_killed_goes_on(
    dsn: str, small_lineitem_csv: Path, tmp_path: Path
) -> None:
    """From its stored chunks."""
    with running(dsn, tmp_path, "api", **SMALL) as service:
        service.psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
        service.psql(f"\\copy reference from '{small_lineitem_csv}' with (format csv, header true)")
        path = tmp_path / "lineitem.csv.gz"
        path.write_bytes(gzip.compress(small_lineitem_csv.read_bytes(), 1))
        arguments = ("load", str(path), "--dataset", "public.lineitem")
        first = service.starter.command(*arguments, **SMALL)
        until(lambda: service.count("ingest.ledger") > 20, "a part is loaded")
        first.kill()
        assert service.starter.command(*arguments, **SMALL).wait() == 0
        assert service.count("ingest.jobs") == 1
        assert digest(service.psql, "lineitem") == digest(service.psql, "reference")


def test_a_local_file_from_a_pipe(service: Running) -> None:
    dataset = service.table()
    assert service.load("-", "--dataset", dataset, given=zstd.compress(CSV)).code == 0
    assert service.count(dataset) == 20_000


def test_a_preview_looks_inside(service: Running) -> None:
    """At the first bytes of a file, which need not be all."""
    dataset = service.table()
    start = gzip.compress(CSV)[:3000]
    answer = service.http.post("/api/v1/csv/preview", params={"dataset": dataset}, content=start)
    assert (answer.status_code, answer.json()["header"]) == (200, ["id", "name"])


def test_stored_chunks_are_compressed_when_configured(dsn: str, small_lineitem_csv: Path, tmp_path: Path) -> None:
    """They take less room and are read back exactly, by a worker with another setting, after kills in the middle."""
    with running(dsn, tmp_path, "api", **SMALL, STORAGE_COMPRESSION="zstd") as service:
        service.psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
        service.psql(f"\\copy reference from '{small_lineitem_csv}' with (format csv, header true)")
        job_id = service.client.send(small_lineitem_csv, "public.lineitem")
        stored = service.stored()
        assert len(stored) >= 10
        assert all(path.suffix == ".zst" for path in stored)
        assert sum(path.stat().st_size for path in stored) * 2 < small_lineitem_csv.stat().st_size
        moments = random.Random(4)
        for moment in sorted(moments.uniform(0, 0.8) for _ in range(3)):
            worker = service.starter("worker", **SMALL)
            until(lambda moment=moment: service.client.job(job_id)["progress"] >= moment, "it goes on")
            worker.kill()
        service.starter("worker", **SMALL)
        assert service.client.wait(job_id)["status"] == "completed"
        assert digest(service.psql, "lineitem") == digest(service.psql, "reference")
        until(lambda: not service.stored(), "the objects are gone")
