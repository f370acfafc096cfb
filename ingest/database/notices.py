"""A connection that hands over the notices of a COPY as they come, many at a time.

asyncpg calls its log listeners by way of the event loop, which took a quarter of a millisecond for each notice. And the
server flushes each notice by itself: read at once, each would cost a trip through two event loops. So after the first
one reading rests for a moment, and the others wait in the socket. Not for longer: a server whose notices nobody reads
stops reading our bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

# How long notices may gather while bytes are sent: short beside the COPY of a batch, long beside a trip.
REST_S = 0.01


class NoticingConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """`copy_notices` takes the texts of notices while it is a list; the session that runs the COPY owns it.

    `resting` while bytes are sent and nothing else is expected from the server.
    """

    __slots__ = ("copy_notices", "resting")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.copy_notices: list[str] | None = None
        self.resting = False

    def end_rest(self) -> None:
        """Read on: all bytes are sent, and the server's answer is what comes next."""
        self.resting = False
        self._transport.resume_reading()

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        if self.copy_notices is None:
            super()._process_log_message(fields, last_query)
            return
        self.copy_notices.append(fields.get("M", ""))
        if self.resting and self._transport.is_reading():
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(REST_S, self._transport.resume_reading)
