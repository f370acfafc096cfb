"""Measures reads: pages of many jobs at rest, one job while a load runs, and the load with readers of its stream along.

Run by scripts/latency: for a service in one process, and for one whose API and worker are two. Everything is its own: a
PostgreSQL, a database, the processes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from ingest.database.embedded import embedded_postgres
from tests.acceptance.client import BASE, FINAL, Client, session
from tests.conftest import run_psql
from tests.processes import starting

FILL = """
insert into ingest.jobs (id, dataset, filename, state, spec, bytes_total, bytes_received, records, inserted, created_at,
                         started_at, finished_at, error_code)
select gen_random_uuid(), 'public.t' || i % 5, i || '.csv', s, '{{"columns": [], "dialect": {{}}}}', 1000, 1000, 10,
       case s when 'completed' then 10 else 0 end, t, t, t, case s when 'failed' then 'E_CHECK' end
  from (select i, now() - i * interval '1 s' as t, case when i % 1000 = 0 then 'failed' else 'completed' end as s
          from generate_series(1, {jobs}) i) g;
insert into ingest.chunks (job_id, ordinal, state, queue, priority, object_key, object_offset, length_bytes, file_offset,
                           first_line, records, batch_ends, batch_records, batch_lines, batch_blanks, inserted,
                           finished_at, epoch, claimed_at, worker_id)
select id, 1, 'completed', 'default', 5, 'k', 0, 1000, 0, 2, 10, '{{1000}}', '{{10}}', '{{10}}', '{{0}}', 10,
       finished_at, 1, created_at, gen_random_uuid() from ingest.jobs where state = 'completed';
vacuum analyze ingest.jobs; vacuum analyze ingest.chunks;
"""
LINEITEM = """
create table lineitem (l_orderkey bigint, l_partkey bigint, l_suppkey bigint, l_linenumber int, l_quantity numeric,
  l_extendedprice numeric, l_discount numeric, l_tax numeric, l_returnflag text, l_linestatus text, l_shipdate date,
  l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text);"""
READS = ("", "?page=9000", "?limit=100", "?status=completed", "?status=failed", "?status=processing", "?dataset=public.t3",
         "?dataset=public.t3&status=completed", "?filename=99999", "?filename=CSV", "?filename=nowhere&status=completed")  # fmt: skip
REPEATS = 100
PAUSE_S = 0.01
# How many reads pass between two looks at the memory.
MEMORY_EVERY = 20


@dataclass(frozen=True)
class Load:
    """What a load was like: the seconds it took, the milliseconds of each read of its job, the API's memory."""

    seconds: float
    reads_ms: list[float]
    rss_bytes: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/latency", description=__doc__)
    parser.add_argument(
        "--jobs", type=int, default=100_000, help="jobs in the database; 0 leaves the reads at rest out"
    )
    parser.add_argument("--scale", default="0.5", help="TPC-H scale of the load; 1 is 6 million rows")
    parser.add_argument("--streams", type=int, default=200, help="readers of the job's stream")
    parser.add_argument("--rounds", type=int, default=3, help="loads without and with readers, each")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-latency-") as folder, embedded_postgres(Path(folder)) as dsn:
        path = lineitem(Path(folder), given.scale)
        for roles in (("serve",), ("api", "worker")):
            # What the processes have logged is shown when they end, which is for tests.
            with redirect_stdout(None), starting(Path(folder), {"DATABASE_URL": dsn, "INGEST_HOME": folder}) as start:
                client = Client(start(roles[0]).url)
                for role in roles[1:]:
                    start(role).wait_ready()
                tell(f"\n{' and '.join(roles)}:")
                if given.jobs and roles == ("serve",):
                    run_psql(dsn, FILL.format(jobs=given.jobs))
                    at_rest(client)
                compare(client, dsn, path, given.streams, given.rounds)
                client.close()


