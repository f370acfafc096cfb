"""The JSON that the service answers with: one way to encode it, one way to show a job, for both request paths."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog

from ingest.job import JobView
from ingest.web.problems import Problem

BASE = "/api/v1/csv"

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole response: status, headers (Content-Length included) and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def json_answer(status: int, payload: object, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """Return a JSON answer."""
    return _answer(status, "application/json", payload, headers)


def problem_answer(problem: Problem) -> Answer:
    """Return a problem as an application/problem+json answer."""
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    body = {**problem.body, "request_id": request_id} if request_id else problem.body
    return _answer(problem.status, "application/problem+json", body, problem.headers)


def job_body(view: JobView) -> dict[str, Any]:
    """Return JOB as the API shows it, with links to what belongs to it."""
    body = {field.name: getattr(view, field.name) for field in dataclasses.fields(view)}
    return {**body, "links": job_links(view.id)}


def job_path(job_id: UUID) -> str:
    """Return the path of a job, as `Location` names it."""
    return f"{BASE}/jobs/{job_id}"


def job_links(job_id: UUID) -> dict[str, str]:
    """Return the paths of a job and of what belongs to it."""
    path = job_path(job_id)
    own = {name: f"{path}/{name}" for name in ("progress", "stream", "ws", "chunks", "rejects", "audit")}
    return {"self": path, **own, "rejects_summary": f"{path}/rejects/summary", "rejects_csv": f"{path}/rejects.csv"}


def encode(payload: object) -> bytes:
    """Return a payload as UTF-8 JSON: times as ISO 8601 in UTC, undecodable bytes shown as backslash escapes."""
    return json.dumps(payload, default=_plain, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _answer(status: int, media_type: str, payload: object, headers: tuple[tuple[str, str], ...]) -> Answer:
    body = encode(payload)
    own = (("Content-Type", media_type), ("Content-Length", str(len(body))))
    return Answer(status, own + headers, body)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")
