"""Measures reads: pages of many jobs at rest, one job while a load runs, and the load with readers along.

Run by scripts/latency. Everything is its own: a PostgreSQL, a database, a service as a process.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import trio

from ingest.database.embedded import embedded_postgres
from tests.acceptance.client import BASE, FINAL, Client
from tests.conftest import run_psql
from tests.processes import starting

FILL = """
insert into ingest.jobs (id, dataset, filename, state, spec, bytes_total, bytes_received, records, inserted, created_at,
                         started_at, finished_at, error_code)
select gen_random_uuid(), 'public.t' || i % 5, i || '.csv', s, '{{"columns": []}}', 1000, 1000, 10,
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
  l_commitdate date, l_receiptdate date, l_shipinstruct text, l_shipmode text, l_comment text);
"""
READS = ("", "?page=9000", "?limit=100", "?status=completed", "?status=failed", "?status=processing", "?dataset=public.t3",
         "?dataset=public.t3&status=completed", "?filename=99999", "?filename=CSV", "?filename=nowhere&status=completed")  # fmt: skip
REPEATS = 100
PAUSE_S = 0.01


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/latency", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the database")
    parser.add_argument("--scale", default="0.5", help="TPC-H scale of the load; 1 is 6 million rows")
    parser.add_argument("--streams", type=int, default=200, help="readers of the job's stream")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-latency-") as folder, embedded_postgres(Path(folder)) as dsn:
        with starting(Path(folder), {"DATABASE_URL": dsn, "INGEST_HOME": folder}) as start:
            client = Client(start().url)
            run_psql(dsn, FILL.format(jobs=given.jobs) + LINEITEM)
            for read in READS:
                show(f"GET /jobs{read}", [timed(client, f"{BASE}/jobs{read}") for _ in range(REPEATS)])
            show("GET /stats", [timed(client, f"{BASE}/stats") for _ in range(REPEATS)])
            path = lineitem(Path(folder), given.scale)
            for streams in (0, given.streams, 0, given.streams):
                load(client, path, streams)
            client.close()


def load(client: Client, path: Path, streams: int) -> None:
    """Load a file, reading its job all the while, and its stream `streams` times."""
    times, job_id = [], client.send(path, "public.lineitem")
    with reading(f"{client.url}{BASE}/jobs/{job_id}/stream", streams):
        while (job := client.job(job_id))["status"] not in FINAL:
            times.append(timed(client, f"{BASE}/jobs/{job_id}"))
            time.sleep(PAUSE_S)
    rss_mb = client.json("/health")["memory"]["rss_bytes"] / 1e6
    what = f"GET /jobs/{{id}}, {streams} streams, {job['rows_per_second']:,.0f} rows/s, {rss_mb:.0f} MB"
    show(what, times)


@contextmanager
def reading(url: str, number: int) -> Iterator[None]:
    """Read a stream in a process of its own while the context lasts; fails unless each reader saw the end."""
    program = [sys.executable, "-c", f"from tests.latency import follow; follow({url!r}, {number})"]
    with subprocess.Popen(program) as process:
        yield
    assert process.returncode == 0


def follow(url: str, number: int) -> None:
    """Read a stream `number` times at once, and fail unless each tells of the end."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()

    async def read() -> None:
        async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as stream:
            await stream.send_all(request)
            end = b""
            async for piece in stream:
                end = end[-4096:] + piece
            assert b"event: completed" in end

    async def read_all() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(number):
                nursery.start_soon(read)

    trio.run(read_all)


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
    print(f"{what:60} {shown} max {ordered[-1]:6.1f} ms  ({len(ordered)})", flush=True)


if __name__ == "__main__":
    main()
