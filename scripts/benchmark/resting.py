"""A service with nothing to do, and how long it takes to start."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from ingest.database.embedded import embedded_postgres
from scripts.benchmark.contest import Contender, Limit, Race
from scripts.benchmark.measuring import Cost, cost, cpu_of, watched
from scripts.benchmark.proxy import proxied
from scripts.benchmark.running import running
from scripts.benchmark.server import Server

# At TPC-H scale 1; never less than the least, in which a few heartbeats fall.
REST_S, LEAST_REST_S = 120.0, 12.0
# What the start has left to do is not rest.
SETTLE_S = 3.0

IDLE = "this service, idle"
SERVICE, DATABASE = "this service with its database", "the embedded PostgreSQL alone"


def idle(server: Server, folder: Path, scale: float) -> list[Race]:
    """Processor time and queries of a service that nobody uses."""
    limits = [
        Limit(ours=IDLE, fact="cpu_percent", bound=1.0, unit="%"),
        Limit(ours=IDLE, fact="queries_per_s", bound=2.0, unit="/s"),
    ]
    contender = Contender(name=IDLE, turn=partial(idle_turn, server, max(LEAST_REST_S, REST_S * scale)))
    return [Race(name="idle", title="a service without work", contenders=[contender], limits=limits, rounds=1)]


def idle_turn(server: Server, rest_s: float) -> Cost:
    """Count what a service does in `rest_s` seconds."""
    with proxied(server.dsn) as proxy, running(proxy.dsn) as service:
        time.sleep(SETTLE_S)
        cpu_s, statements = cpu_of(service.process), proxy.counts.statements
        with watched(server.postmaster(), service.process.pid) as use:
            time.sleep(rest_s)
        cpu_s, statements = cpu_of(service.process) - cpu_s, proxy.counts.statements - statements
    facts = {"cpu_percent": cpu_s / rest_s * 100, "queries_per_s": statements / rest_s}
    return replace(cost(use, rest_s, {service.process.pid: "ingest"}, cpu_s=cpu_s), facts=facts)


def start(server: Server, folder: Path, scale: float) -> list[Race]:
    """From the command to the ready line, in a folder where it has run before."""
    home = Path(tempfile.mkdtemp(prefix="start-", dir=server.folder))
    with running(None, home=home):
        pass
    contenders = [
        Contender(name=SERVICE, turn=partial(start_turn, home)),
        Contender(name=DATABASE, turn=partial(database_turn, home)),
    ]
    limits = [Limit(ours=SERVICE, fact=None, bound=1.0, unit="s")]
    return [Race(name="start", title="from the start to ready", contenders=contenders, limits=limits)]


def start_turn(home: Path) -> Cost:
    """Start the service, and stop it when it is ready."""
    with running(None, home=home) as service:
        return Cost(seconds=service.started_s, cpu_s=cpu_of(service.process))


def database_turn(home: Path) -> Cost:
    """Start what the service has to start before it can be ready."""
    began = time.perf_counter()
    with embedded_postgres(home):
        return Cost(seconds=time.perf_counter() - began)
