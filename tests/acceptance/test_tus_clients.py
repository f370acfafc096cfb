"""The clients that people have, from npm, in Node: tus-js-client, Uppy's tus plugin, EventSource, interrupted in every way."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import pytest

from tests.acceptance.client import BASE, Client, tracebacks
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count
from tests.acceptance.test_live import ROWS, SLOW_TABLE, rows
from tests.acceptance.test_tus_faults import port_of
from tests.acceptance.tusclient import FILES
from tests.conftest import Psql
from tests.needed import missing
from tests.processes import Process, Starter, clean_environment

CLIENTS = Path(__file__).parent.parent / "clients"
FILE_COUNT = 3
RECORDS = 100_000
# Far above what anything takes; npm may have to fetch.
INSTALL_S, SEND_S = 240, 240


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts and the packages that tests/clients/package.json names."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing("node and npm are not installed")
    folder = tmp_path_factory.mktemp("clients")
    for path in CLIENTS.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    command = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the clients in time")
    if done.returncode:
        pytest.skip(f"npm cannot install the clients: {done.stderr.strip()[-300:]}")
    return folder


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Files of some megabytes with line ends in quotes, each with its number in every record."""
    paths = [tmp_path / f"file {n}.csv" for n in range(FILE_COUNT)]
    for n, path in enumerate(paths):
        path.write_bytes(
            b"f,n,a\n" + b"".join(b'%d,%d,"%s\n%d"\n' % (n, k, b"x" * (k % 60), k) for k in range(RECORDS))
        )
    return paths


class Sending:
    """A Node script that is sending; `said` are the events it has told so far."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self.said: list[dict[str, Any]] = []

    def until(self, event: str) -> None:
        """Wait until an event is told."""
        for line in self._output:
            self.said.append(json.loads(line))
            if self.said[-1]["event"] == event:
                return
        raise AssertionError(f"the client has ended without {event!r}")

    def to_the_end(self) -> dict[str, dict[str, Any]]:
        """Wait for the end; returns what was done, by file."""
        self.said += [json.loads(line) for line in self._output]
        return {said["file"]: said for said in self.said if said["event"] == "done"}


@contextmanager
def sending(node: Path, script: str, *arguments: str | Path) -> Iterator[Sending]:
    """Run a script, which must end well."""
    environment = {name: value for name, value in clean_environment().items() if "proxy" not in name.lower()}
    log = node / f"{script}.{time.monotonic_ns()}.err"
    with log.open("w") as errors, subprocess.Popen(
        ["node", script, *map(str, arguments)], cwd=node, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            yield Sending(process.stdout)
            assert process.wait(SEND_S) == 0, log.read_text()[-3000:]
        finally:
            print(log.read_text()[-3000:])
            process.kill()


def assert_exact(client: Client, psql: Psql, files: list[Path], done: dict[str, dict[str, Any]]) -> None:
    """Every file is loaded once, as it is."""
    for path in files:
        job = client.wait(str(done[path.name]["job"]).rsplit("/", 1)[1])
        assert (job["status"], job["filename"], job["processed_rows"]) == ("completed", path.name, RECORDS)
        assert job["sha256"] == sha256(path.read_bytes()).hexdigest()
    assert count(psql, "t") == FILE_COUNT * RECORDS
    assert psql("select count(*) from (select distinct f, n from t) as d") == str(FILE_COUNT * RECORDS)
    assert count(psql, "ingest.jobs") == FILE_COUNT


@pytest.mark.slow
def test_tus_js_client(service: Starter, psql: Psql, connect: Connect, node: Path, files: list[Path]) -> None:
    """Parallel files, each given up and resumed by another Upload; the service is killed and then stopped meanwhile."""
    psql("create table t (f int, n int, a text)")
    process = service(**SMALL)
    port = port_of(process)
    with sending(node, "send-tus.mjs", process.url + FILES, "public.t", "524288", *files) as client:
        client.until("resumed")
        client.until("accepted")
        process.kill()
        process = service("serve", "--port", port, **SMALL)
        client.until("accepted")
        assert process.terminate() == 0
        process = service("serve", "--port", port, **SMALL)
        done = client.to_the_end()
    assert {said["file"] for said in client.said if said["event"] == "aborted"} == {path.name for path in files}
    assert_exact(connect(process), psql, files, done)
    assert tracebacks(process) == []


@pytest.mark.slow
def test_tus_js_client_in_one_request_a_file(
    service: Starter, psql: Psql, connect: Connect, node: Path, files: list[Path]
) -> None:
    """Without a chunk size, which is its default."""
    psql("create table t (f int, n int, a text)")
    process = service(**SMALL)
    with sending(node, "send-tus.mjs", process.url + FILES, "public.t", "0", *files) as client:
        done = client.to_the_end()
    assert_exact(connect(process), psql, files, done)


@pytest.mark.slow
def test_uppy(service: Starter, psql: Psql, connect: Connect, node: Path, files: list[Path]) -> None:
    """All files at once, each paused and resumed; the service is killed meanwhile."""
    psql("create table t (f int, n int, a text)")
    process: Process = service(**SMALL)
    port = port_of(process)
    with sending(node, "send-uppy.mjs", process.url + FILES, "public.t", *files) as client:
        client.until("paused")
        process.kill()
        process = service("serve", "--port", port, **SMALL)
        done = client.to_the_end()
    assert all(said["paused"] for said in done.values())
    assert_exact(connect(process), psql, files, done)
    assert tracebacks(process) == []


@pytest.mark.slow
def test_event_source(service: Starter, psql: Psql, connect: Connect, node: Path) -> None:
    """One EventSource sees a job to its end over a stop and a start of the service, without a step back."""
    psql(SLOW_TABLE)
    process = service(**SMALL)
    port = port_of(process)
    job_id = connect(process).send(rows(), "public.t")
    with sending(node, "follow-job.mjs", f"{process.url}{BASE}/jobs/{job_id}/stream") as source:
        source.until("progress")
        assert process.terminate() == 0
        source.until("goodbye")
        process = service("serve", "--port", port, **SMALL)
        source.to_the_end()
    names = [said["event"] for said in source.said]
    assert names.count("open") >= 2
    assert "progress" in names[names.index("goodbye") :]
    told = [said for said in source.said if said.get("rows") is not None]
    assert (names[-1], told[-1]["status"], told[-1]["rows"]) == ("completed", "completed", ROWS)
    for values in ([said["rows"] for said in told], [said["number"] for said in told]):
        assert values == sorted(values)
    assert count(psql, "t") == ROWS
    assert tracebacks(process) == []
