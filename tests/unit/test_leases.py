"""A lease is a cancel scope that the heartbeat keeps open."""

from __future__ import annotations

from dataclasses import replace

import trio
import trio.testing

from ingest.leases import Leases
from tests.unit.test_chunk import chunk

CHUNK = chunk(ends=[10], records=[1], lines=[1], blank_lines=[0])


async def test_silence_ends_the_run(autojump_clock: trio.testing.MockClock) -> None:
    """Nobody renews: the body is cancelled when the lease has run out, and the lease is forgotten."""
    leases = Leases()
    with leases.hold(CHUNK, 20) as lease:
        assert len(leases) == 1
        await trio.sleep_forever()
    assert (trio.current_time(), lease.scope.cancelled_caught, len(leases)) == (20, True, 0)


async def test_a_renewal_moves_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """Each heartbeat that succeeds gives the run another lease time."""
    leases = Leases()
    with leases.hold(CHUNK, 20) as lease:
        for _ in range(3):
            await trio.sleep(15)
            lease.scope.deadline = trio.current_time() + 20
        await trio.sleep(19)
    assert (trio.current_time(), lease.scope.cancelled_caught) == (64, False)


async def test_a_chunk_claimed_again_ends_the_former_run(autojump_clock: trio.testing.MockClock) -> None:
    """This worker can win its own lost chunk back: the old run ends at once, and takes nothing of the new one away."""
    leases = Leases()
    ended = trio.Event()

    async def former(task_status: trio.TaskStatus[None]) -> None:
        with leases.hold(CHUNK, 20):
            task_status.started()
            await trio.sleep_forever()
        ended.set()

    async with trio.open_nursery() as nursery:
        await nursery.start(former)
        with leases.hold(replace(CHUNK, epoch=2), 20) as lease:
            await ended.wait()
            assert ([held.chunk.epoch for held in leases], trio.current_time()) == ([2], 0)
    assert (lease.scope.cancelled_caught, len(leases)) == (False, 0)


async def test_leases_may_change_while_they_are_looked_at() -> None:
    """The heartbeat iterates over a copy: a run that ends meanwhile does not disturb it."""
    leases = Leases()
    with leases.hold(CHUNK, 20):
        held = iter(leases)
    assert [lease.chunk for lease in held] == [CHUNK]
