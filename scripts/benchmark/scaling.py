"""Larger files, and more workers behind a slow network."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Race, Target
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, cpu_of, touch_memory, watched
from scripts.benchmark.proxy import proxied
from scripts.benchmark.running import Ends, running
from scripts.benchmark.server import Server
from scripts.benchmark.tables import Arena, arena
from tests.acceptance.tables import LINEITEM

# At TPC-H scale 1, so that the default of 0.5 sends 0.4, 2 and 8 GB.
SIZES = (800_000_000, 4_000_000_000, 16_000_000_000)
SOURCE_SCALE = 0.01

LATENCY_S = 0.005
WORKERS = (1, 2, 4)
# One writer each, so that workers and writers are the same number.
ONE_WRITER = {"WORKER_CONCURRENT_BATCHES": "1", "WORKER_CONCURRENT_CHUNKS": "1"}


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """Files of three sizes, then one file and more and more workers."""
    return [_sizes(server, folder, scale), _workers(server, folder, scale)]


def _sizes(server: Server, folder: Path, scale: float) -> Race:
    source = data.lineitem(folder, SOURCE_SCALE)
    bodies = [data.Repeated(source, round(size * scale)) for size in SIZES]
    names = [f"{body.size / 1e9:.2f} GB" for body in bodies]
    turns = (partial(size_turn, server, body) for body in bodies)
    contenders = [Contender(name=name, turn=turn) for name, turn in zip(names, turns, strict=True)]
    targets = [Target(ours=name, theirs=names[0], fact="rows_per_s", bound=0.95, at_least=True) for name in names[1:]]
    return Race(name="scale", title="HTTP to completed, while uploading", contenders=contenders, targets=targets)


def _workers(server: Server, folder: Path, scale: float) -> Race:
    path = data.lineitem(folder, scale)
    table = arena(server, "lineitem", LINEITEM, path)
    names = {count: f"workers: {count}" for count in WORKERS}
    contenders = [Contender(name=name, turn=partial(workers_turn, table, path, n)) for n, name in names.items()]
    pairs = itertools.pairwise(WORKERS)
    targets = [
        Target(ours=names[more], theirs=names[fewer], fact="rows_per_s", bound=1.0, at_least=True)
        for fewer, more in pairs
    ]
    title = f"lineitem, workers of one writer each, {LATENCY_S * 1000:g} ms from the database"
    size = path.stat().st_size
    return Race(name="workers", title=title, contenders=contenders, targets=targets, rows=table.rows, size=size)


def size_turn(server: Server, body: data.Repeated) -> Cost:
    """Send and load a file of some size."""
    server.sql(f"set client_min_messages = warning; drop table if exists lineitem; create table lineitem ({LINEITEM})")
    server.settle()
    with running(server.dsn) as service, Ends(server.dsn) as ends:
        cpu_s = cpu_of(service.process)
        with watched(server.postmaster(), service.process.pid) as use:
            began = time.perf_counter()
            seconds = ends.wait(service.put(body, "public.lineitem", load="while_uploading")["id"]) - began
        cpu_s = cpu_of(service.process) - cpu_s
    if (rows := int(server.sql("select count(*) from lineitem"))) != body.rows:
        raise BenchmarkError(f"lineitem holds {rows} rows instead of {body.rows}")
    server.sql("drop table lineitem")
    found = cost(use, seconds, {service.process.pid: "ingest"}, cpu_s=cpu_s)
    return replace(found, facts={"rows_per_s": body.rows / seconds})


def workers_turn(table: Arena, path: Path, count: int) -> Cost:
    """Let a process receive the file, then several workers load it over the long way."""
    table.reset()
    with ExitStack() as held, proxied(table.server.dsn, latency_s=LATENCY_S) as proxy:
        api = held.enter_context(running(table.server.dsn, "api"))
        ends = held.enter_context(Ends(table.server.dsn))
        settings = {"STORAGE_URL": f"file://{api.home / 'objects'}", **ONE_WRITER}
        workers = [held.enter_context(running(proxy.dsn, "worker", settings=settings)) for _ in range(count)]
        touch_memory(table.size)
        job_id = api.put(path, "public.lineitem")["id"]
        stored, cpu_s = time.perf_counter(), sum(cpu_of(worker.process) for worker in workers)
        pids = {worker.process.pid: f"worker {number}" for number, worker in enumerate(workers, 1)}
        with watched(table.server.postmaster(), *pids) as use:
            seconds = ends.wait(job_id) - stored
        cpu_s = sum(cpu_of(worker.process) for worker in workers) - cpu_s
    table.check()
    return replace(cost(use, seconds, pids, cpu_s=cpu_s), facts={"rows_per_s": table.rows / seconds})
