"""Accounts add up, and are zero whenever nothing runs."""

from __future__ import annotations

import pytest

from ingest.accounts import Accounts, InFlight

NOTHING = InFlight(chunks=0, queued=0, writing=0, read=0, committed=0, abandoned=0, last_batch_s=None)


def test_nothing_is_in_flight_at_first() -> None:
    """A worker that has done nothing reports zeros and no last batch."""
    assert Accounts().statistics() == NOTHING


def test_a_batch_is_queued_then_written_then_committed() -> None:
    """Each step moves the batch from one figure to the next."""
    accounts = Accounts()
    with accounts.open() as account:
        account.read()
        assert (accounts.statistics().queued, accounts.statistics().writing) == (1, 0)
        account.take()
        assert (accounts.statistics().queued, accounts.statistics().writing) == (0, 1)
        account.settle(0.25)
        assert accounts.statistics() == InFlight(
            chunks=1, queued=0, writing=0, read=1, committed=1, abandoned=0, last_batch_s=0.25
        )
    assert accounts.statistics() == InFlight(
        chunks=0, queued=0, writing=0, read=1, committed=1, abandoned=0, last_batch_s=0.25
    )


def test_what_is_left_in_an_account_is_abandoned() -> None:
    """A run that is cut off leaves nothing in flight, whoever had the batches."""
    accounts = Accounts()

    def cut_off() -> None:
        with accounts.open() as account:
            for _ in range(3):
                account.read()
            account.take()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    left = accounts.statistics()
    assert (left.queued, left.writing, left.abandoned, left.read) == (0, 0, 3, 3)


def test_accounts_of_several_runs_are_added() -> None:
    """Two chunks at once count together, and the closing of one leaves the other's figures."""
    accounts = Accounts()
    with accounts.open() as first:
        first.read()
        with accounts.open() as second:
            second.read()
            second.take()
            second.settle(0.5)
            assert (accounts.statistics().chunks, accounts.statistics().queued) == (2, 1)
        now = accounts.statistics()
        assert (now.chunks, now.queued, now.read, now.committed, now.last_batch_s) == (1, 1, 2, 1, 0.5)
