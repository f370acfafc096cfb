"""Resumable uploads that are cut: clients that leave, services that are killed or stopped, uploads nobody finishes."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from tests.acceptance.client import PATIENCE_S, Client, session, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count
from tests.acceptance.test_broken_uploads import make_slow, peak_bytes
from tests.acceptance.tusclient import Tus, job_of
from tests.conftest import Psql
from tests.processes import Process, Starter

MIB = 1024 * 1024
FILE = b"b,a\n" + b"".join(b'%d,"one\n%d"\n' % (n, n) for n in range(20_000))

CUTS = 10
MANY = 50

# What a socket is given at once by the clients that are cut.
PIECE_BYTES = 64 * 1024

Stored = Callable[[], list[Path]]


def port_of(process: Process) -> str:
    return process.url.rsplit(":", 1)[1]


def big_file(megabytes: int) -> tuple[bytes, int]:
    """Records of random lengths with line ends in quotes, and how many they are."""
    seeded = random.Random(7)
    lines = [b'%d,"%s\n%s"\n' % (n, b"y" * seeded.randrange(90), b"z" * seeded.randrange(90)) for n in range(50_000)]
    block = b"".join(lines)
    times = megabytes * MIB // len(block) + 1
    return b"b,a\n" + block * times, len(lines) * times


class Cutting:
    """A client that sends a file and goes on where it was, whatever happens to its connection or to the service."""

    def __init__(self, tus: Tus, path: str, data: bytes) -> None:
        self.tus = tus
        self.path = path
        self.data = data

    def send_until(self, offset: int, stop: int) -> socket.socket:
        """Send the bytes from `offset` up to about `stop` of a request that announced all of them."""
        connection = self.tus.patching(self.path, offset, len(self.data) - offset)
        for start in range(offset, stop, PIECE_BYTES):
            connection.sendall(self.data[start : min(start + PIECE_BYTES, stop)])
        return connection

    def send_rest(self) -> httpx.Response:
        """Send what is missing. What a cut request left in its socket may be read after we have asked: ask again."""
        for _ in range(2):
            offset = self.tus.offset(self.path)
            answer = self.tus.patch(self.path, offset, self.data[offset:])
            if answer.status_code != 409:
                break
            found = answer.json()
            assert found["code"] == "E_UPLOAD_TAKEN" or found["offset"] > offset
        return answer


@pytest.mark.slow
def test_ten_cuts_of_a_large_file(
    service: Starter,
    psql: Psql,
    stored: Stored,
    moments: random.Random,
    connect: Connect,
    request: pytest.FixtureRequest,
) -> None:
    """By the client, by kill -9 and by SIGTERM in turn; no acknowledged byte is lost, and the file arrives as it was."""
    psql("create table t (a text, b int)")
    data, records = big_file(request.config.getoption("--large-mib"))
    process = service(CHUNK_SIZE=str(4 * MIB))
    port = port_of(process)
    with Tus(process.url) as tus:
        path, safe = tus.create(len(data)), 0
        cutting = Cutting(tus, path, data)
        for cut, stop in enumerate(sorted(moments.randrange(1, len(data)) for _ in range(CUTS))):
            offset = tus.offset(path)
            assert offset >= safe, "acknowledged bytes were lost"
            with cutting.send_until(offset, stop):
                if cut % 3 == 0:
                    continue
                seen = int(psql("select received from ingest.uploads"))
                assert process.kill() if cut % 3 == 1 else process.terminate() == 0
                process = service("serve", "--port", port, CHUNK_SIZE=str(4 * MIB))
                safe = seen
        last = cutting.send_rest()
        assert last.status_code == 204, last.text
        job = connect(process).wait(job_of(last), 4 * PATIENCE_S)
        assert tus.offset(path) == len(data)
    assert (job["status"], job["error"]) == ("completed", None)
    assert job["sha256"] == sha256(data).hexdigest()
    assert count(psql, "t") == records == job["processed_rows"]
    assert psql("select count(*) from (select lead(file_offset) over (order by ordinal) - file_offset - length_bytes as gap"
                " from ingest.chunks) as c where gap <> 0") == "0"  # fmt: skip
    assert tracebacks(process) == []
    assert until(lambda: stored() == [], "the spool has gone with the job")


def test_a_stop_ends_a_hanging_upload_at_once(service: Starter, psql: Psql) -> None:
    """It can be resumed, so the service does not wait for it; the bytes that have come are safe."""
    psql("create table t (a text, b int)")
    process = service()
    port = port_of(process)
    with Tus(process.url) as tus:
        path = tus.create(len(FILE))
        with tus.patching(path, 0, len(FILE)) as hanging:
            hanging.sendall(FILE[:100_000])
            until(lambda: psql("select holder is not null from ingest.uploads") == "t", "the upload is held")
            assert process.terminate() == 0
            answer = hanging.recv(65536)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"E_DRAINING" in answer
        process = service("serve", "--port", port)
        offset = tus.offset(path)
        assert int(psql("select received from ingest.uploads")) == offset
        last = tus.patch(path, offset, FILE[offset:])
    with httpx.Client(base_url=process.url) as http:
        assert http.get(last.headers["Ingest-Job"]).json()["sha256"] == sha256(FILE).hexdigest()


def test_a_file_that_was_whole_when_the_service_died_is_finished_by_head(
    service: Starter, psql: Psql, connect: Connect
) -> None:
    """All bytes were acknowledged, but the answer never came: a client that asks again sends nothing more."""
    psql("create table t (a text, b int)")
    process = service(**SMALL)
    port = port_of(process)
    with Tus(process.url) as tus:
        path = tus.create(len(FILE))
        assert tus.patch(path, 0, FILE[:-1]).status_code == 204
        with session(psql_dsn(service), "begin; lock table ingest.chunks in exclusive mode"):
            with tus.patching(path, len(FILE) - 1, 1) as connection:
                connection.sendall(FILE[-1:])
                until(lambda: psql("select received = length from ingest.uploads") == "t", "all bytes are safe")
                process.kill()
        process = service("serve", "--port", port, **SMALL)
        head = tus.head(path)
        assert (head.status_code, int(head.headers["Upload-Offset"])) == (200, len(FILE))
    job = connect(process).wait(job_of(head))
    assert (job["status"], job["processed_rows"], job["sha256"]) == ("completed", 20_000, sha256(FILE).hexdigest())


def psql_dsn(service: Starter) -> str:
    return service.environment["DATABASE_URL"]


def test_two_processes_share_an_upload(service: Starter, psql: Psql, connect: Connect) -> None:
    """A request to one takes over from a request that hangs in the other, then the other way round."""
    psql("create table t (a text, b int)")
    first, second = service("api", **SMALL), service("serve", **SMALL)
    with Tus(first.url) as one, Tus(second.url) as two:
        path, offset = one.create(len(FILE)), 0
        third = len(FILE) // 3
        for here, there in ((one, two), (two, one), (one, two)):
            with here.patching(path, offset, len(FILE) - offset) as hanging:
                hanging.sendall(FILE[offset : offset + third // 2])
                until(lambda: psql("select holder is not null from ingest.uploads") == "t", "the upload is held")
                offset = there.offset(path)
                answer = there.patch(path, offset, FILE[offset : offset + third])
                assert answer.status_code == 204, answer.text
                offset = int(answer.headers["Upload-Offset"])
        last = one.patch(path, offset, FILE[offset:])
        assert last.status_code == 204, last.text
    job = connect(second).wait(job_of(last))
    assert (job["status"], job["processed_rows"], job["sha256"]) == ("completed", 20_000, sha256(FILE).hexdigest())
    assert tracebacks(first) == tracebacks(second) == []


def test_fifty_uploads_at_once(service: Starter, psql: Psql, connect: Connect, stored: Stored) -> None:
    """Each in pieces, all at the same time."""
    psql("create table t (a text, b int)")
    process = service(**SMALL)
    records = [b"a,b\n" + b"".join(b"f%d,%d\n" % (n, k) for k in range(500)) for n in range(MANY)]

    def send(data: bytes) -> str:
        with Tus(process.url) as tus:
            path, offset = tus.create(len(data)), 0
            while offset < len(data):
                answer = tus.patch(path, offset, data[offset : offset + 1500])
                assert answer.status_code == 204, answer.text
                offset = int(answer.headers["Upload-Offset"])
            return job_of(answer)

    with ThreadPoolExecutor(MANY) as pool:
        jobs = list(pool.map(send, records))
    client = connect(process)
    assert {client.wait(job)["status"] for job in jobs} == {"completed"}
    assert (
        psql("select count(*), count(distinct a), count(distinct (a, b)) from t") == f"{MANY * 500}|{MANY}|{MANY * 500}"
    )
    assert until(lambda: stored() == [], "all objects are gone")


def test_what_is_not_finished_in_time_leaves_nothing(
    service: Starter, psql: Psql, stored: Stored, connect: Connect
) -> None:
    """Neither rows nor files, with or without a job; the job says why. A complete one is only forgotten."""
    psql("create table t (a text, b int)")
    process = service(**SMALL)
    client = connect(process)
    with Tus(process.url) as tus:
        empty, begun, whole = tus.create(99), tus.create(len(FILE)), tus.create(len(FILE))
        job_id = job_of(tus.patch(begun, 0, FILE[:200_000]))
        done = job_of(tus.patch(whole, 0, FILE))
        assert client.wait(done)["status"] == "completed"
        until(lambda: len(stored()) == 2, "the bytes of the completed job are gone, those of the others are not")
        psql("update ingest.uploads set expires_at = now() - interval '1 s'")
        for path in (empty, begun):
            assert tus.patch(path, 0, b"").status_code in (404, 410)
        until(lambda: count(psql, "ingest.uploads") == 0, "the uploads are forgotten")
        assert until(lambda: stored() == [], "the objects are gone")
        assert {tus.head(path).status_code for path in (empty, begun, whole)} == {404}
    job = client.job(job_id)
    assert (job["status"], job["error"]["code"]) == ("failed", "E_UPLOAD_EXPIRED")
    assert count(psql, f"ingest.chunks where job_id = '{job_id}'") == 0
    assert client.job(done)["status"] == "completed"


def test_a_silent_upload_is_not_taken_for_a_dead_one(service: Starter, psql: Psql, stored: Stored) -> None:
    """The janitor ends other uploads that have been silent for long, and sweeps what no job needs."""
    psql("create table t (a text, b int)")
    process = service(**SMALL, UPLOAD_IDLE_TIMEOUT="0.5")
    with Tus(process.url) as tus:
        begun, header = tus.create(len(FILE)), tus.create(len(FILE))
        tus.patch(begun, 0, FILE[:200_000])
        tus.patch(header, 0, FILE[:3])
        psql("update ingest.jobs set updated_at = now() - interval '1 day'")
        dead = psql("insert into ingest.jobs (id, dataset, filename, spec, updated_at) values "
                    "(gen_random_uuid(), 'd', 'f', '{}', now() - interval '1 day') returning id")  # fmt: skip
        until(lambda: psql(f"select state from ingest.jobs where id = '{dead}'") == "failed", "the janitor was here")
        assert len(stored()) == 2
        for path, offset in ((begun, 200_000), (header, 3)):
            assert tus.patch(path, offset, FILE[offset:]).status_code == 204


def test_a_client_that_falls_silent_is_cut_and_can_go_on(service: Starter, psql: Psql) -> None:
    psql("create table t (a text, b int)")
    process = service(UPLOAD_IDLE_TIMEOUT="0.5")
    with Tus(process.url) as tus:
        path = tus.create(len(FILE))
        with tus.patching(path, 0, len(FILE)) as connection:
            connection.sendall(FILE[:100_000])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 408")
        assert tus.offset(path) == 100_000


def test_a_full_disk_costs_no_acknowledged_byte(service: Starter, psql: Psql, connect: Connect) -> None:
    """Here: the size that a file may have. The client is told, and goes on when there is room again."""
    psql("create table t (a text, b int)")
    process = service()
    port = port_of(process)
    with Tus(process.url) as tus:
        path = tus.create(len(FILE))
        assert tus.patch(path, 0, FILE[:100_000]).status_code == 204
        limit_file_size(process, 150_000)
        answer = tus.patch(path, 100_000, FILE[100_000:])
        assert (answer.status_code, answer.json()["code"]) == (507, "E_STORAGE_FULL")
        assert tus.offset(path) == 100_000
        process.terminate()
        process = service("serve", "--port", port)
        last = tus.patch(path, 100_000, FILE[100_000:])
        assert last.status_code == 204, last.text
    assert connect(process).wait(job_of(last))["sha256"] == sha256(FILE).hexdigest()


def limit_file_size(process: Process, most_bytes: int) -> None:
    """Let no file of a running process grow beyond so many bytes."""
    resource = pytest.importorskip("resource")
    if not hasattr(resource, "prlimit"):
        pytest.skip("the limits of another process are set on Linux only")
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))


def test_a_database_that_goes_away_costs_no_acknowledged_byte(service: Starter, psql: Psql, connect: Connect) -> None:
    """Every statement of the upload fails in turn; the client repeats what was not acknowledged."""
    psql("create table t (a text, b int)")
    process = service(**SMALL)
    with Tus(process.url) as tus:
        path, stop = tus.create(len(FILE)), threading.Event()

        def cut_connections() -> None:
            while not stop.is_set():
                psql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                     " and pid <> pg_backend_pid()")  # fmt: skip
                time.sleep(0.05)  # how often is what the test is about; nothing waits for it

        with ThreadPoolExecutor(1) as pool:
            cutting = pool.submit(cut_connections)
            last = send_stubbornly(tus, path, stop)
            cutting.result()
    job = connect(process).wait(job_of(last))
    assert (job["status"], job["processed_rows"], job["sha256"]) == ("completed", 20_000, sha256(FILE).hexdigest())
    assert tracebacks(process) == []


def send_stubbornly(tus: Tus, path: str, stop: threading.Event) -> httpx.Response:
    """Send the file in pieces, repeating what fails; the last piece when the trouble has stopped."""
    seen = set()
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        head = tus.head(path)
        seen.add(head.status_code)
        if head.status_code != 200:
            assert head.status_code == 423, "a client would send the file again from its first byte"
            continue
        offset = int(head.headers["Upload-Offset"])
        if offset + 20_000 >= len(FILE):
            stop.set()
        answer = tus.patch(path, offset, FILE[offset : offset + 20_000])
        seen.add(answer.status_code)
        if answer.status_code == 204 and int(answer.headers["Upload-Offset"]) == len(FILE):
            assert seen & {423, 500, 503}, "no request met the trouble"
            return answer
    raise AssertionError("not within the time")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_flat(service: Starter, psql: Psql) -> None:
    """A checksum over all of a request is worked out while it arrives, too."""
    psql("create table t (a text, b int)")
    process = service("api")
    data, _ = big_file(20)
    digest = b64encode(sha256(data).digest()).decode()
    with Tus(process.url) as tus:
        tus.patch(tus.create(len(data)), 0, data)
        before = peak_bytes(process)
        for headers in ({}, {"Upload_Checksum": f"sha256 {digest}"}):
            for _ in range(4):
                assert tus.patch(tus.create(len(data)), 0, data, **headers).status_code == 204
    assert peak_bytes(process) - before < 40 * MIB


def test_a_stopped_service_takes_no_new_request(service: Starter, psql: Psql) -> None:
    """While it drains, every request is told to come back; HEAD is answered, since clients would begin anew."""
    psql("create table t (a text, b int)")
    make_slow(psql, "t", "60")  # a load that the stop waits for until the test kills the service
    process = service(SHUTDOWN_GRACE="60")
    with Tus(process.url) as tus, closing(Client(process.url)) as client:
        path = tus.create(8)
        client.send(b"a,b\nx,1\n", "public.t")
        until(lambda: psql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'") == "1", "a load waits")
        process.signal(signal.SIGTERM)
        until(lambda: client.get("/health/ready").status_code == 503, "the service drains")
        answers = [tus.head(path), tus.patch(path, 0, b"a"), tus.delete(path), tus.request("POST")]
    process.kill()
    assert [answer.status_code for answer in answers] == [200, 503, 503, 503]
    assert answers[1].json()["code"] == "E_DRAINING"
    assert answers[1].headers["Retry-After"] == "5"


def test_an_upload_that_waits_for_a_worker_lets_go(service: Starter, psql: Psql) -> None:
    """Asked how far it is, taken over, or stopped with the service: it does not hold on until a worker comes."""
    psql("create table t (b int, a text)")
    process = service("api", **SMALL | {"MAX_BACKLOG_BYTES": "50000", "CHUNK_SIZE": "100000"})
    data = b"b,a\n" + b"".join(b"%d,x\n" % n for n in range(100_000))
    with ThreadPoolExecutor(2) as pool, Tus(process.url) as tus, Tus(process.url) as other, Tus(process.url) as asking:
        asked, hanging = (tus.create(len(data) + 1, load="while_uploading") for _ in range(2))
        sending = pool.submit(tus.patch, asked, 0, data)
        until(lambda: psql("select count(*) from ingest.chunks") == "1", "it waits")
        assert asking.offset(asked) == len(data)
        assert sending.result(PATIENCE_S).json()["code"] == "E_UPLOAD_TAKEN"
        before = int(psql("select count(*) from ingest.chunks"))
        sending = pool.submit(other.patch, hanging, 0, data)
        until(lambda: int(psql("select count(*) from ingest.chunks")) == before + 1, "it waits")
        assert process.terminate() == 0
        assert sending.result(PATIENCE_S).json()["code"] == "E_DRAINING"
