"""A connection that hands over the notices of a COPY as they come, many at a time.

asyncpg calls its log listeners by way of the event loop, which took a quarter of a millisecond for each notice. And the
server flushes each notice by itself: read at once, each would cost a trip through two event loops. So after the first
one reading rests until all bytes are sent, and the others wait in the socket. Not when the server does not take our
bytes any more: it may be waiting until its notices are read.
"""

from __future__ import annotations

from typing import Any

import asyncpg


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

    def read_up(self) -> None:
        """Read what the server has to say before it takes more bytes; the next notice begins another rest."""
        if self.resting:
            self._transport.resume_reading()

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        if self.copy_notices is None:
            super()._process_log_message(fields, last_query)
            return
        self.copy_notices.append(fields.get("M", ""))
        if self.resting and self._transport.is_reading():
            self._transport.pause_reading()
