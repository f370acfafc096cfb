"""Units of work cross into asyncio once, and leave nothing behind whatever happens to them."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import structlog
import trio
import trio.testing
import trio_asyncio

from ingest.database import Database, Session, open_database, pool
from ingest.errors import ConflictError, DatabaseError, FileError, RowError, UnavailableError
from tests.conftest import Psql
from tests.integration.wire import wire

# A bound against a hang, far above what anything takes.
LONG_S = 60.0

BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'ingest test'"
)
BUSY = f"{BACKENDS} AND state <> 'idle' AND pid <> pg_backend_pid()"


async def until(database: Database, sql: str, expected: object) -> None:
    """Ask again and again until the answer is the expected one."""
    with trio.fail_after(LONG_S):
        while await database.value(sql) != expected:
            await trio.lowlevel.checkpoint()


async def cancelled(database: Database, unit: Callable[[Session], Awaitable[object]], waits_for: str) -> None:
    """Start a transaction, and cancel it as soon as the server waits for what is named."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.transact, unit)
        await until(database.reserved, f"SELECT count(*) FROM pg_stat_activity WHERE wait_event = '{waits_for}'", 1)
        nursery.cancel_scope.cancel()


async def test_a_unit_of_work_is_one_crossing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many statements it sends."""
    crossings = 0
    cross = database.cross

    async def counted(function: Callable[..., Awaitable[object]], *args: object) -> object:
        nonlocal crossings
        crossings += 1
        return await cross(function, *args)

    async def unit(session: Session) -> int:
        await session.execute("CREATE TABLE t (a int)")
        await session.copy("COPY t FROM STDIN (FORMAT csv)", b"1\n2\n")
        await session.fetch("SELECT * FROM t")
        return int(await session.value("SELECT sum(a) FROM t"))

    monkeypatch.setattr(database, "cross", counted)
    assert await database.transact(unit) == 3
    assert crossings == 1


async def test_a_unit_that_raises_is_rolled_back(database: Database, psql: Psql) -> None:
    """Whatever it raises: PostgreSQL's error or one of our own; the connection is kept."""
    psql("create table t (a int primary key)")

    async def broken(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES (1)")
        await session.execute("INSERT INTO t VALUES (1)")

    async def ours(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES (1)")
        raise FileError("no")

    pid = await database.value("SELECT pg_backend_pid()")
    with pytest.raises(RowError):
        await database.transact(broken)
    with pytest.raises(FileError):
        await database.transact(ours)
    assert psql("select count(*) from t") == "0"
    assert await database.value("SELECT pg_backend_pid()") == pid


async def test_a_unit_cannot_hide_that_its_transaction_failed(database: Database, psql: Psql) -> None:
    """PostgreSQL answers a COMMIT of a failed transaction with ROLLBACK and no error: that is no success."""
    psql("create table t (a int)")

    async def swallowing(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(asyncpg.PostgresError):
            await session.execute("SELECT 1 / 0")

    with pytest.raises(DatabaseError):
        await database.transact(swallowing)
    assert psql("select count(*) from t") == "0"


async def test_cancelled_while_the_server_works(database: Database, psql: Psql) -> None:
    """In the middle of a statement: rows rolled back, pool usable, no connection leaked on either side."""
    psql("create table t (a int)")

    async def unit(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES (1)")
        await session.execute("SELECT pg_sleep(60)")

    for _ in range(2):
        await cancelled(database, unit, "PgSleep")
        assert await database.value("SELECT count(*) FROM t") == 0
    await until(database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 0)
    await until(database, BACKENDS, database.statistics().open)
    assert await database.value(BUSY) == 0


async def test_cancelled_in_the_middle_of_a_copy(database: Database, psql: Psql) -> None:
    """Half of the data is there, the other half never comes: as before."""
    psql("create table t (a int); create function wait() returns trigger language plpgsql as "
         "$$ begin if new.a = 10000 then perform pg_sleep(60); end if; return new; end $$; "
         "create trigger wait before insert on t for each row execute function wait()")  # fmt: skip
    data = b"".join(b"%d\n" % i for i in range(300_000))
    await cancelled(database, lambda session: session.copy("COPY t FROM STDIN (FORMAT csv)", data), "PgSleep")
    assert await database.value("SELECT count(*) FROM t") == 0
    await until(database, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 0)
    await until(database, BACKENDS, database.statistics().open)


@pytest.mark.parametrize("rows", [100, 200_000])
async def test_a_copy_that_fails_keeps_its_bytes_no_longer(database: Database, psql: Psql, rows: int) -> None:
    """Until the next collection of garbage they would pile up where every batch fails; by both ways that bytes go."""
    psql("create table t (a int)")
    data = b"1,2\n" * rows
    gc.collect()
    gc.disable()
    try:
        before = sys.getrefcount(data)
        with pytest.raises(RowError):
            await database.transact(lambda session: session.copy("COPY t FROM STDIN (FORMAT csv)", data))
        assert sys.getrefcount(data) == before
    finally:
        gc.enable()


async def test_cancelled_while_it_waits_for_a_connection(dsn: str) -> None:
    """It leaves the queue of the pool, and the connection it waited for is not lost."""
    async with open_database(dsn, pool_size=1) as database, trio.open_nursery() as nursery:
        release = trio.Event()

        async def holding(_session: Session) -> None:
            await trio_asyncio.trio_as_aio(release.wait)()

        nursery.start_soon(database.run, holding)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.05) as waiting:
            await database.value("SELECT 1")
        release.set()
        assert waiting.cancelled_caught
        assert await database.value("SELECT 1") == 1
        assert database.statistics().open == 1


async def test_many_units_cancelled_at_random_moments(database: Database, psql: Psql) -> None:
    """A hundred transactions, each cut off after another few milliseconds: what was reported is what is there."""
    psql("create table t (a int)")
    reported = set[int]()

    async def load(number: int) -> None:
        async def unit(session: Session) -> None:
            await session.copy("COPY t FROM STDIN (FORMAT csv)", b"%d\n" % number * 100)

        with trio.move_on_after(number / 5000):
            await database.transact(unit)
            reported.add(number)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(load, number)
    rows = await database.fetch("SELECT a, count(*) AS n FROM t GROUP BY a")
    assert all(row["n"] == 100 for row in rows)
    assert reported <= {row["a"] for row in rows}
    statistics = database.statistics()
    assert (statistics.idle, statistics.open <= statistics.limit) == (statistics.open, True)


async def test_a_backend_that_is_terminated(database: Database, psql: Psql) -> None:
    """In the middle of work and while idle in the pool: UnavailableError at most once, then it works again."""
    psql("create table t (a int)")

    async def suicidal(session: Session) -> None:
        await session.execute("INSERT INTO t VALUES (1)")
        await session.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(UnavailableError):
        await database.transact(suicidal)
    assert await database.value("SELECT count(*) FROM t") == 0
    psql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ingest test'")
    lost = 0
    for _ in range(3):
        try:
            await database.value("SELECT 1")
        except UnavailableError:
            lost += 1
    assert lost <= 1
    with trio.fail_after(LONG_S):  # the pool learns of a lost connection when it looks at it
        while await database.value(BACKENDS) != database.statistics().open:
            await trio.lowlevel.checkpoint()


async def test_a_pool_with_nothing_left(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits too long for a connection hears of it in time; the heartbeat has one of its own."""
    monkeypatch.setattr(pool, "ACQUIRE_S", 0.05)
    async with open_database(dsn, pool_size=2) as database, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(database.value, "SELECT pg_sleep(60)")
        await until(database.reserved, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 2)
        with trio.fail_after(LONG_S), pytest.raises(UnavailableError):
            await database.value("SELECT 1")
        assert await database.reserved.value("SELECT 1") == 1
        assert database.statistics() == pool.PoolStatistics(open=2, idle=0, limit=2)
        nursery.cancel_scope.cancel()


async def test_a_server_that_is_not_there(dsn: str) -> None:
    """Refused, unknown host, unknown database, no socket: each an error of ours."""
    for wrong in (
        "postgresql://u@127.0.0.1:1/x",
        "postgresql://u@no-such-host.invalid/x",
        "postgresql:///x?host=/no/such/folder",
        dsn.replace("/test_", "/no_such_"),
    ):
        with pytest.raises(DatabaseError):
            async with open_database(wrong, pool_size=1):
                pass


async def test_an_asyncio_exception_that_nobody_retrieves_is_logged(database: Database) -> None:
    """trio-asyncio would end the application for it."""

    async def forgetful() -> None:
        asyncio.get_running_loop().create_future().set_exception(RuntimeError("nobody asks"))
        gc.collect()
        await asyncio.sleep(0)

    with structlog.testing.capture_logs() as logs:
        await database.cross(forgetful)
        assert await database.value("SELECT 1") == 1
    assert [(entry["event"], entry["error"]) for entry in logs] == [("asyncio_error", "RuntimeError")]


async def test_conflicts_between_two_sessions(database: Database, psql: Psql) -> None:
    """A deadlock and a lock that is waited for too long are conflicts, and the other session is not disturbed."""
    psql("create table t (a int primary key); insert into t values (1), (2)")
    first_has, second_has = trio.Event(), trio.Event()

    async def locking(first: int, second: int, has: trio.Event, other: trio.Event, ended: list[str]) -> None:
        async def unit(session: Session) -> None:
            await session.execute("UPDATE t SET a = a WHERE a = $1", first)
            has.set()
            await database_wait(other)
            await session.execute("UPDATE t SET a = a WHERE a = $1", second)

        try:
            await database.transact(unit, begin="BEGIN; SET LOCAL deadlock_timeout = '10ms'")
            ended.append("done")
        except ConflictError as error:
            ended.append(error.sqlstate)

    async def database_wait(event: trio.Event) -> None:
        await trio_asyncio.trio_as_aio(event.wait)()

    ended: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(locking, 1, 2, first_has, second_has, ended)
        nursery.start_soon(locking, 2, 1, second_has, first_has, ended)
    assert sorted(ended) == ["40P01", "done"]


@pytest.mark.parametrize("side", ["cut_before", "cut_after"])
async def test_a_commit_whose_answer_is_lost(dsn: str, psql: Psql, side: str) -> None:
    """UnavailableError either way; whether it happened only the database can tell. Then the next one works."""
    psql("create table t (a int)")
    async with wire(dsn) as (proxy, through), open_database(through, pool_size=2) as database:
        setattr(proxy, side, 1)

        async def unit(session: Session) -> None:
            await session.execute("INSERT INTO t VALUES (1)")

        with trio.fail_after(LONG_S), pytest.raises(UnavailableError):
            await database.transact(unit)
        assert proxy.cuts == 1
        expected = 1 if side == "cut_after" else 0
        await until(database, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'", 0)
        assert await database.value("SELECT count(*) FROM t") == expected
        await database.transact(unit)
        assert await database.value("SELECT count(*) FROM t") == expected + 1


async def test_notices_of_a_copy_and_of_nothing_else(database: Database, psql: Psql) -> None:
    """What a trigger says during one COPY is not heard during the next, and no listener is left behind."""
    psql("create table t (a int); create function tell() returns trigger language plpgsql as "
         "$$ begin raise notice 'line %', new.a; return new; end $$; "
         "create trigger tell before insert on t for each row when (new.a > 0) execute function tell()")  # fmt: skip

    async def unit(session: Session) -> list[list[str]]:
        said = []
        for data in (b"1\n2\n", b"0\n", b"3\n"):
            copied = await session.copy("COPY t FROM STDIN (FORMAT csv)", data)
            said.append([notice.message for notice in copied.notices])
        return said

    assert await database.transact(unit) == [["line 1", "line 2"], [], ["line 3"]]


async def test_an_empty_copy(database: Database, psql: Psql) -> None:
    """No bytes, no rows, no error."""
    psql("create table t (a int)")
    copied = await database.transact(lambda session: session.copy("COPY t FROM STDIN (FORMAT csv)", b""))
    assert (copied.rows, copied.notices) == (0, ())


async def test_settings_of_the_role_do_not_change_the_rules(dsn: str, psql: Psql) -> None:
    """What the queue relies on holds for every role: its isolation level, bounded lock waits, UTC."""
    for name, value in (
        ("default_transaction_isolation", "serializable"),
        ("timezone", "Asia/Tokyo"),
        ("lock_timeout", 0),
    ):
        psql(f"alter role current_user set {name} = '{value}'")
    try:
        async with open_database(dsn, pool_size=1) as database:
            names = ("transaction_isolation", "timezone", "lock_timeout", "idle_in_transaction_session_timeout")
            values = [await database.value(f"SHOW {name}") for name in names]
        assert values == ["read committed", "UTC", "5s", "15s"]
    finally:
        psql("alter role current_user reset all")
