"""Whole files through a worker with one writer and with four, over several chunks: the oracle's table and rejects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import trio
from uuid_utils.compat import uuid7

from ingest import worker
from ingest.chunk import ChunkCut
from ingest.database import Database
from ingest.heartbeat import Pulse
from ingest.job import FINAL, JobView
from ingest.jobs import Jobs
from ingest.objectkeys import chunk_key
from ingest.settings import Settings
from ingest.spec import LoadSpec, Merge
from ingest.storage import open_storage
from ingest.work import create_work
from tests.integration.build import COMMA, cut, make_job
from tests.integration.loading.oracle import KEPT, Oracle, kept, random_lines

PATIENCE_S = 60.0
CHUNKS = 3
RECORDS = 400


async def load_by_worker(database: Database, folder: Path, spec: LoadSpec, lines: list[str], writers: int) -> JobView:
    """Store the file as several chunks, let a worker load it, and return its job."""
    settings = Settings.from_environment(
        {"INGEST_HOME": str(folder), "WORKER_CONCURRENT_BATCHES": str(writers), "WORKER_CONCURRENT_CHUNKS": "2"}
    )
    storage = open_storage(settings)
    name, cuts, first = uuid7(), list[ChunkCut](), 2
    for ordinal in range(1, CHUNKS + 1):
        part = lines[(ordinal - 1) * len(lines) // CHUNKS : ordinal * len(lines) // CHUNKS]
        data = "".join(part).encode()
        stored = storage.create(chunk_key(name, ordinal))
        stored.write(data)
        stored.seal()
        made = cut(data, batch_records=29, single_column=False, first_line=first, dialect=COMMA)
        cuts.append(replace(made, ordinal=ordinal, object_key=chunk_key(name, ordinal)))
        first += len(part)
    job_id = await make_job(database, cuts, of=spec)
    stop = trio.Event()
    work = create_work(settings, database, storage, stop)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.run, work, Pulse())
            while (view := await Jobs(database).get(job_id)) is None or view.status not in FINAL:
                await trio.lowlevel.checkpoint()
            stop.set()
            work.wake.set()
    return view


# Only what is appended goes unparsed into the table.
WAYS = [("direct", Merge.APPEND), *((way, merge) for way in ("typed", "text") for merge in Merge)]


@pytest.mark.parametrize("writers", [1, 4])
@pytest.mark.parametrize(("way", "merge"), WAYS)
async def test_a_worker_leaves_what_the_oracle_does(
    any_database: Database, tmp_path: Path, merge: Merge, way: str, writers: int
) -> None:
    """The last record with a key wins an upsert and the first a skip, whichever writer or chunk it is in."""
    await any_database.execute(f"DROP TABLE IF EXISTS kept; {KEPT}")
    spec = kept(merge, trim=way == "text")
    lines = random_lines(f"{merge} {way} {writers}", RECORDS)
    oracle = Oracle(merge)
    for line, record in enumerate(lines, 2):
        oracle.add(line, record)

    view = await load_by_worker(
        any_database, tmp_path, replace(spec, plan=None) if way == "direct" else spec, lines, writers
    )

    rejects = await any_database.fetch("SELECT DISTINCT line FROM ingest.rejects WHERE job_id = $1", view.id)
    rows = await any_database.fetch("SELECT id, b, n FROM kept")
    if way == "direct":
        # Chunks are loaded side by side: which of two records with a key is in, is a matter of which chunk was first.
        assert set(oracle.rows) == {row["id"] for row in rows}
        assert len(rejects) == len(oracle.refused) == view.failed_rows
        return
    assert {row["line"] for row in rejects} == oracle.refused
    assert {row["id"]: (row["b"], row["n"]) for row in rows} == oracle.rows
    assert (view.inserted_rows, view.skipped_rows) == (oracle.counts["inserted"], oracle.counts["skipped"])
    assert view.updated_rows + view.unchanged_rows == oracle.counts["updated"] + oracle.counts["unchanged"]
    assert view.total_rows == RECORDS
