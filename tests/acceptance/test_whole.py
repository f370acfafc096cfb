"""Jobs that are loaded as a whole: all rows at once or none, whatever is killed when; a report that leaves nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.acceptance.client import FINAL, Client, session, until
from tests.acceptance.conftest import SMALL, Connect
from tests.acceptance.tables import LINEITEM, count, digest
from tests.conftest import Psql
from tests.processes import Starter

KILLS_WHILE_LOADING = 7
KILLS_WHILE_PUBLISHING = 3
RECORDS = 100_000

TABLE = "create table t (id int primary key, v int check (v <> 13), p int references parent)"


def body(*broken: str) -> bytes:
    """A file of 20,000 good records, and some others."""
    good = (f"{n},{n + 100},1" for n in range(20_000))
    return "\n".join(["id,v,p", *good, *broken, ""]).encode()


def prepare(psql: Psql) -> None:
    psql("create table parent (id int primary key); insert into parent values (1)")
    psql(TABLE)


BROKEN = ("x,1,1", "30000,13,1", "30001,1,2", "5,1,1", "30002,1")


def codes(client: Client, job: dict[str, Any]) -> dict[int, str]:
    """Line and code of every reject."""
    return {reject["line"]: reject["code"] for reject in client.rejects(job["id"])}


EXPECTED = {20002: "E_TYPE", 20003: "E_CHECK", 20004: "E_FOREIGN_KEY", 20005: "E_DUP_KEY", 20006: "E_COLUMNS"}


def test_validate_reports_what_a_load_would_and_leaves_nothing(
    service: Starter, connect: Connect, psql: Psql, stored: Callable[[], list[Path]]
) -> None:
    prepare(psql)
    client = connect(service(**SMALL))

    tried = client.load(body(*BROKEN), "public.t", mode="validate")

    assert (tried["status"], tried["mode"], tried["progress"]) == ("completed", "validate", 1.0)
    assert (tried["total_rows"], tried["inserted_rows"], tried["failed_rows"]) == (20_005, 20_000, 5)
    assert codes(client, tried) == EXPECTED
    assert count(psql, "t") == 0
    assert until(lambda: stored() == [], "the objects are gone")
    done = client.load(body(*BROKEN), "public.t")
    same = ("total_rows", "inserted_rows", "processed_rows", "failed_rows")
    assert [done[name] for name in same] == [tried[name] for name in same]
    assert codes(client, done) == EXPECTED


def test_atomic_is_seen_at_once_or_not_at_all(service: Starter, connect: Connect, psql: Psql) -> None:
    prepare(psql)
    client = connect(service(**SMALL))

    job_id = client.send(body(*BROKEN), "public.t", mode="atomic")
    seen = {count(psql, "t")}
    while client.job(job_id)["status"] not in FINAL:
        seen.add(count(psql, "t"))
    job = client.job(job_id)

    assert seen <= {0, 20_000}
    assert (job["status"], job["processed_rows"], job["failed_rows"]) == ("completed", 20_000, 5)
    assert codes(client, job) == EXPECTED
    assert count(psql, "t") == 20_000


def test_atomic_over_its_budget_leaves_the_table_as_it_was(service: Starter, connect: Connect, psql: Psql) -> None:
    prepare(psql)
    psql("insert into t values (-1, 1, 1)")
    client = connect(service(**SMALL))

    for budget, said in (("4", "max_rejects=4"), ("0.02%", "max_rejects=0.02%")):
        job = client.load(body(*BROKEN), "public.t", mode="atomic", max_rejects=budget)
        assert (job["status"], job["error"]["code"]) == ("failed", "E_TOO_MANY_REJECTS")
        assert said in job["error"]["message"]
        assert "the table is as it was" in job["error"]["message"]
        assert (job["processed_rows"], job["failed_rows"]) == (0, 5)
        assert codes(client, job) == EXPECTED
        assert count(psql, "t") == 1
    kept = client.load(body(*BROKEN), "public.t", mode="atomic", max_rejects="5")
    assert (kept["status"], count(psql, "t")) == ("completed", 20_001)


def test_atomic_on_a_dataset_that_fails_can_be_tried_again(service: Starter, connect: Connect, psql: Psql) -> None:
    prepare(psql)
    client = connect(service(**SMALL))
    psql("create function no() returns trigger language plpgsql as $$ begin perform 1 from nowhere; end $$")
    psql("create trigger no before insert on t for each row execute function no()")

    job = client.load(body(), "public.t", mode="atomic")
    assert (job["status"], count(psql, "t")) == ("failed", 0)
    assert "nowhere" in job["error"]["message"]
    psql("drop trigger no on t")
    assert client.post(f"/api/v1/csv/jobs/{job['id']}/retry").status_code == 202
    again = client.wait(job["id"])

    assert (again["status"], again["processed_rows"], count(psql, "t")) == ("completed", 20_000, 20_000)


def test_a_drain_takes_an_atomic_load_back_and_the_next_start_does_it(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path
) -> None:
    psql(f"create table lineitem ({LINEITEM})")
    process = service(**SMALL)
    client = connect(process)
    job_id = client.send(small_lineitem_csv, "public.lineitem", mode="atomic")
    until(lambda: client.job(job_id)["progress"] > 0, "the load is under way")
    assert process.terminate() == 0
    assert psql("select state, attempt from ingest.chunks order by ordinal limit 1") == "pending|0"
    assert count(psql, "lineitem") == 0

    job = connect(service(**SMALL)).wait(job_id)
    assert (job["status"], count(psql, "lineitem")) == ("completed", RECORDS)


def test_kill_9_at_ten_moments_of_an_atomic_load(
    service: Starter, connect: Connect, psql: Psql, small_lineitem_csv: Path, moments: random.Random
) -> None:
    psql(f"create table lineitem ({LINEITEM}); create table reference (like lineitem)")
    psql(f"\\copy reference from '{small_lineitem_csv}' with (format csv, header true)")
    reference = digest(psql, "reference")
    dsn = service.environment["DATABASE_URL"]
    last = "begin; select from ingest.chunks order by id desc limit 1 for update"
    caught = 0

    process = service(**SMALL)
    for number in range(KILLS_WHILE_LOADING + KILLS_WHILE_PUBLISHING):
        client = connect(process)
        job_id = client.send(small_lineitem_csv, "public.lineitem", mode="atomic")
        if number < KILLS_WHILE_LOADING:
            time.sleep(moments.uniform(0, 0.4))  # the moment itself is what is varied
            process.kill()
        else:
            with session(dsn, last):
                until(lambda: count(psql, f"pg_stat_activity where {PUBLISHING}"), "the load waits inside its publish")
                process.kill()
        completed = psql(f"select state from ingest.jobs where id = '{job_id}'") == "completed"
        assert count(psql, "lineitem") == (RECORDS if completed else 0)
        caught += not completed

        process = service(**SMALL)
        job = connect(process).wait(job_id)
        assert (job["status"], job["processed_rows"]) == ("completed", RECORDS)
        assert digest(psql, "lineitem") == reference
        psql("truncate lineitem")
    assert caught > KILLS_WHILE_PUBLISHING, "too few kills hit a load"


PUBLISHING = "query like '%finish_whole%' and wait_event_type = 'Lock' and pid <> pg_backend_pid()"
