"""Answers in front of the framework: whatever happens there is one, and the client gets to read it."""

from __future__ import annotations

from collections.abc import Awaitable

import structlog
import trio
from hypercorn.typing import ASGISendCallable

from ingest.errors import IngestError
from ingest.web.answers import Answer, problem_answer
from ingest.web.body import Body
from ingest.web.problems import internal_problem, problem

# After an early answer the client is still sending. Closing at once would reset the connection and could destroy the
# answer before the client has read it, so a bounded amount is read and dropped: far more than socket buffers hold.
DRAIN_BYTES = 64 * 1024 * 1024
DRAIN_S = 5.0

log = structlog.get_logger("ingest.web")


async def contained(work: Awaitable[Answer], crash: str) -> Answer:
    """Return the answer of `work`, or the problem that it ended in; a bug is logged as `crash`, with its traceback."""
    try:
        return await work
    except IngestError as error:
        return problem_answer(problem(error))
    except Exception:  # a bug must cost its own request only
        log.exception(crash)
        return problem_answer(internal_problem())


async def respond(answer: Answer, body: Body, send: ASGISendCallable) -> None:
    """Send an answer, unless the client has left.

    One that is still sending its body gets the time to read the answer before the connection closes.
    """
    if body.gone:
        return
    early = not body.ended
    headers = [(name.encode(), value.encode("latin-1")) for name, value in answer.headers]
    if early:
        headers.append((b"Connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if not early:
        await send({"type": "http.response.body", "body": answer.body, "more_body": False})
        return
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await body.discard(limit_bytes=DRAIN_BYTES, limit_s=DRAIN_S)
    async with trio.open_nursery() as nursery:
        # Ending the response makes hypercorn queue a disconnect for us. With the queue full of body pieces that
        # nobody takes, the last send would wait for ever: so the queue is emptied meanwhile.
        nursery.start_soon(body.discard_all)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        nursery.cancel_scope.cancel(reason="answered")
