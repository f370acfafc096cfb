"""Whether a request that stays open for long may go on: keys are revoked and expire while it does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from ingest.caller import Caller
from ingest.errors import DatabaseError, RequestError

# How often the key of an open request is looked at again, at most; see `auth.FRESH_S` for what that may cost.
RECHECK_S = 5.0

Again = Callable[[], Awaitable[Caller]]


class Standing:
    """What a request was let in with; used by one task."""

    def __init__(self, scope: Any) -> None:
        self._again: Again | None = scope["state"].get("again")
        self._checked_at = trio.current_time()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing is to be looked at yet."""
        return self._again is None or trio.current_time() - self._checked_at < RECHECK_S

    async def lasts(self) -> bool:
        """Say whether whoever sent the request would be let in again. A database that is away is no reason to part."""
        if self.is_fresh:
            return True
        assert self._again is not None
        self._checked_at = trio.current_time()
        try:
            await self._again()
        except RequestError as error:
            return error.code != "E_KEY"
        except DatabaseError:
            pass
        return True


def remember(scope: Any, again: Again) -> None:
    """Keep with a request how its sender is found out, so that it can be asked again."""
    scope["state"]["again"] = again
