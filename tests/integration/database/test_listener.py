"""Notifications arrive, and an empty one tells that some may have been lost."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from ingest.database import Database, Notification, listen, listener
from ingest.events import Wake, tell_worker
from tests.conftest import Psql

LONG_S = 60.0
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ingest test listen'"
KILL = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'ingest test listen'"


@pytest.fixture
async def heard(
    database: Database, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[trio.MemoryReceiveChannel[Notification]]:
    """What is heard on the channels a and b, from the first connection on."""
    monkeypatch.setattr(listener, "RECONNECT_S", 0.01)
    send, receive = trio.open_memory_channel[Notification](4)
    nursery.start_soon(listen, database, ("a", "b"), send)
    with trio.fail_after(LONG_S), receive:
        assert await receive.receive() == Notification()
        yield receive


async def test_notifications_arrive_in_order(heard: trio.MemoryReceiveChannel[Notification], psql: Psql) -> None:
    """Of all channels that were asked for and no others."""
    psql("notify c, 'no'; notify a, '1'; notify b, '2'; notify a")
    assert [await heard.receive() for _ in range(3)] == [
        Notification("a", "1"),
        Notification("b", "2"),
        Notification("a"),
    ]


async def test_a_lost_connection_is_made_again(heard: trio.MemoryReceiveChannel[Notification], psql: Psql) -> None:
    """The empty notification says: read the state again; then it listens as before. As often as it takes."""
    for number in range(3):
        assert psql(KILL) == "1"
        assert await heard.receive() == Notification()
        psql(f"notify a, '{number}'")
        assert await heard.receive() == Notification("a", str(number))


async def test_a_dead_connection_is_found_by_its_silence(
    heard: trio.MemoryReceiveChannel[Notification], psql: Psql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ping that is answered changes nothing; who does not answer is given up."""
    monkeypatch.setattr(listener, "PING_S", 0.01)
    psql(KILL)
    assert await heard.receive() == Notification()
    monkeypatch.setattr(listener, "PING_TIMEOUT_S", 0.0)
    assert await heard.receive() == Notification()


async def test_a_reader_that_does_not_keep_up_loses_notifications_only(
    heard: trio.MemoryReceiveChannel[Notification], psql: Psql, database: Database
) -> None:
    """The channel is full, the rest is dropped, and the listener goes on."""
    psql("".join(f"notify a, '{i}';" for i in range(100)))
    while heard.statistics().current_buffer_used < 4:
        await database.value("SELECT 1")
    assert [(await heard.receive()).payload for _ in range(4)] == ["0", "1", "2", "3"]
    psql("notify b")
    while (await heard.receive()).channel != "b":
        pass


async def test_nobody_receives_any_more(database: Database, psql: Psql) -> None:
    """A receiver that was closed does not end the listener; cancelling ends it and its connection."""
    send, receive = trio.open_memory_channel[Notification](4)
    async with trio.open_nursery() as listening:
        listening.start_soon(listen, database, ("a",), send)
        await receive.receive()
        receive.close()
        psql("notify a")
        assert await database.value(LISTENERS) == 1
        listening.cancel_scope.cancel()
    with trio.fail_after(LONG_S):
        while await database.value(LISTENERS):
            pass


async def test_work_wakes_the_poller(database: Database, nursery: trio.Nursery, psql: Psql) -> None:
    """At once after connecting, and whenever work is announced."""
    wake = Wake()
    nursery.start_soon(tell_worker, database, lambda _: wake.set())
    with trio.fail_after(LONG_S):
        await wake.wait(LONG_S * 2)
        psql("select ingest.announce_work('default')")
        await wake.wait(LONG_S * 2)


async def test_a_wake_up_between_two_waits_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """It is latched; without one the wait ends with its time."""
    wake = Wake()
    wake.set()
    wake.set()
    await wake.wait(10)
    assert trio.current_time() == 0
    await wake.wait(10)
    assert trio.current_time() == 10
