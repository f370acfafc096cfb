"""Memory and disk while a file of gigabytes arrives and is loaded."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Limit, Race
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, cpu_of, watched
from scripts.benchmark.running import Ends, Service, running
from scripts.benchmark.server import Server
from tests.acceptance.tables import LINEITEM

# At TPC-H scale 1, so that the default of 0.5 sends 5 GB.
BYTES = 10_000_000_000
# Whose records are sent again and again.
SOURCE_SCALE = 0.01

SERVICE = "this service, while uploading"
LOOK_S = 0.1
# Early and late, as shares of the file: 1 GB and 5 GB of 5 GB.
EARLY, LATE = (0.15, 0.25), (0.9, 1.0)

Series = list[tuple[float, float]]


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """One large file, made while it is sent."""
    body = data.Repeated(data.lineitem(folder, SOURCE_SCALE), round(BYTES * scale))
    return [
        Race(
            name="memory",
            title="lineitem again and again, HTTP to completed",
            contenders=[Contender(name=SERVICE, turn=partial(turn, server, body))],
            limits=[
                Limit(ours=SERVICE, fact="peak_rss_mb", bound=200.0, unit="MB"),
                Limit(ours=SERVICE, fact="growth_mb", bound=10.0, unit="MB"),
            ],
            rows=body.rows,
            size=body.size,
            rounds=1,
        )
    ]


def turn(
    server: Server, body: data.Repeated, *, table: str = "lineitem", columns: str = LINEITEM, rejected: int = 0
) -> Cost:
    """Send the file; look at the process and its folder meanwhile. So many records must be rejected beside its rows."""
    server.sql(f"set client_min_messages = warning; drop table if exists {table}; create table {table} ({columns})")
    server.settle()
    with running(server.dsn) as service, Ends(server.dsn) as ends:
        cpu_s = cpu_of(service.process)
        with watched(server.postmaster(), service.process.pid) as use, _looking(service) as (rss, disk):
            began = time.perf_counter()
            job_id = service.put(body, f"public.{table}", load="while_uploading")["id"]
            seconds = ends.wait(job_id) - began
        cpu_s = cpu_of(service.process) - cpu_s
        rows, bad = service.job(job_id)["processed_rows"], service.rejects(job_id)
    if (rows, bad) != (body.rows, rejected) or int(server.sql(f"select count(*) from {table}")) != body.rows:
        raise BenchmarkError(
            f"{rows} rows were loaded instead of {body.rows}, and {bad} rejected instead of {rejected}"
        )
    server.sql(f"drop table {table}")
    found = cost(use, seconds, {service.process.pid: "ingest"}, cpu_s=cpu_s)
    facts = {
        "peak_rss_mb": found.peak_rss_mb["ingest"],
        "growth_mb": _level(rss, LATE) - _level(rss, EARLY),
        "peak_disk_mb": max(size for _, size in disk),
    }
    return replace(found, facts=facts, series={"RSS, MB": rss, "stored, MB": disk})


@contextmanager
def _looking(service: Service) -> Iterator[tuple[Series, Series]]:
    """Note memory and stored bytes, by seconds, until the context ends."""
    rss: Series = []
    disk: Series = []
    ended, began = threading.Event(), time.perf_counter()

    def look() -> None:
        while not ended.wait(LOOK_S):
            now = time.perf_counter() - began
            rss.append((now, service.process.memory_info().rss / 1e6))
            disk.append((now, service.objects_bytes() / 1e6))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield rss, disk
    finally:
        ended.set()
        looking.join()


def _level(series: Series, share: tuple[float, float]) -> float:
    """Return the median between two shares of the time; bytes come at a steady rate."""
    last = series[-1][0]
    return statistics.median([value for moment, value in series if share[0] * last <= moment <= share[1] * last])
