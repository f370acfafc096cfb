"""A connection that hands over the notices of a COPY as they come.

asyncpg calls its log listeners by way of the event loop, which took a quarter of a millisecond for each notice: a batch
full of bad values, each named by a notice, kept the loop busy for seconds.
"""

from __future__ import annotations

from typing import Any

import asyncpg


class NoticingConnection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """`copy_notices` takes the texts of notices while it is a list; the session that runs the COPY owns it."""

    __slots__ = ("copy_notices",)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.copy_notices: list[str] | None = None

    def _process_log_message(self, fields: dict[str, str], last_query: str) -> None:
        if self.copy_notices is None:
            super()._process_log_message(fields, last_query)
        else:
            self.copy_notices.append(fields.get("M", ""))
