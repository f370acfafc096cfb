"""In-flight accounting: which batches are between a reader and the ledger, counted by ourselves.

A channel's own statistics miss a batch that was handed straight to a waiting writer, and a cancelled batch would stay
counted for ever. So every chunk run opens an account; what is left in it when the run ends is booked as abandoned, and
the totals are zero whenever nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A snapshot: chunks open, batches waiting for a writer and being written, and totals since the start."""

    chunks: int
    queued: int
    writing: int
    read: int
    committed: int
    abandoned: int
    last_batch_s: float | None


class Account:
    """The batches of one chunk run. Written by its reader (`read`) and its writers (`take`, `settle`) only."""

    def __init__(self) -> None:
        self.queued = 0
        self.writing = 0
        self.batches_read = 0
        self.batches_committed = 0
        self.last_batch_s: float | None = None

    def read(self) -> None:
        """The reader has a batch in hand for the writers."""
        self.queued += 1
        self.batches_read += 1

    def take(self) -> None:
        """A writer has taken a batch."""
        self.queued -= 1
        self.writing += 1

    def settle(self, seconds: float) -> None:
        """A batch is in the ledger, `seconds` after a writer took it."""
        self.writing -= 1
        self.batches_committed += 1
        self.last_batch_s = seconds


class Accounts:
    """The accounts of all chunk runs of this worker."""

    def __init__(self) -> None:
        self._open: list[Account] = []
        self._read = 0
        self._committed = 0
        self._abandoned = 0
        self._last_batch_s: float | None = None

    @contextmanager
    def open(self) -> Iterator[Account]:
        """Open an account for one chunk run; on the way out whatever is left in it is booked as abandoned."""
        account = Account()
        self._open.append(account)
        try:
            yield account
        finally:
            self._open.remove(account)
            self._read += account.batches_read
            self._committed += account.batches_committed
            self._abandoned += account.queued + account.writing
            self._last_batch_s = account.last_batch_s or self._last_batch_s

    def statistics(self) -> InFlight:
        """Return the state of all accounts together."""
        latest = [account.last_batch_s for account in self._open if account.last_batch_s is not None]
        return InFlight(
            chunks=len(self._open),
            queued=sum(account.queued for account in self._open),
            writing=sum(account.writing for account in self._open),
            read=self._read + sum(account.batches_read for account in self._open),
            committed=self._committed + sum(account.batches_committed for account in self._open),
            abandoned=self._abandoned,
            last_batch_s=latest[-1] if latest else self._last_batch_s,
        )
