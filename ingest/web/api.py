"""The JSON routes over jobs and datasets, on Quart-Trio.

Each view asks one question of the layer below and formats the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol
from uuid import UUID

import structlog
import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from ingest import datasets
from ingest.caller import Caller
from ingest.errors import IngestError, RequestError
from ingest.job import JobState, JobView
from ingest.web import docs, options, pages, rejects
from ingest.web.access import METRICS, caller_of
from ingest.web.answers import BASE, Answer, job_body, json_answer, problem_answer
from ingest.web.control import Control, ControlViews, Retrying
from ingest.web.etags import revalidated
from ingest.web.health import Health, HealthSource
from ingest.web.metrics import MetricsPage
from ingest.web.problems import http_problem, internal_problem, problem
from ingest.web.quartconnection import QuartConnection

# What a route here takes is a line of JSON; uploads go past the framework.
MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 10

# Said in our own words: the framework's are meant for a person who typed a URL into a browser.
HTTP_DETAILS = {
    404: "there is nothing at this path",
    405: "this path does not take this method; Allow names those it does",
}

PAGING = ("page", "limit")

log = structlog.get_logger("ingest.web")


class Jobs(Protocol):
    """What the routes ask about jobs. Everything raises DatabaseError and is harmless to cancel."""

    async def get(self, job_id: UUID) -> JobView | None: ...

    async def page(
        self, *, page: int, limit: int, status: JobState | None, dataset: str | None, owner: str | None,
        filename: str | None,
    ) -> tuple[list[JobView], int]: ...  # fmt: skip

    async def chunks(self, job_id: UUID, *, page: int, limit: int) -> tuple[list[dict[str, Any]], int]: ...

    async def statistics(self) -> dict[str, Any]: ...


class Datasets(Protocol):
    """What the routes ask about datasets. Everything raises DatabaseError and is harmless to cancel."""

    async def find(self, name: str, caller: Caller) -> datasets.Dataset: ...

    async def all(self, caller: Caller) -> Sequence[datasets.Dataset]: ...


def create_api(
    *,
    jobs: Jobs,
    rejects: rejects.Rejects,
    retrying: Retrying,
    control: Control,
    datasets: Datasets,
    health: HealthSource,
    metrics: MetricsPage,
    draining: trio.Event,
    sessions: pages.Sessions,
    health_only: bool = False,
) -> QuartTrio:
    """Return the Quart-Trio application with all routes that are not uploads, or with health and metrics alone."""
    api = QuartTrio("ingest", static_folder=None)
    api.asgi_http_class = QuartConnection
    api.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        BODY_TIMEOUT=BODY_TIMEOUT_S,
        RESPONSE_TIMEOUT=None,  # its default cuts a long response short, and calls that success
    )
    views, probes = Views(jobs, rejects, datasets), Health(health, draining)
    probe_routes = (
        ("/health", lambda: probes.full(details=_caller().may(METRICS))),
        ("/health/live", probes.live),
        ("/health/ready", probes.ready),
        ("/metrics", metrics.answer),
    )
    view_routes = (
        (f"{BASE}/jobs", views.jobs),
        (f"{BASE}/jobs/<job_id>", views.job),
        (f"{BASE}/jobs/<job_id>/progress", views.job),
        (f"{BASE}/jobs/<job_id>/chunks", views.chunks),
        (f"{BASE}/jobs/<job_id>/rejects", views.rejects),
        (f"{BASE}/jobs/<job_id>/rejects/summary", views.rejects_summary),
        (f"{BASE}/jobs/<job_id>/rejects.csv", views.rejects_csv),
        (f"{BASE}/stats", views.stats),
        (f"{BASE}/datasets", views.datasets),
        (f"{BASE}/datasets/<name>", views.dataset),
        *docs.ROUTES,
        *pages.ROUTES,
    )
    for rule, view in probe_routes + (() if health_only else view_routes):
        api.add_url_rule(rule, rule, _responding(view))
    changes = (*ControlViews(control, retrying, views.find).routes(), *pages.SessionViews(sessions).routes())
    for method, rule, view in () if health_only else changes:
        api.add_url_rule(rule, f"{method} {rule}", _responding(view), methods=[method])
    api.register_error_handler(IngestError, _on_ingest_error)
    api.register_error_handler(HTTPException, _on_http_error)
    api.register_error_handler(Exception, _on_crash)
    return api


class Views:
    """The routes' answers. Each raises RequestError for a request at fault, DatabaseError without a database."""

    def __init__(self, jobs: Jobs, reject_rows: rejects.Rejects, datasets: Datasets) -> None:
        self._jobs = jobs
        self._rejects = reject_rows
        self._datasets = datasets

    async def jobs(self) -> Answer:
        """Return a page of jobs, newest first."""
        values = _query(*PAGING, "status", "dataset", "filename")
        page, limit = options.page(values)
        found, total = await self._jobs.page(
            page=page,
            limit=limit,
            status=options.status(values),
            dataset=values.get("dataset") or None,
            owner=_caller().only_owner,
            filename=values.get("filename") or None,
        )
        return _page("jobs", [job_body(view) for view in found], page, limit, total)

    async def job(self, job_id: str) -> Answer:
        """Return one job."""
        _query()
        return json_answer(200, job_body(await self.find(job_id)))

    async def chunks(self, job_id: str) -> Answer:
        """Return a page of a job's chunks, in file order."""
        page, limit = options.page(_query(*PAGING))
        view = await self.find(job_id)
        found, total = await self._jobs.chunks(view.id, page=page, limit=limit)
        return _page("chunks", found, page, limit, total)

    async def rejects(self, job_id: str) -> Answer:
        """Return a page of a job's rejects, by line; `raw` is shown as text."""
        values = _query(*PAGING, "after", *rejects.FILTERS)
        return await rejects.page_answer(self._rejects, await self.find(job_id), values)

    async def rejects_summary(self, job_id: str) -> Answer:
        """Return why a job's records were rejected, by column and code."""
        _query()
        return await rejects.summary_answer(self._rejects, await self.find(job_id))

    async def rejects_csv(self, job_id: str) -> Response:
        """Return a job's rejected records as a file that can be corrected and sent again."""
        values, view = _query("resolved"), await self.find(job_id)
        return await rejects.csv_answer(self._rejects, view, values, head_only=request.method == "HEAD")

    async def stats(self) -> Answer:
        """Return what all jobs come to."""
        _query()
        return json_answer(200, await self._jobs.statistics())

    async def datasets(self) -> Answer:
        """Return every dataset that files can be sent for."""
        _query()
        return json_answer(200, {"datasets": [dataset.to_json() for dataset in await self._datasets.all(_caller())]})

    async def dataset(self, name: str) -> Answer:
        """Return one dataset."""
        _query()
        options.check_option("dataset", name, ("dataset",))
        return json_answer(200, (await self._datasets.find(name, _caller())).to_json())

    async def find(self, job_id: str) -> JobView:
        """Return the job that a path names. Raises RequestError when there is none."""
        found = options.job_id_from(job_id)
        view = found and await self._jobs.get(found)
        if not view:
            raise RequestError(f"there is no job {job_id!r}", code="E_NOT_FOUND")
        return view


