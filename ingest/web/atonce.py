"""Sending without waiting: how a part of an answer gets out without the task that gives the answer.

Hundreds who read along are told of a job at the same moment. Woken for that, each of their tasks goes by way of the
scheduler, the protocol's queue and a lock; a connection that has nothing else on its way can be written to by whoever
has the news: 58 microseconds of processor time an event instead of 77, most of what is left being the system call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Sends a part of an answer that has begun if all of it goes out without waiting. False where it does not: then nothing
# has been sent, or a part that goes on in front of what is sent next.
AtOnce = Callable[[bytes], bool]

KEY = "send_at_once"


def at_once_of(scope: Any) -> AtOnce | None:
    """Return how parts of the answer to a request are sent at once; None where the connection cannot."""
    found: AtOnce | None = scope.get("state", {}).get(KEY)
    return found


def counted(scope: Any, count: Callable[[int], None]) -> None:
    """Let `count` know of the bytes that are sent so."""
    send = at_once_of(scope)
    if send is None:
        return

    def sending(data: bytes) -> bool:
        sent = send(data)
        count(len(data) if sent else 0)
        return sent

    scope["state"][KEY] = sending
