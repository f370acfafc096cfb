"""Counters count what they are told, under few labels, in a text that Prometheus can read."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ingest.batch import BatchResult
from ingest.errors import ConflictError, FileError, IngestError, LeaseLost, RowError, UnavailableError
from ingest.ledger import AlreadyCommitted
from ingest.metrics import MOST_NAMES, Metrics, watch_loop
from ingest.reject import Reject
from tests.exposition import Exposition


def read(metrics: Metrics) -> Exposition:
    """What the metrics say."""
    return Exposition(metrics.render([]).decode())


def reject(code: str) -> Reject:
    """A reason with a code."""
    return Reject(
        line=2, byte_offset=2, column="a", value="x", code=code, sqlstate="22P02", message="no number", raw=b"x"
    )


def test_two_objects_know_nothing_of_each_other() -> None:
    """There is no registry of the process."""
    one, other = Metrics(), Metrics()
    one.retried("40P01")
    assert read(one).value("ingest_batch_retries_total") == 1
    assert read(other).value("ingest_batch_retries_total") == 0


def test_rows_and_rejects_are_counted_by_what_became_of_them() -> None:
    """As the job shows them."""
    metrics = Metrics()
    metrics.committed("public.t", BatchResult(inserted=5, skipped=2, rejected=1, rejects=(reject("E_TYPE"),) * 2))
    metrics.committed("public.t", BatchResult(updated=3, unchanged=4))
    found = read(metrics)
    assert found.by("ingest_rows_total", "outcome", dataset="public.t") == {
        "inserted": 5, "updated": 3, "unchanged": 4, "skipped": 2, "rejected": 1,
    }  # fmt: skip
    assert found.by("ingest_rejects_total", "code") == {"E_TYPE": 2}


def test_a_label_has_few_values_whatever_comes() -> None:
    """What comes too late counts as `other`, and what is known already under its name."""
    metrics = Metrics()
    for number in range(MOST_NAMES + 50):
        metrics.committed(f"public.t{number}", BatchResult(inserted=1))
    metrics.committed("public.t0", BatchResult(inserted=1))
    found = read(metrics).by("ingest_rows_total", "dataset")
    assert len(found) == MOST_NAMES + 1
    assert (found["public.t0"], found["other"]) == (2, 50)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (None, "loaded"),
        (RowError("x"), "refused"),
        (ConflictError("x"), "conflict"),
        (UnavailableError("x"), "unavailable"),
        (AlreadyCommitted("x"), "duplicate"),
        (LeaseLost("x"), "fenced"),
        (FileError("x"), "failed"),
    ],
)
def test_a_try_is_counted_by_what_came_of_it(error: IngestError | None, result: str) -> None:
    """And timed, and its error passes."""
    metrics = Metrics()

    async def attempt() -> None:
        with metrics.trying("staged"):
            if error is not None:
                raise error

    if error is None:
        trio.run(attempt)
    else:
        with pytest.raises(type(error)):
            trio.run(attempt)
    found = read(metrics)
    assert found.by("ingest_batches_total", "result", path="staged") == {result: 1}
    assert found.value("ingest_batch_seconds_count", path="staged") == 1


async def test_a_try_that_is_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    """It took the time until then."""
    metrics = Metrics()
    with trio.move_on_after(3):
        with metrics.trying("direct"):
            await trio.sleep_forever()
    found = read(metrics)
    assert found.by("ingest_batches_total", "result") == {"cancelled": 1}
    assert found.value("ingest_batch_seconds_sum") == 3


def test_retries_by_class_of_sqlstate() -> None:
    """The first two characters; a lost connection may have none."""
    metrics = Metrics()
    for sqlstate in ("40P01", "40001", "08006", ""):
        metrics.retried(sqlstate)
    assert read(metrics).by("ingest_batch_retries_total", "sqlstate_class") == {"40": 2, "08": 1, "none": 1}


async def test_the_fill_of_open_channels() -> None:
    """Of all of them together, and of none that was closed."""
    metrics = Metrics()
    send, receive = trio.open_memory_channel[int](2)
    with metrics.channel(receive):
        await send.send(1)
        assert metrics.channel_fill() == (1, 2)
    assert metrics.channel_fill() == (0, 0)


async def test_the_lag_is_how_late_the_timer_fires(mock_clock: trio.testing.MockClock) -> None:
    """The clock goes on for a second while nobody runs; the timer was due before that."""
    metrics, stop = Metrics(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics, stop)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.25)
        await trio.testing.wait_all_tasks_blocked()
        stop.set()
    found = read(metrics)
    assert found.value("ingest_loop_lag_seconds_sum") == 1.0
    assert found.value("ingest_loop_lag_seconds_count") == 1


def test_moments_of_creation_are_left_out() -> None:
    """They would double the number of series."""
    metrics = Metrics()
    metrics.retried("40001")
    assert b"_created" not in metrics.render([])
