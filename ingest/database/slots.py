"""Slots: how many sessions may keep the server busy at once; the number can be changed while they do."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """At most `limit` holders at once, the others wait in the order they came (asyncio side).

    A limit that was lowered below what is held takes effect as slots are given back; one that was raised, when the next
    session comes or goes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self) -> None:
        """Wait for a slot; cancelled, none is held. Whoever has one gives it back by `release`, once."""
        self._waiting.append(turn := asyncio.get_running_loop().create_future())
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a slot back."""
        self._held -= 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._held < self.limit:
            turn = self._waiting.popleft()
            if not turn.cancelled():
                turn.set_result(None)
                self._held += 1
