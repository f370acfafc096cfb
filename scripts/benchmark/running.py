"""This service as a contender: a process of its own for each turn, asked over HTTP, its jobs' ends heard of at once."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlencode, urlsplit

import asyncpg
import psutil

from scripts.benchmark.data import Repeated
from scripts.benchmark.measuring import BenchmarkError
from tests.processes import clean_environment

BASE = "/api/v1/csv"
READY = re.compile(r"ingest is ready on (http://\S+)")

# Bounds against a hang; a figure that comes near to them would be of no use.
START_S = 120.0
STOP_S = 60.0
JOB_S = 7200.0

# A job whose end was not heard of is asked for; only the loss of a message could make that happen.
ASK_S = 2.0

NOTHING: Mapping[str, str] = {}
FINAL = ("completed", "failed", "cancelled")
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Service:
    """A running process of the service."""

    process: psutil.Process
    url: str
    home: Path
    started_s: float  # from its start to its ready line

    def put(self, body: Path | Repeated | bytes, dataset: str, **options: str) -> dict[str, Any]:
        """Send a file that must be accepted; returns the job as it was answered."""
        path = f"{BASE}/upload/file-{next(_numbers)}.csv?{urlencode({'dataset': dataset, **options})}"
        return send(self.url, "PUT", path, body)

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as it is now."""
        return send(self.url, "GET", f"{BASE}/jobs/{job_id}", b"")

    def rejects(self, job_id: str) -> int:
        """Return how many rejects of a job can be looked at."""
        return int(send(self.url, "GET", f"{BASE}/jobs/{job_id}/rejects?limit=1", b"")["total"])

    def objects_bytes(self) -> int:
        """Return how much is stored of files that were received."""
        paths = (self.home / "objects").rglob("*")
        return sum(_size(path) for path in paths)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # it was loaded and removed meanwhile


@contextmanager
def running(
    dsn: str | None, role: str = "serve", *, home: Path | None = None, settings: Mapping[str, str] = NOTHING
) -> Iterator[Service]:
    """Run a process of the service until the context ends; without a DSN on its own PostgreSQL, in `home`."""
    with ExitStack() as held:
        home = home or Path(held.enter_context(TemporaryDirectory(prefix="ingest-bench-")))
        log = held.enter_context((home / "service.log").open("wb"))
        environment = {"INGEST_HOME": str(home), "LOG_FORMAT": "json", **settings}
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest", role, "--port", "0"],
            env=clean_environment() | environment | ({"DATABASE_URL": dsn} if dsn else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
        held.callback(_stop, process)
        url = _ready(process, home)
        yield Service(psutil.Process(process.pid), url, home, time.perf_counter() - began)


def _ready(process: subprocess.Popen[bytes], home: Path) -> str:
    assert process.stdout is not None
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if found := READY.search(line.decode()):
                return found[1]
    finally:
        watchdog.cancel()
    said = (home / "service.log").read_text(errors="replace")
    raise BenchmarkError(f"the service did not start: {said[-1000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


def send(url: str, method: str, path: str, body: Path | Repeated | bytes) -> dict[str, Any]:
    """Make a request and return its JSON. Raises BenchmarkError when it is refused.

    A file goes from the disk to the socket inside the kernel: the client's own work must not be what is measured.
    """
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=JOB_S)
    try:
        _send_body(connection, method, path, body)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status not in (200, 202):
        raise BenchmarkError(f"{method} {path}: {answer.status} {text[:500]!r}")
    found: dict[str, Any] = json.loads(text)
    return found


def _send_body(connection: http.client.HTTPConnection, method: str, path: str, body: Path | Repeated | bytes) -> None:
    size = body.stat().st_size if isinstance(body, Path) else body.size if isinstance(body, Repeated) else len(body)
    connection.putrequest(method, path)
    if method != "GET":
        connection.putheader("Content-Length", str(size))
    connection.endheaders()
    if isinstance(body, Path):
        with body.open("rb") as file:
            connection.sock.sendfile(file)
    else:
        for piece in [body] if isinstance(body, bytes) else body:
            connection.send(piece)


class Ends:
    """Hears of the ends of jobs as the database tells them, so that nobody has to ask the service again and again."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._ended: dict[str, tuple[float, str]] = {}
        self._changed = threading.Condition()
        self._loop = asyncio.SelectorEventLoop()  # not what trio-asyncio would give, which needs this thread
        self._told: asyncio.Queue[str | None] = asyncio.Queue()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),), daemon=True)

    def __enter__(self) -> Ends:
        self._thread.start()
        if not self._listening.wait(START_S):
            raise BenchmarkError("the database cannot be listened to")
        return self

    def __exit__(self, *_: object) -> None:
        self._tell(None)
        self._thread.join(STOP_S)
        self._loop.close()

    def wait(self, job_id: str) -> float:
        """Wait until a job is completed; returns the moment, by time.perf_counter. Raises BenchmarkError."""
        deadline = time.monotonic() + JOB_S
        with self._changed:
            while job_id not in self._ended:
                if time.monotonic() > deadline:
                    raise BenchmarkError(f"a job has not ended in {JOB_S:g} s")
                if not self._changed.wait(ASK_S):
                    self._tell(job_id)
            moment, state = self._ended.pop(job_id)
        if state != "completed":
            raise BenchmarkError(f"a job is {state}")
        return moment

    def _tell(self, job_id: str | None) -> None:
        self._loop.call_soon_threadsafe(self._told.put_nowait, job_id)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        try:
            await connection.add_listener("ingest_job", lambda *told: self._told.put_nowait(told[-1]))
            self._listening.set()
            while (job_id := await self._told.get()) is not None:
                state = await connection.fetchval("select state from ingest.jobs where id = $1", job_id)
                if state in FINAL:
                    with self._changed:
                        self._ended.setdefault(job_id, (time.perf_counter(), state))
                        self._changed.notify_all()
        finally:
            await connection.close()
