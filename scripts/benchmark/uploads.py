"""Sending a file over HTTP: how fast its bytes are taken in, and how long until all of it is in the table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Race, Target, missing_packages
from scripts.benchmark.measuring import Cost, cost, cpu_of, touch_memory, watched
from scripts.benchmark.running import Ends, running, send
from scripts.benchmark.server import Server
from scripts.benchmark.tables import Arena, arena
from tests.acceptance.tables import LINEITEM

DATASET = "public.lineitem"
AFTER, WHILE, ALONE = (
    "this service, loads after the upload",
    "this service, while uploading",
    "this service, upload alone",
)
WRITES, FLUSHES = "uvicorn, writes", "uvicorn, writes and flushes"


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """The way of a whole file, and its first half alone."""
    path = data.lineitem(folder, scale)
    table = arena(server, "lineitem", LINEITEM, path)
    size = path.stat().st_size
    whole = Race(
        name="upload",
        title="lineitem, HTTP to completed",
        contenders=[
            Contender(name=AFTER, turn=partial(after_turn, table, path)),
            Contender(name=WHILE, turn=partial(while_turn, table, path)),
        ],
        targets=[
            Target(ours=AFTER, theirs=AFTER, theirs_fact="load_s", bound=1.30),
            Target(ours=WHILE, theirs=AFTER, theirs_fact="load_s", bound=1.30),
        ],
        rows=table.rows,
        size=size,
    )
    no_uvicorn = missing_packages("uvicorn")
    alone = Race(
        name="upload alone",
        title="lineitem, HTTP to stored",
        contenders=[
            Contender(name=ALONE, turn=partial(alone_turn, table, path)),
            Contender(name=WRITES, turn=partial(peer_turn, server, path, "write"), missing=no_uvicorn),
            Contender(name=FLUSHES, turn=partial(peer_turn, server, path, "flush"), missing=no_uvicorn),
        ],
        targets=[
            Target(ours=ALONE, theirs=WRITES, fact="mb_per_s", bound=0.8, at_least=True),
            Target(ours=ALONE, theirs=FLUSHES, fact="mb_per_s", bound=0.8, at_least=True),
        ],
        rows=table.rows,
        size=size,
    )
    return [whole, alone]


def after_turn(table: Arena, path: Path) -> Cost:
    """Send the file, and let it be loaded when it is stored."""
    return _loading_turn(table, path, "after_upload")


def while_turn(table: Arena, path: Path) -> Cost:
    """Send the file, and let it be loaded meanwhile."""
    return _loading_turn(table, path, "while_uploading")


def _loading_turn(table: Arena, path: Path, load: str) -> Cost:
    table.reset()
    with running(table.server.dsn) as service, Ends(table.server.dsn) as ends:
        touch_memory(table.size)
        cpu_s = cpu_of(service.process)
        with watched(table.server.postmaster(), service.process.pid) as use:
            began = time.perf_counter()
            job_id = service.put(path, DATASET, load=load)["id"]
            answered = time.perf_counter()
            ended = ends.wait(job_id)
        cpu_s = cpu_of(service.process) - cpu_s
    table.check()
    facts = {"upload_s": answered - began, "load_s": ended - answered}
    return replace(cost(use, ended - began, {service.process.pid: "ingest"}, cpu_s=cpu_s), facts=facts)


def alone_turn(table: Arena, path: Path) -> Cost:
    """Send the file to a process without a worker."""
    table.reset()
    with running(table.server.dsn, "api") as service:
        found = _sent(table.server, service.process, service.url, f"/api/v1/csv/upload/f.csv?dataset={DATASET}", path)
    table.server.sql("truncate ingest.jobs cascade")
    return found


def peer_turn(server: Server, path: Path, way: str) -> Cost:
    """Send the file to the minimal server."""
    server.settle()
    with _peer(way) as (process, url):
        return _sent(server, process, url, "/", path)


def _sent(server: Server, process: psutil.Process, url: str, target: str, path: Path) -> Cost:
    touch_memory(2 * path.stat().st_size)
    cpu_s = cpu_of(process)
    with watched(server.postmaster(), process.pid) as use:
        began = time.perf_counter()
        send(url, "PUT", target, path)
        seconds = time.perf_counter() - began
    cpu_s = cpu_of(process) - cpu_s
    facts = {"mb_per_s": path.stat().st_size / 1e6 / seconds}
    return replace(cost(use, seconds, {process.pid: "server"}, cpu_s=cpu_s), facts=facts)


@contextmanager
def _peer(way: str) -> Iterator[tuple[psutil.Process, str]]:
    with tempfile.TemporaryDirectory(prefix="ingest-bench-") as folder:
        program = [sys.executable, "-m", "scripts.benchmark.peers.upload", folder, way]
        with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            try:
                yield psutil.Process(process.pid), f"http://127.0.0.1:{int(process.stdout.readline())}"
            finally:
                process.terminate()
