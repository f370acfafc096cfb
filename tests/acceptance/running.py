"""One service for all tests of a module, each with a table of its own, over real sockets: httpx, curl, or by hand."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests import canaries
from tests.acceptance.client import BASE, Client, command, until
from tests.conftest import run_psql
from tests.processes import Process, Starter, starting

_numbers = itertools.count(1)

HEAD = "PUT {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n{fields}\r\n"


class Running:
    """A service, its database, and its folders."""

    def __init__(self, dsn: str, starter: Starter, process: Process) -> None:
        self.dsn = dsn
        self.starter = starter
        self.process = process
        self.client = Client(process.url)
        self.http = httpx.Client(base_url=process.url, timeout=90, event_hooks=canaries.HOOKS)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self.http.close()

    def psql(self, sql: str) -> str:
        """Run SQL."""
        return run_psql(self.dsn, sql)

    def table(self, columns: str = "id int, name text") -> str:
        """Make a table of its own for a test; returns its dataset."""
        name = f"public.t{next(_numbers)}"
        self.psql(f"create table {name} ({columns})")
        return name

    def count(self, what: str) -> int:
        """Return `select count(*) from WHAT`."""
        return int(self.psql(f"select count(*) from {what}"))

    def put(
        self, body: Any, dataset: str, *, name: str = "f.csv", headers: Mapping[str, str] | None = None, **options: str
    ) -> httpx.Response:
        """Upload a file."""
        query = {"dataset": dataset, **options}
        return self.http.put(f"{BASE}/upload/{name}", params=query, content=body, headers=headers)

    def wait(self, answer: httpx.Response) -> dict[str, Any]:
        """Return the job of an accepted upload when it has ended."""
        assert answer.status_code in (200, 202), answer.text
        return self.client.wait(answer.json()["id"])

    def stored(self) -> list[Path]:
        """Return the files in the storage."""
        root = Path(self.starter.environment["INGEST_HOME"]) / "objects"
        return sorted(path for path in root.rglob("*") if path.is_file())

    def curl(self, *arguments: str) -> tuple[int, Any]:
        """Run curl; returns the status and the JSON that was answered."""
        done = subprocess.run(
            ["curl", "-sS", "-w", "\n%{http_code}", *arguments], capture_output=True, text=True, timeout=90, check=True
        )
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)

    def load(self, *arguments: str | Path, given: bytes = b"") -> Any:
        """Run `ingest load` to its end."""
        return command(
            "load", *arguments, environment=self.starter.environment, folder=self.starter.folder, given=given
        )

    def nothing_left(self, dataset: str, code: str) -> None:
        """Check that an upload has left at most a job that failed with `code`: no rows, no chunks, no objects."""
        assert self.count(dataset) == 0
        for job in self.client.jobs(dataset=dataset):
            assert (job["status"], job["error"]["code"]) == ("failed", code)
            assert self.count(f"ingest.chunks where job_id = '{job['id']}'") == 0
            assert not [path for path in self.stored() if job["id"] in str(path)]


@contextmanager
def running(dsn: str, folder: Path, *role: str, **environment: str) -> Iterator[Running]:
    """A service on a database, until the context ends."""
    settings = {"DATABASE_URL": dsn, "INGEST_HOME": str(folder / "home"), "LOG_FORMAT": "json", **environment}
    with starting(folder, settings) as starter:
        service = Running(dsn, starter, starter(*role))
        try:
            yield service
        finally:
            service.close()


class Slow:
    """An upload whose client sends when it is told to; chunked, so that nobody knows how long it will be."""

    def __init__(
        self, process: Process, dataset: str, options: str = "", fields: str = "", name: str = "f.csv"
    ) -> None:
        host, _, port = process.url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), 30)
        path = f"{BASE}/upload/{name}?dataset={dataset}{options}"
        self.socket.sendall(HEAD.format(path=path, fields=fields).encode())

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send some of the body."""
        self.socket.sendall(b"%x\r\n%s\r\n" % (len(data), data))

    def end(self) -> tuple[int, Any]:
        """Send the end; returns status and JSON of the answer."""
        self.socket.sendall(b"0\r\n\r\n")
        return self.answer()

    def answer(self) -> tuple[int, Any]:
        """Return status and JSON of the answer."""
        with self.socket.makefile("rb") as lines:
            status = int(lines.readline().split()[1])
            fields = dict(line.lower().split(b":", 1) for line in iter(lines.readline, b"\r\n"))
            return status, json.loads(lines.read(int(fields[b"content-length"])))


def rows(count: int, first: int = 1) -> bytes:
    """Return records of the table id, name without the header."""
    return b"".join(b"%d,name %d\n" % (n, n) for n in range(first, first + count))


def the_job(service: Running, dataset: str) -> dict[str, Any]:
    """Return the one job of a dataset as soon as it is there."""
    found: list[dict[str, Any]] = until(lambda: service.client.jobs(dataset=dataset), "the job is there")
    assert len(found) == 1
    return found[0]