def _page(name: str, items: list[dict[str, Any]], page: int, limit: int, total: int) -> Answer:
    return json_answer(200, {name: items, "page": page, "limit": limit, "total": total})


def _caller() -> Caller:
    return caller_of(request.scope)


def _query(*allowed: str) -> dict[str, str]:
    return options.query(request.query_string, allowed)


def _responding(view: Any) -> Any:
    async def respond(**arguments: str) -> Response:
        return _response(await view(**arguments))

    return respond


def _response(answer: Answer | Response) -> Response:
    if isinstance(answer, Response):
        return answer
    if request.path.startswith(BASE):
        answer = revalidated(answer, request.method, request.headers.get("If-None-Match"))
    response = Response(answer.body, answer.status, dict(answer.headers))
    if answer.status == HTTPStatus.NOT_MODIFIED:
        response.headers.pop("Content-Type")  # the framework's, for what has no content
    return response


def _on_ingest_error(error: IngestError) -> Response:
    found = problem(error)
    if found.status >= 500:
        log.warning("request_failed", path=request.path, code=error.code, detail=error.detail)
    return _response(problem_answer(found))


def _on_http_error(error: HTTPException) -> Response:
    headers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers = (("Allow", ", ".join(sorted(error.valid_methods))),)
    detail = HTTP_DETAILS.get(error.code or 500) or error.description or error.name
    return _response(problem_answer(http_problem(error.code or 500, detail, headers)))


def _on_crash(error: Exception) -> Response:
    log.error("request_crashed", path=request.path, exc_info=error)
    return _response(problem_answer(internal_problem()))
