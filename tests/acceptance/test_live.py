"""Live progress through real processes: any API process tells of any worker's job, as the database has it."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest
import trio

from tests.acceptance.client import BASE, PATIENCE_S, Client, tracebacks, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import count
from tests.conftest import Psql
from tests.integration.web.streams import messages, parsed, reading
from tests.processes import Process, Starter

# What is promised, and what a machine with other things to do may add to it at its worst moment.
BEHIND_S = 1.0
STALL_S = 3.0
# Streams that are open when a process stops may cost it this much.
STOP_S = 4.0
READERS = 200
MOST_GROWTH_BYTES = 50_000_000

ROWS = 60_000
# Each batch takes some time, so that a load lasts while it is looked at.
SLOW_TABLE = """
create table t (a bigint, b text);
create function rest() returns trigger language plpgsql as 'begin perform pg_sleep(0.06); return null; end';
create trigger rest before insert on t for each statement execute function rest();
"""


@dataclass(frozen=True)
class Seen:
    """An event, and when it arrived (seconds since the epoch)."""

    at: float
    name: str
    number: int
    job: dict[str, Any]

    @property
    def rows(self) -> int:
        """Records that are settled."""
        job = self.job
        return int(job["processed_rows"] + job["skipped_rows"] + job["failed_rows"])


def rows() -> bytes:
    """A file of as many records."""
    return b"a,b\n" + b"".join(b"%d,some text\n" % number for number in range(ROWS))


def start_load(service: Starter, connect: Connect, psql: Psql, *, worker: bool = True) -> tuple[Process, Process, str]:
    """Two API processes, a worker of its own for a slow load; returns the processes and the job."""
    psql(SLOW_TABLE)
    first, second = service("api", **SMALL), service("api", **SMALL)
    if worker:
        service("worker", **SMALL)
    return first, second, connect(first).send(rows(), "public.t")


async def follow(url: str) -> list[Seen]:
    """Read a stream of events to its end."""
    async with reading(url) as events:
        return [Seen(time.time(), event.name, int(event.id), event.job) async for event in events if event.name]


async def listen(url: str) -> list[Seen]:
    """Read a WebSocket to its end."""
    seen = []
    async with messages(url) as socket:
        while not seen or seen[-1].name == "progress":
            told = json.loads(await socket.get_message())
            if told["event"] != "heartbeat":
                seen.append(Seen(time.time(), told["event"], told["id"], told["data"]))
    return seen


def lags_s(seen: list[Seen], psql: Psql, job_id: str) -> list[float]:
    """For each event: by how much it was behind the database when it was replaced by the next one, at worst."""
    lines = psql(
        "select extract(epoch from committed_at), sum(g.records) over (order by committed_at) from ingest.ledger g"
        f" join ingest.chunks c on c.id = g.chunk_id where c.job_id = '{job_id}' order by 1"
    )
    commits = [(float(at), int(total)) for at, total in (line.split("|") for line in lines.splitlines())]
    found = []
    for shown, following in pairwise(seen):
        missing = [at for at, total in commits if total > shown.rows]
        found.append(max(following.at - missing[0], 0.0) if missing else 0.0)
    return found


def check_story(seen: list[Seen], psql: Psql, job_id: str) -> None:
    """It goes forward, ends with the end, and is never far behind the database."""
    assert [event.name for event in seen] == ["progress"] * (len(seen) - 1) + ["completed"]
    assert len(seen) > 3
    for values in ([event.job["progress"] for event in seen], [event.rows for event in seen]):
        assert values == sorted(values)
    numbers = [event.number for event in seen]
    assert numbers == sorted(set(numbers))
    assert (seen[-1].job["progress"], seen[-1].rows) == (1, ROWS)
    lags = lags_s(seen, psql, job_id)
    print("behind the database, in s:", [round(lag, 2) for lag in lags])
    assert median(lags) < BEHIND_S
    assert max(lags) < BEHIND_S + STALL_S
    finished_at = float(psql(f"select extract(epoch from finished_at) from ingest.jobs where id = '{job_id}'"))
    assert seen[-1].at - finished_at < BEHIND_S + STALL_S


async def test_every_api_process_follows_the_job_of_any_worker(service: Starter, connect: Connect, psql: Psql) -> None:
    first, second, job_id = start_load(service, connect, psql)
    path = f"{BASE}/jobs/{job_id}"
    told: dict[str, list[Seen]] = {}

    async def keep(name: str, seen: Any, url: str) -> None:
        told[name] = await seen(url)

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep, "events of the process that took the file", follow, f"{first.url}{path}/stream")
            nursery.start_soon(keep, "events of another process", follow, f"{second.url}{path}/stream")
            nursery.start_soon(keep, "messages of another process", listen, f"{second.url}{path}/ws")

    for seen in told.values():
        check_story(seen, psql, job_id)
    assert {json.dumps(seen[-1].job) for seen in told.values()} == {json.dumps(connect(second).job(job_id))}
    running = [event.job for event in told["messages of another process"] if event.job["processed_rows"]][:-1]
    assert all(job["rows_per_second"] > 0 for job in running)
    assert all(job["eta_seconds"] > 0 for job in running if job["processed_rows"] < ROWS)
    assert tracebacks(first) == tracebacks(second) == []


async def test_a_process_that_stops_hands_its_readers_on(service: Starter, connect: Connect, psql: Psql) -> None:
    first, second, job_id = start_load(service, connect, psql)
    path = f"{BASE}/jobs/{job_id}/stream"
    with trio.fail_after(PATIENCE_S):
        async with reading(first.url + path) as events:
            last = await anext(events)
            stopping = time.monotonic()
            first.signal(signal.SIGTERM)
            rest = [event async for event in events]
        assert await trio.to_thread.run_sync(first.wait) == 0
        assert time.monotonic() - stopping < STOP_S
        assert [event.name for event in rest if event.name][-1] == "goodbye"
        number = int(rest[-1].id)
        async with reading(second.url + path, str(number)) as events:
            seen = [event async for event in events if event.name]
    assert int(seen[0].id) > number >= int(last.id)
    assert seen[0].job["processed_rows"] >= last.job["processed_rows"]
    assert (seen[-1].name, seen[-1].job["processed_rows"]) == ("completed", ROWS)


async def test_streams_of_a_service_that_stops_do_not_hold_it_up(
    service: Starter, connect: Connect, psql: Psql
) -> None:
    """Neither those that read nor those that do not; the worker in the same process hands its chunk back meanwhile."""
    psql("create table t (a bigint, b text)")
    process = service("api")
    job_id = connect(process).send(rows(), "public.t")  # nobody loads it
    path = f"{process.url}{BASE}/jobs/{job_id}"
    with trio.fail_after(PATIENCE_S):
        async with (
            reading(f"{path}/stream") as events,
            messages(f"{path}/ws") as socket,
            trio.open_nursery() as nursery,
        ):
            assert (await anext(events)).name == "progress"
            assert json.loads(await socket.get_message())["event"] == "progress"
            for _ in range(20):  # these never read a byte
                silent = await trio.open_tcp_stream("127.0.0.1", int(process.url.rsplit(":", 1)[1]))
                await silent.send_all(f"GET {BASE}/jobs/{job_id}/stream HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                nursery.start_soon(_hold, silent)
            stopping = time.monotonic()
            process.signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(process.wait) == 0
            assert time.monotonic() - stopping < STOP_S
            nursery.cancel_scope.cancel()


async def _hold(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


@pytest.mark.slow
async def test_two_hundred_readers_cost_next_to_nothing(service: Starter, connect: Connect, psql: Psql) -> None:
    """Each sees the end of a job that another process runs."""
    first, second, job_id = start_load(service, connect, psql, worker=False)
    client = connect(second)
    before = rss_bytes(client)
    most = before
    ends: list[Seen] = []
    connected = trio.Event()
    waiting = READERS

    async def read() -> None:
        nonlocal waiting
        async with reading(f"{second.url}{BASE}/jobs/{job_id}/stream") as events:
            event = await anext(events)
            waiting -= 1
            if not waiting:
                connected.set()
            async for event in events:
                last = event
            ends.append(Seen(time.time(), last.name, int(last.id), last.job))

    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for _ in range(READERS):
                nursery.start_soon(read)
            await connected.wait()
            await trio.to_thread.run_sync(service, "worker")
            while len(ends) < READERS:
                most = max(most, await trio.to_thread.run_sync(rss_bytes, client))
                await trio.sleep(0.2)
    assert {(end.name, end.rows) for end in ends} == {("completed", ROWS)}
    print(f"{before / 1e6:.0f} MB, with {READERS} readers at most {most / 1e6:.0f} MB")
    assert most - before < MOST_GROWTH_BYTES
    assert tracebacks(second) == []
    assert first.process.poll() is None


def rss_bytes(client: Client) -> int:
    """Return what the process behind a client holds."""
    return int(client.json("/health")["memory"]["rss_bytes"])


def test_a_stream_as_an_ordinary_client_reads_it(
    service: Starter, connect: Connect, psql: Psql, tmp_path: Path
) -> None:
    """httpx, line by line; a retry that is failed, cancelled jobs and files without records end it too."""
    psql("create table t (a bigint check (a < 0), b text)")
    client = connect(service())
    ends = {}
    for content in (b"a,b\n", b"a,b\n1,x\n", b"a,b\n-1,x\n"):
        job_id = client.send(content, "public.t")
        with httpx.stream("GET", f"{client.url}{BASE}/jobs/{job_id}/stream", timeout=PATIENCE_S) as response:
            events = list(parsed(response.iter_lines()))
        ends[content] = events[-1].name
        assert events[-1].job == client.job(job_id)
    assert list(ends.values()) == ["completed", "failed", "completed"]
    assert count(psql, "t") == 1
    until(
        lambda: client.json(f"{BASE}/stats")["lately"]["jobs"] == {"completed": 2, "failed": 1, "cancelled": 0}, "stats"
    )
    stats = client.json(f"{BASE}/stats")
    assert stats["jobs"]["total"] == 3
    assert stats["lately"]["success_rate"] == 0.6667
    assert stats["lately"]["rows"]["inserted"] == 1
    assert stats["rows_per_second"] > 0
