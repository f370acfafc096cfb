"""Small files: how long one takes on an idle service, and how many go through when sixteen clients send them."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from scripts.benchmark import data
from scripts.benchmark.contest import Contender, Limit, Race
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, cpu_of, run_programs, watched
from scripts.benchmark.running import BASE, Ends, Service, running
from scripts.benchmark.server import Server
from scripts.benchmark.tables import copy_command
from tests.acceptance.tables import LINEITEM
from tests.processes import clean_environment

ROWS, FEW_ROWS, CLIENTS = 1000, 100, 16
SERVICE = "this service"
PSQL = r"psql \copy, a process a file"

# At TPC-H scale 1; never fewer than the least.
FILES, MANY_FILES, LEAST_FILES = 400, 6000, 20
# The first ones find nothing prepared and are not counted.
UNCOUNTED = 5
ENDED_S = 300.0
LOOK_S = 0.02


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """One client that waits for each file, and many that do not."""
    lines = _lines(data.lineitem(folder, max(scale, 0.01)))
    one, many = (max(LEAST_FILES, round(count * scale)) for count in (FILES, MANY_FILES))
    files = [_file(folder / f"small-{number}.csv", lines, ROWS, number) for number in range(one + UNCOUNTED)]
    few = [_file(folder / f"few-{number}.csv", lines, FEW_ROWS, number) for number in range(many)]
    alone = Race(
        name="small",
        title=f"{one} files of {ROWS} rows one after the other, PUT to completed; seconds are the median of a file",
        contenders=[
            Contender(name=SERVICE, turn=partial(alone_turn, server, files)),
            Contender(name=PSQL, turn=partial(psql_alone_turn, server, files)),
        ],
        limits=[Limit(ours=SERVICE, fact="p50_ms", bound=25.0, unit="ms")],
        rows=ROWS,
        size=files[0].stat().st_size,
    )
    together = Race(
        name="small together",
        title=f"{many} files of {FEW_ROWS} rows from {CLIENTS} clients",
        contenders=[
            Contender(name=SERVICE, turn=partial(together_turn, server, few)),
            Contender(name=PSQL, turn=partial(psql_together_turn, server, few)),
        ],
        limits=[Limit(ours=SERVICE, fact="jobs_per_s", bound=150.0, unit="jobs/s", at_least=True)],
        rows=FEW_ROWS * many,
        size=sum(path.stat().st_size for path in few),
    )
    return [alone, together]


def alone_turn(server: Server, files: list[Path]) -> Cost:
    """Send a file, wait until it is loaded, send the next."""
    _reset(server)
    bodies = [path.read_bytes() for path in files]
    with running(server.dsn) as service, Ends(server.dsn) as ends:

        def take(body: bytes) -> float:
            began = time.perf_counter()
            return ends.wait(service.put(body, "public.lineitem")["id"]) - began

        found = _one_by_one(server, service, take, bodies)
    _check(server, len(files) * ROWS)
    return found


def _one_by_one(server: Server, service: Service, take: Callable[[bytes], float], bodies: list[bytes]) -> Cost:
    for body in bodies[:UNCOUNTED]:
        take(body)
    cpu_s = cpu_of(service.process)
    with watched(server.postmaster(), service.process.pid) as use:
        times = [take(body) for body in bodies[UNCOUNTED:]]
    cpu_s = cpu_of(service.process) - cpu_s
    found = cost(use, statistics.median(times), {service.process.pid: "ingest"}, cpu_s=cpu_s)
    return replace(found, facts=_distribution(times))


def psql_alone_turn(server: Server, files: list[Path]) -> Cost:
    """Load the same files by psql, a process for each."""
    _reset(server)
    times, programs = [], [server.psql(copy_command("lineitem", path)) for path in files]
    for program in programs:
        began = time.perf_counter()
        subprocess.run(program, check=True, env=clean_environment())
        times.append(time.perf_counter() - began)
    _check(server, len(files) * ROWS)
    return Cost(seconds=statistics.median(times[UNCOUNTED:]), facts=_distribution(times[UNCOUNTED:]))


def together_turn(server: Server, files: list[Path]) -> Cost:
    """Let the clients, in a process of their own, send one file after the other; then wait for the last one."""
    _reset(server)
    with running(server.dsn) as service:
        cpu_s = cpu_of(service.process)
        with watched(server.postmaster(), service.process.pid) as use:
            program = [sys.executable, "-m", "scripts.benchmark.peers.clients", service.url, BASE, str(CLIENTS)]
            began = time.perf_counter()
            subprocess.run([*program, *map(str, files)], check=True)
            sent = time.perf_counter()
            _await_all(server, len(files))
            seconds = time.perf_counter() - began
        cpu_s = cpu_of(service.process) - cpu_s
    _check(server, len(files) * FEW_ROWS)
    facts = {"jobs_per_s": len(files) / seconds, "sent_s": sent - began}
    return replace(cost(use, seconds, {service.process.pid: "ingest"}, cpu_s=cpu_s), facts=facts)


def psql_together_turn(server: Server, files: list[Path]) -> Cost:
    """Load the same files by psql, as many processes at once as there were clients."""
    _reset(server)

    def take(path: Path) -> Cost:
        return run_programs(server.postmaster(), server.psql(copy_command("lineitem", path)))

    began = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(take, files))
    seconds = time.perf_counter() - began
    _check(server, len(files) * FEW_ROWS)
    return Cost(seconds=seconds, facts={"jobs_per_s": len(files) / seconds})


def _lines(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [file.readline() for _ in range(ROWS + 1)]


def _file(path: Path, lines: list[bytes], rows: int, number: int) -> Path:
    """Write a file that differs from all others in its order keys."""
    records = (b"%d,%s" % (number, line.partition(b",")[2]) for line in lines[1 : rows + 1])
    path.write_bytes(lines[0] + b"".join(records))
    return path


def _reset(server: Server) -> None:
    server.sql(
        "set client_min_messages = warning; drop table if exists lineitem;"
        f"create table lineitem ({LINEITEM});"
        "do $$ begin truncate ingest.jobs cascade; exception when undefined_table or invalid_schema_name then end $$"
    )
    server.settle()


def _check(server: Server, rows: int) -> None:
    found = server.sql("select count(*) || '|' || count(distinct l_orderkey) from lineitem")
    if int(found.split("|")[0]) != rows:
        raise BenchmarkError(f"lineitem holds {found} (rows|files) instead of {rows} rows")


def _await_all(server: Server, jobs: int) -> None:
    deadline = time.monotonic() + ENDED_S
    while int(server.sql("select count(*) from ingest.jobs where state = 'completed'")) < jobs:
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{jobs} jobs have not ended in {ENDED_S:g} s")
        time.sleep(LOOK_S)


def _distribution(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    shares = {f"p{share}_ms": ordered[min(len(ordered) * share // 100, len(ordered) - 1)] * 1000 for share in (50, 95)}
    return {**shares, "max_ms": ordered[-1] * 1000}
