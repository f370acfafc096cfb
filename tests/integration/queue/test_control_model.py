"""A model of the queue with people in it: whatever workers and people do in whatever order, the counts add up.

Hypothesis chooses the steps; each is a statement of the service against the real database. Claims stay in the hands of
whoever made them also when they were taken away, so that every step is tried by zombies too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ingest.budget import SAMPLE_ROWS
from ingest.chunk import BatchRange, ChunkCut
from ingest.database.opening import connect
from ingest.queue import MAX_ATTEMPTS, MAX_CRASHES
from ingest.statements import statement
from tests.integration.build import cut, numbers, spec

CUT = cut(numbers(25))  # batches of 10, 10 and 5
FINAL = ("completed", "failed", "cancelled")
AT_ONCE = timedelta(0)


@dataclass
class ModelJob:
    """A job as it must be: the batches that are in, and whether they may still grow."""

    id: UUID
    chunks: int
    committed: set[tuple[int, int]] = field(default_factory=set)  # chunk, first byte
    closed: bool = False  # ended by request: nothing may be committed any more
    deleted: bool = False


@dataclass(frozen=True)
class Claim:
    """A chunk in somebody's hands, whether it still is theirs or not."""

    job: ModelJob
    chunk: int
    epoch: int
    worker: UUID


BACK = st.integers(0, 3)  # how far to look back: the latest is the most interesting


def has_claims(queue: Queue) -> bool:
    """Whether anybody has anything in hand."""
    return bool(queue.claims)


