"""Many jobs: pages and their number come from indexes, whatever is asked for; and what all jobs come to."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ingest.database import Database
from ingest.job import JobState
from ingest.jobs import Jobs
from ingest.statements import statement
from ingest.statistics import KEPT_S, Statistics
from tests.conftest import Psql

JOBS = 10_000
FILL = f"""
insert into ingest.jobs (id, dataset, filename, state, spec, bytes_total, bytes_received, records, inserted, rejected,
                         created_at, started_at, finished_at, error_code)
select gen_random_uuid(), 'public.t' || i % 5, i || '.csv', s, '{{"dialect": {{}}}}'::jsonb || jsonb_build_object('a', repeat('x', 1000)), 1000, 1000, 10, 9, 1, t, t,
       case when s <> 'pending' then t end, case s when 'failed' then 'E_CHECK' end
  from (select i, now() - i * interval '20 s' as t,
               case when i % 1000 = 1 then 'failed' when i % 1000 = 2 then 'pending' else 'completed' end as s
          from generate_series(1, {JOBS}) i) g;
"""
FILTERS = [(None, None), ("completed", None), ("failed", None), ("paused", None), (None, "public.t1"),
           ("failed", "public.t1"), ("failed", "public.nowhere")]  # fmt: skip


@pytest.mark.parametrize(("state", "dataset"), FILTERS)
async def test_pages_of_many_jobs_come_from_indexes(
    database: Database, psql: Psql, state: str | None, dataset: str | None
) -> None:
    """As the server prepares them, the first time and when it has made up its mind; and they are right."""
    psql(FILL)
    psql("vacuum analyze ingest.jobs")
    jobs = Jobs(database)
    for arguments in (("page_of_job_ids", 10, 0), ("count_jobs",)):
        name, *rest = arguments
        plan = await database.fetch(f"EXPLAIN {statement(str(name))}", *rest, state, dataset, None)
        assert not [line for (line,) in plan if "Seq Scan" in line or "Sort" in line]
    condition = f"state = coalesce('{state or ''}', state)" if state else "true"
    condition += f" and dataset = '{dataset}'" if dataset else ""
    found, total = await jobs.page(page=1, limit=10, status=state, dataset=dataset)
    assert total == int(psql(f"select count(*) from ingest.jobs where {condition}"))
    expected = psql(f"select id from ingest.jobs where {condition} order by created_at desc limit 10")
    assert [str(view.id) for view in found] == expected.split()
    assert all(newer.created_at >= older.created_at for newer, older in pairwise(found))


@pytest.mark.parametrize(("state", "dataset", "owner"), [(None, None, None), ("completed", None, None), ("failed", None, None),
                                                        (None, "public.t1", None), (None, None, "ada")])  # fmt: skip
async def test_jobs_are_found_by_a_part_of_their_file_name(
    database: Database, psql: Psql, state: str | None, dataset: str | None, owner: str | None
) -> None:
    """In whatever case; from an index, and with what else is asked for."""
    psql(FILL)
    psql(
        "update ingest.jobs set filename = 'März ' || filename, owner = 'ada' where created_at < now() - interval '1 day'"
    )
    psql("vacuum analyze ingest.jobs")
    for name, *rest in (("page_of_jobs_by_name", 10, 0), ("count_jobs_by_name",)):
        plan = await database.fetch(f"EXPLAIN {statement(str(name))}", *rest, state, dataset, owner, "mÄrz")
        assert not [line for (line,) in plan if "Seq Scan" in line or "Sort" in line]
    condition = "filename like 'März %'"
    condition += "".join(
        f" and {name} = '{value}'"
        for name, value in (("state", state), ("dataset", dataset), ("owner", owner))
        if value
    )
    found, total = await Jobs(database).page(
        page=1, limit=10, status=state, dataset=dataset, owner=owner, filename="mÄrz"
    )
    assert total == int(psql(f"select count(*) from ingest.jobs where {condition}")) > 0
    assert [str(view.id) for view in found] == psql(
        f"select id from ingest.jobs where {condition} order by created_at desc limit 10"
    ).split()


async def test_a_part_of_a_file_name_is_no_pattern(database: Database, psql: Psql) -> None:
    psql(FILL.replace(str(JOBS), "20"))
    for text in ("%", "_", "\\", "'"):
        assert await Jobs(database).page(page=1, limit=10, filename=text) == ([], 0)
        psql(f"update ingest.jobs set filename = 'a{text.replace(chr(39), chr(39) * 2)}b' where filename = '7.csv'")
        [view], total = await Jobs(database).page(page=1, limit=10, filename=text)
        assert (view.filename, total) == (f"a{text}b", 1)
        psql("update ingest.jobs set filename = '7.csv' where filename like 'a%'")


async def test_the_last_page_tells_how_many_there_are(database: Database, psql: Psql) -> None:
    """As the ones before it do; behind the end there is nothing, and the number is still right."""
    psql(FILL)
    jobs = Jobs(database)
    for page, number in ((1, 7), (2, 3), (3, 0)):
        found, total = await jobs.page(page=page, limit=7, status="failed")
        assert (len(found), total) == (number, JOBS // 1000)


async def test_the_statistics_of_many_jobs(database: Database, psql: Psql) -> None:
    """All of them by state; of those that ended within a day what became of them."""
    psql(FILL)
    found = await Jobs(database).statistics()
    failed, pending = JOBS // 1000, JOBS // 1000
    assert found["jobs"] == {
        "total": JOBS, **dict.fromkeys(JobState, 0), "completed": JOBS - failed - pending, "failed": failed, "pending": pending,
    }  # fmt: skip
    lately = found["lately"]
    ended = int(psql("select count(*) from ingest.jobs where finished_at > now() - interval '24 hours'"))
    assert 0 < ended < JOBS
    assert abs(sum(lately["jobs"].values()) - ended) <= 1
    assert lately["success_rate"] == round(lately["jobs"]["completed"] / sum(lately["jobs"].values()), 4)
    assert lately["rows"]["inserted"] == 9 * sum(lately["jobs"].values())
    assert (found["rows_per_second"], found["queue"]) == (0.0, {"pending": 0, "processing": 0, "oldest_age_s": 0.0})


async def test_the_statistics_of_nothing(database: Database) -> None:
    """No division by zero."""
    found = await Jobs(database).statistics()
    assert (found["jobs"]["total"], found["lately"]["success_rate"]) == (0, None)


async def test_the_statistics_are_read_once_for_all_who_ask(
    database: Database, psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until they are too old."""
    statistics = Statistics(database)
    first = await statistics.read()
    psql(FILL)
    assert await statistics.read() is first or KEPT_S == 0
    monkeypatch.setattr("ingest.statistics.KEPT_S", 0.0)
    assert (await statistics.read())["jobs"]["total"] == JOBS
