"""The routes that change a job: cancel, pause, resume, retry, its priority, delete; and the audit of what was done."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from uuid import UUID

from quart import request

from ingest.errors import RequestError
from ingest.job import JobView
from ingest.web import options
from ingest.web.access import caller_of
from ingest.web.answers import BASE, Answer, job_body, job_path, json_answer

HIGHEST_PRIORITY = 9

View = Callable[[str], Awaitable[Answer]]
Find = Callable[[str], Awaitable[JobView]]


class Control(Protocol):
    """What the routes ask for. Raises RequestError (E_NOT_FOUND, E_STATE), DatabaseError."""

    async def cancel(self, job_id: UUID, actor: str | None) -> JobView: ...

    async def pause(self, job_id: UUID, actor: str | None) -> JobView: ...

    async def resume(self, job_id: UUID, actor: str | None) -> JobView: ...

    async def prioritise(self, job_id: UUID, priority: int, actor: str | None) -> JobView: ...

    async def delete(self, job_id: UUID, actor: str | None) -> None: ...

    async def audit(self, job_id: UUID) -> list[dict[str, Any]]: ...


class Retrying(Protocol):
    """What lets failed chunks run again. Raises RequestError (E_NOT_FOUND, E_STATE), DatabaseError."""

    async def retry(self, job_id: UUID, actor: str | None) -> JobView: ...


class ControlViews:
    """The routes' answers. `find` returns the job that a path names, if whoever asks may see it."""

    def __init__(self, control: Control, retrying: Retrying, find: Find) -> None:
        self._control = control
        self._retrying = retrying
        self._find = find

    def routes(self) -> tuple[tuple[str, str, View], ...]:
        """Return the routes as method, path and view."""
        job = f"{BASE}/jobs/<job_id>"
        return (
            ("POST", f"{job}/cancel", self.cancel),
            ("POST", f"{job}/pause", self.pause),
            ("POST", f"{job}/resume", self.resume),
            ("POST", f"{job}/retry", self.retry),
            ("PATCH", job, self.change),
            ("DELETE", job, self.delete),
            ("GET", f"{job}/audit", self.audit),
        )

    async def cancel(self, job_id: str) -> Answer:
        """End a job; what of it is in the table stays there, and the job's error says how much."""
        return _accepted(await self._control.cancel(await self._named(job_id), _actor()))

    async def pause(self, job_id: str) -> Answer:
        """Let a job rest."""
        return _accepted(await self._control.pause(await self._named(job_id), _actor()))

    async def resume(self, job_id: str) -> Answer:
        """Go on with a paused job."""
        return _accepted(await self._control.resume(await self._named(job_id), _actor()))

    async def retry(self, job_id: str) -> Answer:
        """Run a failed job's failed chunks again."""
        return _accepted(await self._retrying.retry(await self._named(job_id), _actor()))

    async def change(self, job_id: str) -> Answer:
        """Give a job another priority."""
        found = await self._named(job_id)
        return _accepted(await self._control.prioritise(found, _priority(await _members()), _actor()))

    async def delete(self, job_id: str) -> Answer:
        """Forget a job that has ended."""
        await self._control.delete(await self._named(job_id), _actor())
        return Answer(204, (), b"")

    async def audit(self, job_id: str) -> Answer:
        """Return what was done to a job, the latest first."""
        return json_answer(200, {"audit": await self._control.audit(await self._named(job_id))})

    async def _named(self, job_id: str) -> UUID:
        options.query(request.query_string, ())
        return (await self._find(job_id)).id


def _accepted(view: JobView) -> Answer:
    return json_answer(202, job_body(view), (("Location", job_path(view.id)),))


def _actor() -> str | None:
    """Return whose key the request carries; None where there are no keys."""
    return caller_of(request.scope).owner


async def _members() -> dict[str, Any]:
    if request.mimetype != "application/json":
        raise RequestError("the body must be JSON (Content-Type: application/json)", code="E_MEDIA_TYPE")
    try:
        found = json.loads(await request.get_data(as_text=False))
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON", code="E_OPTION") from error
    if not isinstance(found, dict) or found.keys() != {"priority"}:
        raise RequestError('the body must be {"priority": 0 to 9}, nothing else', code="E_OPTION", allowed=["priority"])
    return found


def _priority(members: dict[str, Any]) -> int:
    value = members["priority"]
    if type(value) is not int or not 0 <= value <= HIGHEST_PRIORITY:
        text = f"priority must be a whole number from 0 to {HIGHEST_PRIORITY}"
        raise RequestError(text, code="E_OPTION", option="priority")
    return value