class Queue(RuleBasedStateMachine):
    """The queue, its workers and its people."""

    runner: asyncio.Runner
    connection: asyncpg.Connection

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[UUID, ModelJob] = {}
        self.claims: list[Claim] = []
        self.ask("truncate ingest.jobs, ingest.rejects, ingest.workers, ingest.audit restart identity cascade")

    def ask(self, sql: str, *values: object) -> Any:
        """Run a statement and return its first value."""
        return self.runner.run(self.connection.fetchval(sql, *values))

    def rows(self, sql: str, *values: object) -> Any:
        """Run a statement and return its rows."""
        return self.runner.run(self.connection.fetch(sql, *values))

    def state(self, job: ModelJob) -> str | None:
        """The state of a job in the database."""
        found = self.ask("select state from ingest.jobs where id = $1", job.id)
        return None if found is None else str(found)

    # What the API does

    @initialize(chunks=st.integers(1, 2), in_order=st.booleans(), early=st.booleans())
    def begin(self, chunks: int, in_order: bool, early: bool) -> None:
        """There is something to do from the beginning, and somebody who does it."""
        for _ in range(2):
            self.receive(chunks, in_order, early)
            if not early:
                self.complete_upload(0)
            self.claim(uuid4())

    def job(self, back: int) -> ModelJob:
        """One of the newest jobs."""
        return list(self.jobs.values())[-1 - back % len(self.jobs)]

    @rule(chunks=st.integers(0, 3), in_order=st.booleans(), early=st.booleans())
    def receive(self, chunks: int, in_order: bool, early: bool) -> None:
        """A file comes in, and is loaded meanwhile if it is in a hurry."""
        job = ModelJob(uuid4(), chunks)
        self.jobs[job.id] = job
        self.ask(
            "insert into ingest.jobs (id, dataset, filename, spec, in_order, load) values ($1, 'd', 'f', $2, $3, $4)",
            job.id, spec().to_json(), in_order, "while_uploading" if early else "after_upload",
        )  # fmt: skip
        for ordinal in range(1, chunks + 1):
            assert self.add_chunk(job, replace(CUT, ordinal=ordinal)) is not None

    def add_chunk(self, job: ModelJob, chunk: ChunkCut) -> int | None:
        """Add a chunk as receiving does."""
        found: int | None = self.ask(
            statement("add_chunk"), job.id, chunk.ordinal, "chunks/none/1", 0, chunk.length_bytes, 0, 2,
            sum(chunk.records), list(chunk.ends), list(chunk.records), list(chunk.lines), list(chunk.blank_lines),
            list(chunk.offsets),
        )  # fmt: skip
        return found

    @rule(back=BACK)
    def complete_upload(self, back: int) -> None:
        """The file is whole; but only once, and only if it is still wanted."""
        job = self.job(back)
        before = self.state(job)
        done = self.ask(statement("complete_upload"), job.id, 100, bytes(32), 25 * job.chunks)
        assert done == ("complete" if before == "receiving" else "gone")
        assert self.add_chunk(job, replace(CUT, ordinal=99)) is None

    @rule(back=BACK)
    def fail_upload(self, back: int) -> None:
        """The upload breaks."""
        job = self.job(back)
        before = self.state(job)
        assert self.ask(statement("fail_upload"), job.id, "E_X", "x") == (before == "receiving")

    # What workers do

    @rule(worker=st.uuids())
    def claim(self, worker: UUID) -> None:
        """A worker takes the next chunk, if there is one."""
        for row in self.rows(statement("claim_chunks"), worker, "default", 1):
            job = self.jobs[row["job_id"]]
            assert self.state(job) in ("processing", "receiving")
            assert not job.closed
            self.claims.append(Claim(job, row["id"], row["epoch"], worker))
            return
        waiting = self.ask(
            "select count(*) from ingest.chunks c join ingest.jobs j on j.id = c.job_id where c.state = 'pending'"
            " and (j.state in ('pending', 'processing') or j.state = 'receiving' and j.load = 'while_uploading')"
            " and c.run_at <= clock_timestamp() and ingest.has_its_turn(c, j)"
        )
        assert not waiting

    def claimed(self, back: int) -> Claim:
        """One of the latest claims."""
        return self.claims[-1 - back % len(self.claims)]

    def holds(self, claim: Claim) -> bool:
        """Whether the claim still holds."""
        sql = "select count(*) from ingest.chunks where id = $1 and epoch = $2 and state = 'processing'"
        return bool(self.ask(sql, claim.chunk, claim.epoch))

    @precondition(has_claims)
    @rule(back=BACK, place=st.integers(0, 2), rejected=st.integers(0, 5))
    def commit(self, back: int, place: int, rejected: int) -> None:
        """A batch reaches its commit."""
        claim = self.claimed(back)
        batch = list(_ranges())[place]
        key = (claim.chunk, batch.start)
        holds, known = self.holds(claim), key in claim.job.committed
        outcome = self.ask(
            statement("commit_batch"), claim.chunk, claim.epoch, batch.start, batch.end, batch.first_line,
            batch.records, batch.records - rejected, 0, 0, 0, rejected,
        )  # fmt: skip
        if claim.job.deleted:
            assert outcome == "stale"
        else:
            assert outcome == ("duplicate" if known else "committed" if holds else "stale")
        if outcome == "committed":
            assert not claim.job.closed
            claim.job.committed.add(key)

    @precondition(has_claims)
    @rule(back=BACK)
    def commit_all(self, back: int) -> None:
        """All batches of a chunk reach their commit."""
        for place in range(3):
            self.commit(back, place, 0)

    @precondition(has_claims)
    @rule(back=BACK)
    def finish(self, back: int) -> None:
        """A chunk's run is at its end."""
        claim = self.claimed(back)
        holds = self.holds(claim)
        outcome = self.ask(statement("finish_chunk"), claim.chunk, claim.epoch)
        whole = sum(chunk == claim.chunk for chunk, _ in claim.job.committed) == 3
        assert outcome == ("stale" if not holds else "finished" if whole else "gap")

    @precondition(has_claims)
    @rule(back=BACK)
    def release(self, back: int) -> None:
        """A worker drains."""
        claim = self.claimed(back)
        holds = self.holds(claim)
        assert self.ask(statement("release_chunk"), claim.chunk, claim.epoch, AT_ONCE) == holds

    @precondition(has_claims)
    @rule(back=BACK, permanent=st.booleans())
    def fail(self, back: int, permanent: bool) -> None:
        """A try fails."""
        claim = self.claimed(back)
        holds = self.holds(claim)
        values = (claim.chunk, claim.epoch, "E_X", "x", permanent, MAX_ATTEMPTS, AT_ONCE)
        assert (self.ask(statement("fail_chunk"), *values) == "stale") != holds

    @precondition(has_claims)
    @rule(back=BACK)
    def rescue(self, back: int) -> None:
        """A worker is found dead."""
        claim = self.claimed(back)
        self.ask(statement("rescue_chunks"), timedelta(hours=1), MAX_CRASHES, [claim.worker])

    @precondition(has_claims)
    @rule(back=BACK)
    def renew(self, back: int) -> None:
        """A heartbeat answers with what is still held."""
        claim = self.claimed(back)
        rows = self.rows(statement("renew_leases"), claim.worker, [claim.chunk], [claim.epoch], False)
        assert bool(rows) == self.holds(claim)

    # What people do

    def change(self, action: str, job: ModelJob, allowed: tuple[str, ...], *values: object) -> bool:
        """Ask for a change: it happens exactly when the state allows it."""
        before = self.state(job)
        outcome = self.ask(statement(f"{action}_job"), job.id, None, *values)
        assert outcome == ("done" if before in allowed else before)
        return bool(outcome == "done")

    @rule(back=BACK)
    def cancel(self, back: int) -> None:
        """It is not wanted any more."""
        job = self.job(back)
        if self.change("cancel", job, ("receiving", "pending", "processing", "paused")):
            job.closed = True

    @rule(back=BACK)
    def pause(self, back: int) -> None:
        """It has to wait."""
        job = self.job(back)
        self.change("pause", job, ("pending", "processing"))

    @rule(back=BACK)
    def resume(self, back: int) -> None:
        """It need not wait any more."""
        job = self.job(back)
        self.change("resume", job, ("paused",))

    @rule(back=BACK, priority=st.integers(0, 9))
    def prioritise(self, back: int, priority: int) -> None:
        """It is in a hurry."""
        job = self.job(back)
        self.change("prioritise", job, ("receiving", "pending", "processing", "paused"), priority)

    @rule(back=BACK)
    def delete(self, back: int) -> None:
        """It may be forgotten."""
        job = self.job(back)
        if self.change("delete", job, FINAL):
            job.deleted = job.closed = True

    @rule(back=BACK)
    def retry(self, back: int) -> None:
        """What failed may be tried again."""
        job = self.job(back)
        before = self.state(job)
        failed = [row["id"] for row in self.rows(statement("failed_chunks"), job.id)]
        count = self.ask(statement("retry_job"), job.id, failed, None)
        whole = self.ask("select records is not null from ingest.jobs where id = $1", job.id)
        assert count == (len(failed) if before == "failed" and whole else 0)

    @rule(back=BACK)
    def enforce_budget(self, back: int) -> None:
        """A job without a budget is never stopped for it."""
        job = self.job(back)
        assert not self.ask(statement("enforce_budget"), job.id, SAMPLE_ROWS)

    # What always holds

    @invariant()
    def the_ledger_is_what_was_committed(self) -> None:
        """Nothing is doubled, nothing lost, nothing of a deleted job left."""
        found = {(row[0], row[1]) for row in self.rows("select chunk_id, byte_start from ingest.ledger")}
        expected = set().union(*(job.committed for job in self.jobs.values() if not job.deleted))
        assert found == expected

    @invariant()
    def ended_jobs_add_up(self) -> None:
        """Their totals are those of the ledger."""
        wrong = self.rows(
            "select j.id from ingest.jobs j, ingest.count_committed(j.id) t where j.state = any ($1) and"
            " (j.inserted, j.rejected, j.inserted + j.rejected) is distinct from (t.inserted, t.rejected, t.records)",
            FINAL,
        )
        assert not wrong

    @invariant()
    def states_fit_together(self) -> None:
        """A job that has ended or rests has nothing at work, and leases are there for what is at work alone."""
        assert not self.ask(
            "select count(*) from ingest.chunks c join ingest.jobs j on j.id = c.job_id"
            " where c.state = 'processing' and j.state <> 'processing' and (j.state, j.load) <> ('receiving', 'while_uploading')"
            " or c.state in ('pending', 'receiving') and j.state = any ($1)"
            " or c.state = 'pending' and (j.state = 'paused') <> (c.run_at = 'infinity')",
            FINAL,
        )
        assert not self.ask(
            "select count(*) from ingest.leases l full join (select * from ingest.chunks where state = 'processing') c"
            " on c.id = l.chunk_id where c.id is null or l.chunk_id is null or c.epoch <> l.epoch"
        )

    @invariant()
    def the_end_is_the_end(self) -> None:
        """A job that was cancelled stays so, until it is deleted, and that for ever."""
        for job in self.jobs.values():
            if job.closed:
                assert self.state(job) == (None if job.deleted else "cancelled")

    @invariant()
    def an_open_job_can_go_on(self) -> None:
        """It has an open chunk."""
        assert not self.ask(
            "select count(*) from ingest.jobs j where state in ('pending', 'processing', 'paused') and not exists"
            " (select from ingest.chunks c where c.job_id = j.id and c.state in ('pending', 'processing'))"
        )


def _ranges() -> Iterator[BatchRange]:
    start, line = 0, CUT.first_line
    for end, records in zip(CUT.ends, CUT.records, strict=True):
        yield BatchRange(start=start, end=end, first_line=line, records=records, lines=records, blank_lines=0)
        start, line = end, line + records


@pytest.mark.slow
def test_the_queue_under_workers_and_people(shared_dsn: str) -> None:
    """In any order of steps."""
    with asyncio.Runner() as runner:
        Queue.runner = runner
        Queue.connection = runner.run(connect(shared_dsn, "model"))
        try:
            run_state_machine_as_test(
                Queue,
                settings=settings(
                    max_examples=100, stateful_step_count=40, deadline=None,
                    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
                ),
            )  # fmt: skip
        finally:
            runner.run(Queue.connection.close())