def at_rest(client: Client) -> None:
    """Read pages of jobs while nothing else happens."""
    for read in (*(f"/jobs{query}" for query in READS), "/stats"):
        show(f"GET {read}", [timed(client, BASE + read) for _ in range(REPEATS)])


def compare(client: Client, dsn: str, path: Path, streams: int, rounds: int) -> None:
    """Load a file again and again, every other time with readers along; print what they cost."""
    alone, along = [], []
    load(client, dsn, path, 0)  # the first one finds cold caches
    for number in range(rounds):  # by turns also of who goes first: the second load finds what the first has left
        for taken, readers in ((alone, 0), (along, streams))[:: -1 if number % 2 else 1]:
            taken.append(load(client, dsn, path, readers))
    show("GET /jobs/{id} while it is loaded", [ms for each in alone for ms in each.reads_ms])
    show(f"GET /jobs/{{id}} with {streams} streams", [ms for each in along for ms in each.reads_ms])
    slower = [after.seconds / before.seconds for before, after in zip(alone, along, strict=True)]
    growth = max(each.rss_bytes for each in along) - max(each.rss_bytes for each in alone)
    times = ", ".join(f"{before.seconds:.2f}/{after.seconds:.2f}" for before, after in zip(alone, along, strict=True))
    tell(f"{streams} streams: the load takes {median(slower):.3f} times as long ({times} s), {growth / 1e6:+.1f} MB")


def load(client: Client, dsn: str, path: Path, streams: int) -> Load:
    """Load a file, reading its job all the while, and its stream `streams` times.

    What is measured begins when all readers have come: a load of seconds is no measure of two hundred connections.
    """
    run_psql(dsn, f"drop table if exists lineitem; {LINEITEM} checkpoint")
    reads_ms, rss_bytes = [], 0
    with ExitStack() as reading_along:
        with session(dsn, "begin; lock table lineitem in share mode"):
            job_id = client.send(path, "public.lineitem")
            reading_along.enter_context(reading(f"{client.url}{BASE}/jobs/{job_id}/stream", streams))
        begun = datetime.now(UTC)
        while (job := client.job(job_id))["status"] not in FINAL:
            reads_ms.append(timed(client, f"{BASE}/jobs/{job_id}"))
            if len(reads_ms) % MEMORY_EVERY == 1:
                rss_bytes = max(rss_bytes, client.json("/health")["memory"]["rss_bytes"])
            time.sleep(PAUSE_S)
    assert job["status"] == "completed", job["error"]
    return Load((datetime.fromisoformat(job["completed_at"]) - begun).total_seconds(), reads_ms, rss_bytes)


@contextmanager
def reading(url: str, number: int) -> Iterator[None]:
    """Let readers of a stream come, in a process of their own, and leave; fails unless each of them saw the end."""
    program = [sys.executable, "-m", "tests.follow", url, str(number)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{number} read\n"
        yield
    assert process.returncode == 0


def lineitem(folder: Path, scale: str) -> Path:
    """Generate TPC-H's largest table as CSV."""
    program = Path(sysconfig.get_path("scripts")) / "tpchgen-cli"
    arguments = ("csv", "--scale-factor", scale, "--tables", "lineitem", "--output-dir", str(folder))
    subprocess.run([program, *arguments], check=True, capture_output=True)
    return folder / "lineitem.csv"


def timed(client: Client, path: str) -> float:
    """Return the milliseconds of one read."""
    begun = time.perf_counter()
    client.json(path)
    return (time.perf_counter() - begun) * 1000


def show(what: str, times_ms: list[float]) -> None:
    """Print the distribution of some reads."""
    ordered = sorted(times_ms)
    at = {share: ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.9, 0.99)}
    shown = " ".join(f"p{share * 100:g} {value:6.1f}" for share, value in at.items())
    tell(f"{what:60} {shown} max {ordered[-1]:6.1f} ms  ({len(ordered)})")


def tell(text: str) -> None:
    """Print a line, whatever becomes of the standard output meanwhile."""
    print(text, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
