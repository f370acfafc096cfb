"""The service as its users meet it: HTTP, `ingest` commands, SQL. Waiting polls a condition until a deadline."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

from ingest.database.embedded import bin_path
from tests import canaries
from tests.processes import Process, clean_environment

T = TypeVar("T")

BASE = "/api/v1/csv"
FINAL = frozenset({"completed", "failed", "cancelled"})

# Bound against a hang, far above what anything takes.
PATIENCE_S = 90.0
# How often a condition is looked at; it only costs time after the condition has come true.
LOOK_S = 0.02

# More rows than any test's listing has, in pages of the largest size.
PAGE_ROWS = 500

# Cuts every connection to the database but one's own.
CUT_ALL = (
    "select count(pg_terminate_backend(pid)) from pg_stat_activity"
    " where datname = current_database() and pid <> pg_backend_pid()"
)

Body = bytes | Path | Iterable[bytes]


def until(condition: Callable[[], T | None], what: str, timeout_s: float = PATIENCE_S) -> T:
    """Return the condition's value as soon as it is true; fails when it does not come true in time."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        time.sleep(LOOK_S)
    return value


class Client:
    """One service's HTTP interface."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=PATIENCE_S, event_hooks=canaries.HOOKS)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: object) -> httpx.Response:
        """GET any path of the server."""
        return self._http.get(path, params={name: str(value) for name, value in query.items()} or None)

    def post(self, path: str) -> httpx.Response:
        """POST without a body to any path of the server."""
        return self._http.post(path)

    def json(self, path: str, **query: object) -> Any:
        """GET a path that must answer 200, as JSON."""
        answer = self.get(path, **query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def put(self, body: Body, dataset: str | None, *, name: str = "file.csv", **options: str) -> httpx.Response:
        """Upload a file as `curl -T` does."""
        query = options if dataset is None else {"dataset": dataset, **options}
        with opened(body) as content:
            return self._http.put(f"{BASE}/upload/{name}", params=query, content=content)

    def post_form(self, files: Mapping[str, bytes], dataset: str) -> httpx.Response:
        """Upload several files in one form."""
        parts = [("file", (name, content)) for name, content in files.items()]
        return self._http.post(f"{BASE}/upload", params={"dataset": dataset}, files=parts)

    def send(self, body: Body, dataset: str, **options: str) -> str:
        """Upload a file that must be accepted; returns the id of its job."""
        answer = self.put(body, dataset, **options)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def load(self, body: Body, dataset: str, **options: str) -> dict[str, Any]:
        """Upload a file and wait until its job has ended; returns the job."""
        return self.wait(self.send(body, dataset, **options))

    def job(self, job_id: str) -> dict[str, Any]:
        """Return a job as it is now."""
        found: dict[str, Any] = self.json(f"{BASE}/jobs/{job_id}")
        return found

    def wait(self, job_id: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a job has ended; returns it."""
        return until(lambda: ended(self.job(job_id)), f"job {job_id} ends", timeout_s)

    def jobs(self, **query: object) -> list[dict[str, Any]]:
        """Return the newest jobs."""
        found: list[dict[str, Any]] = self.json(f"{BASE}/jobs", limit=PAGE_ROWS, **query)["jobs"]
        return found

    def rejects(self, job_id: str) -> list[dict[str, Any]]:
        """Return all rejects of a job."""
        return list(self._pages(f"{BASE}/jobs/{job_id}/rejects", "rejects"))

    def chunks(self, job_id: str) -> list[dict[str, Any]]:
        """Return all chunks of a job."""
        return list(self._pages(f"{BASE}/jobs/{job_id}/chunks", "chunks"))

    def _pages(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            answer = self.json(path, page=page, limit=PAGE_ROWS)
            yield from answer[name]
            if page * PAGE_ROWS >= answer["total"]:
                return
            page += 1


def ended(job: dict[str, Any]) -> dict[str, Any] | None:
    """Return the job if it has ended."""
    return job if job["status"] in FINAL else None


@contextmanager
def opened(body: Body) -> Iterator[Any]:
    """The body as httpx takes it."""
    if isinstance(body, Path):
        with body.open("rb") as file:
            yield file
    else:
        yield body


@dataclass(frozen=True, slots=True)
class Ended:
    """An `ingest` command that has ended."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line on standard error."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def command(*arguments: str | Path, environment: Mapping[str, str], folder: Path, given: bytes = b"") -> Ended:
    """Run an `ingest` command to its end, with `given` on its standard input."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest", *map(str, arguments)],
        env=clean_environment() | dict(environment),
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    ended, name = Ended(done.returncode, done.stdout.decode(), done.stderr.decode()), f"ingest {arguments[0]}"
    canaries.search(ended.err, name)
    # What a person asks for may be shown: a new key once, and the values of rejects.
    canaries.search(ended.out, name, cells=False, keys=arguments[:2] != ("keys", "create"))
    return ended


def at_once(calls: Iterable[Callable[[], T]]) -> list[T]:
    """Do several things at the same time; returns their results in order."""
    with ThreadPoolExecutor(4) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def events(process: Process, name: str) -> list[dict[str, Any]]:
    """Return the process's log lines of one event."""
    lines = (json.loads(line) for line in process.log.splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == name]


def tracebacks(process: Process) -> list[str]:
    """Return what the process logged of errors that nobody expected."""
    lines = [line for line in process.log.splitlines() if "Traceback" in line]
    # asyncpg logs the errors of connections that it opens in the background.
    return [line.replace("\\n", "\n") for line in lines if '"logger": "asyncpg' not in line]


@contextmanager
def session(dsn: str, sql: str) -> Iterator[None]:
    """Hold a database session that has run `sql`, such as `begin; lock table t`, while the context lasts."""
    program = [str(bin_path() / "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dsn]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment()
    ) as held:
        assert held.stdin is not None
        assert held.stdout is not None
        held.stdin.write(f"{sql};\n\\echo held\n")
        held.stdin.flush()
        assert "held\n" in iter(held.stdout.readline, ""), sql
        try:
            yield
        finally:
            held.stdin.close()
            held.wait(PATIENCE_S)
