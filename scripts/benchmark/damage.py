"""A quote that is opened on line 2 of a file of gigabytes, and never closed: what it costs, and how soon it is told."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from scripts.benchmark import memory
from scripts.benchmark.contest import Contender, Limit, Race
from scripts.benchmark.data import Repeated
from scripts.benchmark.measuring import BenchmarkError, Cost, cost, watched
from scripts.benchmark.running import BASE, JOB_S, running
from scripts.benchmark.server import Server

# At scale 1: the whole file is 20 GB, so that the default of 0.5 sends 10.
BYTES = 20_000_000_000
COLUMNS = "id bigint, note text"
HEADER = b"id,note\n"
OPENED = b'1,"a quote that is opened, and never closed\n'
# Long texts that say little: the table stays small beside the file, since PostgreSQL compresses them. Each is in quotes
# and holds a comma, so that all of them are read inside out once a quote too many is counted.
RECORD = b'%d,"' + b"all of it in quotes, again and again; " * 105 + b'"\n'
RECORDS = 256
# With a third field: no line is a whole record, and nothing speaks against a quote that opens a text of many lines.
HOPELESS = b"%d,some,thing\n"

RECOVERS, STOPS = "this service, records follow", "this service, no record follows"


def races(server: Server, folder: Path, scale: float) -> list[Race]:
    """One file that is damaged on one line alone, and one that is so from that line on."""
    size = round(BYTES * scale)
    body = Repeated(_file(folder / "quoted.csv", RECORD), size, start=OPENED)
    hopeless = Repeated(_file(folder / "hopeless.csv", HOPELESS), size, start=OPENED)
    recovers = Race(
        name="quote",
        title="a quote opened on line 2 costs its line",
        contenders=[Contender(name=RECOVERS, turn=partial(recovering_turn, server, body))],
        limits=[
            Limit(ours=RECOVERS, fact="peak_rss_mb", bound=200.0, unit="MB"),
            Limit(ours=RECOVERS, fact="growth_mb", bound=10.0, unit="MB"),
        ],
        rows=body.rows + 1,
        size=body.size,
        rounds=1,
    )
    stops = Race(
        name="quote without records",
        title="a quote opened on line 2, and no record behind it: refused within the limit of a record",
        contenders=[Contender(name=STOPS, turn=partial(stopping_turn, server, hopeless))],
        limits=[
            Limit(ours=STOPS, fact="peak_rss_mb", bound=200.0, unit="MB"),
        ],
        rows=hopeless.rows + 1,
        size=hopeless.size,
        rounds=1,
    )
    return [recovers, stops]


def recovering_turn(server: Server, body: Repeated) -> Cost:
    """Send the file, and look at the process meanwhile: all records are loaded but the one with the quote."""
    return memory.turn(server, body, table="notes", columns=COLUMNS, rejected=1)


def stopping_turn(server: Server, body: Repeated) -> Cost:
    """Send the file until it is refused; `sent_mb` is how much had been sent by then."""
    server.sql(f"set client_min_messages = warning; drop table if exists notes; create table notes ({COLUMNS})")
    with running(server.dsn) as service, watched(server.postmaster(), service.process.pid) as use:
        began = time.perf_counter()
        status, answer, sent = _refused(service.url, f"{BASE}/upload/f.csv?dataset=public.notes", body)
        seconds = time.perf_counter() - began
    if status != 422 or b"E_RECORD_TOO_LARGE" not in answer or b"line 2 is not closed" not in answer:
        raise BenchmarkError(f"the file was not refused for its quote: {status} {answer[:500]!r}")
    found = cost(use, seconds, {service.process.pid: "ingest"})
    facts = {"peak_rss_mb": found.peak_rss_mb["ingest"], "sent_mb": sent / 1e6}
    return Cost(seconds=seconds, peak_rss_mb=found.peak_rss_mb, facts=facts)


def _refused(url: str, path: str, body: Repeated) -> tuple[int, bytes, int]:
    """Send a file as long as it is taken; return status and body of the answer, and the bytes sent."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=JOB_S)
    sent = 0
    try:
        connection.putrequest("PUT", path)
        connection.putheader("Content-Length", str(body.size))
        connection.endheaders()
        for piece in _taken(connection, body):
            sent += len(piece)
        answer = connection.getresponse()
        return answer.status, answer.read(), sent
    finally:
        connection.close()


def _taken(connection: http.client.HTTPConnection, body: Repeated) -> Iterator[memoryview]:
    """Send piece after piece; yield those that the server has taken."""
    for piece in body:
        try:
            connection.send(piece)
        except (BrokenPipeError, ConnectionResetError):
            return  # it has answered
        yield piece


def _file(path: Path, record: bytes) -> Path:
    path.write_bytes(HEADER + b"".join(record % number for number in range(2, RECORDS + 2)))
    return path
