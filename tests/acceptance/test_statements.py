"""What a load asks of the database, counted on the wire: statements, waits for an answer, bytes of COPY."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.benchmark.proxy import proxied
from tests.acceptance.client import until
from tests.acceptance.running import rows, running
from tests.conftest import run_psql

# Nothing but the jobs may ask for anything meanwhile.
QUIET = {
    "WORKER_POLL_INTERVAL": "3600000",
    "WORKER_HEARTBEAT_INTERVAL": "3600000",
    "WORKER_LEASE_TTL": "10800000",
    "WORKER_CONCURRENT_CHUNKS": "1",
    "WORKER_BATCH_SIZE": "100",
}
# Each batch a chunk of its own.
CHUNK_A_BATCH = {"CHUNK_SIZE": "1000", "WORKER_BATCH_BYTES": "1000", "MAX_RECORD_BYTES": "1000"}
HEADER = b"id,name\n"
MANY = 20


@dataclass(frozen=True)
class Asked:
    """What was sent to the database for one job."""

    statements: int
    trips: int
    copied_bytes: int
    chunks: int
    batches: int


@contextmanager
def loading(dsn: str, folder: Path, settings: Mapping[str, str]) -> Iterator[Callable[[bytes], Asked]]:
    """Yield what loads a file into the table `t` and says what that took."""
    run_psql(dsn, "create table t (id int, name text)")

    def load(body: bytes) -> Asked:
        before = proxy.counts.statements, proxy.counts.trips, proxy.counts.copied_bytes
        job_id = service.put(body, "public.t").json()["id"]
        # Asked past the proxy: the service's own answer would cost statements, too.
        until(
            lambda: run_psql(dsn, f"select state = 'completed' from ingest.jobs where id = '{job_id}'") == "t",
            "it ends",
        )
        after = proxy.counts.statements, proxy.counts.trips, proxy.counts.copied_bytes
        chunks = run_psql(dsn, f"select count(*) from ingest.chunks where job_id = '{job_id}'")
        batches = run_psql(
            dsn,
            f"select count(*) from ingest.ledger l join ingest.chunks c on c.id = l.chunk_id where c.job_id = '{job_id}'",
        )
        statements, trips, copied_bytes = (new - old for new, old in zip(after, before, strict=True))
        return Asked(statements, trips, copied_bytes, int(chunks), int(batches))

    with proxied(dsn) as proxy, running(proxy.dsn, folder, "serve", **QUIET, **settings) as service:
        load(HEADER + rows(100 * MANY))  # connections are opened, statements prepared
        yield load


def test_a_batch_asks_for_little_and_its_bytes_are_sent_once(dsn: str, tmp_path: Path) -> None:
    with loading(dsn, tmp_path, {}) as load:
        two, many = load(HEADER + rows(200)), load(HEADER + rows(100 * MANY))
    assert (two.chunks, two.batches, many.chunks, many.batches) == (1, 2, 1, MANY)
    assert many.copied_bytes == len(rows(100 * MANY))
    # BEGIN, COPY, the ledger's line with the commit; and room for what a slow machine makes the upload say once more.
    assert (many.statements - two.statements) / (MANY - 2) < 3.5
    assert (many.trips - two.trips) / (MANY - 2) < 3.5


def test_a_small_file_takes_few_trips(dsn: str, tmp_path: Path) -> None:
    """The table looked up, the job received and claimed, its bytes copied, committed with its finish; and what is told."""
    with loading(dsn, tmp_path, {}) as load:
        one = min((load(HEADER + rows(100, n)) for n in range(3)), key=lambda asked: asked.trips)
    assert (one.chunks, one.batches) == (1, 1)
    # How often the worker looks for more, and how much is told at once, depends on who is faster.
    assert one.trips <= 11


def test_a_chunk_asks_for_little(dsn: str, tmp_path: Path) -> None:
    with loading(dsn, tmp_path, CHUNK_A_BATCH) as load:
        one, many = load(HEADER + rows(50)), load(HEADER + rows(100 * MANY))
    assert (one.chunks, one.batches) == (1, 1)
    assert many.chunks == many.batches > MANY
    assert many.copied_bytes == len(rows(100 * MANY))
    # The three of its batch; it is added, claimed and finished, and the job asked about.
    assert (many.statements - one.statements) / (many.chunks - 1) < 10.5
