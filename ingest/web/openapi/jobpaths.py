"""The operations over jobs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ingest.web.answers import BASE
from ingest.web.openapi import examples
from ingest.web.openapi.building import DATABASE_ERRORS, PROBLEM, Json, answer, body, operation, reading, schema, text
from ingest.web.openapi.parameters import use
from ingest.web.openapi.uploadpaths import ADMISSION_ERRORS
from ingest.web.problems import Kind

JOB = f"{BASE}/jobs/{{job_id}}"

# What becomes of a job on demand, and in which states it can be.
ACTIONS = {
    "cancel": "Stop a job; rows of committed batches stay.",
    "pause": "Let no more chunks of a job begin.",
    "resume": "Let a paused job go on.",
    "retry": "Run the failed chunks of a failed job again, and only them.",
}


SOURCE_ERRORS = (
    "E_SOURCE", "E_SOURCE_FORBIDDEN", "E_SOURCE_MISSING", "E_SOURCE_CHANGED", "E_TOO_MANY_SOURCES", "E_STORAGE",
)  # fmt: skip
FOUND = ("E_OPTION", "E_NOT_FOUND", *DATABASE_ERRORS)
CHANGED = (*FOUND, "E_STATE", "E_CONFLICT")


def job_paths(kinds: Mapping[str, Kind]) -> Json:
    """Return the paths below /jobs."""
    return {
        f"{BASE}/jobs": {"get": _list(kinds), "post": _create(kinds)},
        JOB: {"get": _read("get_job", "One job.", kinds), "patch": _change(kinds), "delete": _delete(kinds)},
        f"{JOB}/progress": {"get": _read("get_progress", "The same.", kinds)},
        **{f"{JOB}/{name}": {"post": _action(name, summary, kinds)} for name, summary in ACTIONS.items()},
        **_parts(kinds),
        **_live(kinds),
        **_rejects(kinds),
    }


def _job(*headers: str) -> Json:
    return answer("The job.", schema("Job"), example=examples.JOB, headers=headers)


def _read(name: str, summary: str, kinds: Mapping[str, Kind]) -> Json:
    return reading(name, "jobs", summary, _job(), errors=FOUND, parameters=use("job_id"), kinds=kinds)


def _change(kinds: Mapping[str, Kind]) -> Json:
    return operation(
        "change_job",
        "jobs",
        "Change the priority of a job.",
        {202: _job("Location")},
        errors=(*CHANGED, "E_MEDIA_TYPE", "E_TOO_LARGE", "E_TIMEOUT"),
        parameters=use("job_id"),
        request=body("What to change.", json={"schema": schema("Priority"), "example": {"priority": 9}}),
        scopes=("control",),
        kinds=kinds,
    )


def _delete(kinds: Mapping[str, Kind]) -> Json:
    return operation(
        "delete_job",
        "jobs",
        "Remove a job that has ended, its rejects and stored bytes; never rows of tables.",
        {204: answer("It is gone.")},
        errors=CHANGED,
        parameters=use("job_id"),
        scopes=("control",),
        kinds=kinds,
    )


def _action(name: str, summary: str, kinds: Mapping[str, Kind]) -> Json:
    return operation(
        f"{name}_job",
        "jobs",
        summary,
        {202: _job("Location")},
        errors=CHANGED,
        parameters=use("job_id"),
        scopes=("control",),
        kinds=kinds,
    )


def _parts(kinds: Mapping[str, Kind]) -> Json:
    one = partial(reading, tag="jobs", kinds=kinds, errors=FOUND)
    return {
        f"{JOB}/chunks": {
            "get": one(
                "list_chunks",
                summary="The chunks of a job.",
                ok=answer("A page.", schema("ChunkPage")),
                parameters=use("job_id", "page", "limit"),
            )
        },
        f"{JOB}/audit": {
            "get": one(
                "audit_job",
                summary="What was done to a job on demand.",
                ok=answer("The latest of it.", schema("Audit")),
                parameters=use("job_id"),
            )
        },
    }


def _list(kinds: Mapping[str, Kind]) -> Json:
    return reading(
        "list_jobs",
        "jobs",
        "Jobs, newest first.",
        answer("A page.", schema("JobPage"), example=examples.JOBS),
        errors=("E_OPTION", *DATABASE_ERRORS),
        parameters=use("page", "limit", "status", "of_dataset", "of_filename"),
        kinds=kinds,
    )


def _create(kinds: Mapping[str, Kind]) -> Json:
    source = {"source": "file:///data/customers.csv", "dataset": "customers"}
    return operation(
        "create_job",
        "jobs",
        "Load a file that the service can reach itself.",
        {202: answer("The job.", schema("Job"), example=examples.JOB, headers=("Location",))},
        errors=(*ADMISSION_ERRORS, *SOURCE_ERRORS, "E_MEDIA_TYPE", "E_DRAINING"),
        request=body("Which file, and how.", json={"schema": schema("Source"), "example": source}),
        scopes=("admin",),
        kinds=kinds,
    )


def _live(kinds: Mapping[str, Kind]) -> Json:
    one = partial(operation, tag="jobs", kinds=kinds, errors=(*FOUND, "E_CROSS_SITE", "E_TOO_MANY_STREAMS"))
    upgrade = answer("No WebSocket.", schema("Problem"), media=PROBLEM, headers=("Upgrade",))
    stream = answer(
        "Events `progress`, and at last `completed`, `failed`, `cancelled` or `deleted`.",
        text(),
        media="text/event-stream",
        headers=("X-Accel-Buffering",),
    )
    stream["content"]["text/event-stream"]["example"] = examples.STREAM
    return {
        f"{JOB}/stream": {
            "get": one(
                "stream_job",
                summary="The progress of a job as server-sent events, until it has ended.",
                description="Each event holds the job. A comment comes every 15 s; a stopping service says `goodbye`.",
                answers={200: stream},
                parameters=use("job_id", "header_Last-Event-ID"),
            )
        },
        f"{JOB}/ws": {
            "get": one(
                "watch_job",
                summary="The same as JSON messages over WebSocket.",
                description="`/stream` tells the same by HTTP, where this answers 426.",
                answers={101: answer("WebSocket."), 426: upgrade},
                parameters=use("job_id"),
            )
        },
    }


def _rejects(kinds: Mapping[str, Kind]) -> Json:
    one = partial(reading, tag="rejects", kinds=kinds, errors=FOUND)
    file = answer("The rejected records.", text(), media="text/csv; charset=utf-8", headers=("Content-Disposition",))
    filters = ("page", "limit", "after", "code", "column", "line", "resolved")
    return {
        f"{JOB}/rejects": {
            "get": one(
                "list_rejects",
                summary="Why records of a job were rejected, by line.",
                ok=answer("A page.", schema("RejectPage"), example=examples.REJECTS),
                parameters=use("job_id", *filters),
            )
        },
        f"{JOB}/rejects/summary": {
            "get": one(
                "summarise_rejects",
                summary="Rejects counted by column and code.",
                ok=answer("The groups.", schema("RejectSummary"), example=examples.SUMMARY),
                parameters=use("job_id"),
            )
        },
        f"{JOB}/rejects.csv": {
            "get": operation(
                "download_rejects",
                "rejects",
                summary="The rejected records, to be corrected and sent again with `parent`.",
                answers={200: file},
                parameters=use("job_id", "resolved"),
                errors=FOUND,
                kinds=kinds,
            )
        },
    }
