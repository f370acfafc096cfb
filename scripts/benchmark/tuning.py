"""The number of writers that the service finds by itself beside numbers that are set: a clean load, an upsert, a
database that is far away. Each turn is a worker that has begun anew and more work than it can do in the time."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Race, Target
from scripts.benchmark.loads import HALF, KEY, definition
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, cpu_of, touch_memory, watched
from scripts.benchmark.proxy import proxied
from scripts.benchmark.running import BASE, Service, running
from scripts.benchmark.server import Server
from scripts.benchmark.tables import Arena, arena
from tests.acceptance.tables import LINEITEM

FIXED = (1, 2, 3, 4, 6, 8, 16)
AUTO = "auto"
# How long a worker works, and from when on it is measured: by then the number must have been found.
SECONDS, FOUND_BY_S = 20.0, 10.0
LOOK_S = 0.2
LATENCY_S = 0.005
# What no number of writers loads in a second here, in bytes: so much is given, and a turn never runs out of it.
FASTEST = 150_000_000

ROWS = re.compile(r'^ingest_rows_total\{.*outcome="(?:inserted|updated)"\} (\S+)$', re.MULTILINE)
WRITERS = re.compile(r"^ingest_writers (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What there is to do in each turn: the same file again and again, over the way that is so long."""

    table: Arena
    path: Path
    dataset: str
    latency_s: float = 0.0
    jobs: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)


def load(server: Server, folder: Path, scale: float) -> list[Race]:
    """A clean file into a table without a key."""
    return [_race("tuning-load", "lineitem, clean", _appending(server, folder, scale))]


def slow(server: Server, folder: Path, scale: float) -> list[Race]:
    """The same, with each answer of the database 5 ms later, and batches a tenth as large."""
    far = replace(_appending(server, folder, scale), latency_s=LATENCY_S)
    small = replace(far, settings={"WORKER_BATCH_SIZE": "1000"})
    title = f"lineitem, clean, {LATENCY_S * 1000:g} ms from the database"
    return [_race("tuning-slow", title, far), _race("tuning-slow-small", f"{title}, batches of 1000 records", small)]


def upsert(server: Server, folder: Path, scale: float) -> list[Race]:
    """Half of the rows are in the table already."""
    path = data.lineitem(folder, scale)
    table = arena(server, "lineitem", LINEITEM, path, after=f"{HALF}; {KEY}; vacuum analyze lineitem")
    definitions = folder / "datasets"
    definitions.mkdir(exist_ok=True)
    (definitions / "lineitem_any.toml").write_text(definition("any"))
    settings = {"INGEST_DATASETS": str(definitions)}
    return [
        _race(
            "tuning-upsert",
            "lineitem, half of the rows are there",
            Task(table=table, path=path, dataset="lineitem_any", settings=settings),
        )
    ]


def _appending(server: Server, folder: Path, scale: float) -> Task:
    path = data.lineitem(folder, scale)
    jobs = 1 + round(FASTEST * SECONDS) // path.stat().st_size
    return Task(table=arena(server, "lineitem", LINEITEM, path), path=path, dataset="public.lineitem", jobs=jobs)


def _race(name: str, title: str, task: Task) -> Race:
    names = [*map(str, FIXED), AUTO]
    contenders = [Contender(name=f"writers: {one}", turn=partial(turn, task, one)) for one in names]
    auto = contenders[-1].name
    targets = [
        Target(ours=auto, theirs=fixed.name, fact="rows_per_s", bound=0.95, at_least=True) for fixed in contenders[:-1]
    ]
    return Race(name=name, title=title, contenders=contenders, targets=targets)


def turn(task: Task, writers: str) -> Cost:
    """Let a worker load for a while; what it did after FOUND_BY_S counts."""
    task.table.reset()
    with ExitStack() as held:
        server = task.table.server
        shared = {**task.settings, "INGEST_SOURCE_ROOTS": str(task.path.parent)}
        api = held.enter_context(running(server.dsn, "api", settings=shared))
        held.enter_context(_waiting(api, task))
        touch_memory(task.table.size)
        dsn = held.enter_context(proxied(server.dsn, latency_s=task.latency_s)).dsn if task.latency_s else server.dsn
        storage = {"STORAGE_URL": f"file://{api.home / 'objects'}", "WORKER_CONCURRENT_BATCHES": writers}
        worker = held.enter_context(running(dsn, "worker", settings=shared | storage))
        cpu_s = cpu_of(worker.process)
        with watched(server.postmaster(), worker.process.pid) as use:
            looks = list(_look(worker))
        cpu_s = cpu_of(worker.process) - cpu_s
    measured = [one for one in looks if one[0] >= FOUND_BY_S]
    rows_per_s = (measured[-1][1] - measured[0][1]) / (measured[-1][0] - measured[0][0])
    found = cost(use, SECONDS, {worker.process.pid: "worker"}, cpu_s=cpu_s)
    facts = {"rows_per_s": rows_per_s, "writers": sum(one[2] for one in measured) / len(measured)}
    return replace(found, facts=facts, series=_series(looks))


@contextmanager
def _waiting(api: Service, task: Task) -> Iterator[None]:
    """Have jobs wait for the worker; whatever is left of them at the end is cancelled."""
    jobs: list[dict[str, str]] = []
    try:
        for _ in range(task.jobs):
            jobs.append(_post(api, "/jobs", {"source": task.path.as_uri(), "dataset": task.dataset}))
            while api.job(jobs[-1]["id"])["status"] == "receiving":
                time.sleep(LOOK_S / 10)
        yield
    finally:
        for job in jobs:
            if api.job(job["id"])["status"] in ("pending", "processing"):
                _post(api, f"/jobs/{job['id']}/cancel", {})


def _post(api: Service, path: str, body: Mapping[str, str]) -> dict[str, str]:
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc)
    try:
        connection.request("POST", BASE + path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 202:
        raise BenchmarkError(f"POST {path}: {answer.status} {text[:500]!r}")
    found: dict[str, str] = json.loads(text)
    return found


def _look(worker: Service) -> Iterator[tuple[float, float, float]]:
    """Yield the seconds since the start, the rows in the table, and the writers, until the time is over."""
    began = time.perf_counter()
    while (now := time.perf_counter() - began) < SECONDS:
        text = _metrics(worker)
        yield time.perf_counter() - began, sum(map(float, ROWS.findall(text))), float(WRITERS.findall(text)[0])
        time.sleep(max(0.0, LOOK_S - (time.perf_counter() - began - now)))


def _metrics(worker: Service) -> str:
    connection = http.client.HTTPConnection(urlsplit(worker.url).netloc)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _series(looks: Sequence[tuple[float, float, float]]) -> dict[str, list[tuple[float, float]]]:
    """Return what a plot shows: writers, and rows a second, each over a second."""
    rate = [
        (at, (rows - before) / (at - since) / 1e5)
        for (since, before, _), (at, rows, _) in zip(looks, looks[5:], strict=False)
    ]
    return {"writers": [(at, writers) for at, _, writers in looks], "100,000 rows a second": rate}
