"""The operations over datasets and over the service itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ingest.web.answers import BASE
from ingest.web.openapi import examples
from ingest.web.openapi.building import DATABASE_ERRORS, Json, answer, operation, reading, ref, schema, text
from ingest.web.openapi.parameters import use
from ingest.web.problems import Kind

HTML = "text/html; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def service_paths(kinds: Mapping[str, Kind]) -> Json:
    """Return the paths of datasets, statistics, probes and documentation."""
    return {**_datasets(kinds), **_figures(kinds), **_probes(kinds), **_documents(kinds), **_page(kinds)}


def _datasets(kinds: Mapping[str, Kind]) -> Json:
    errors = ("E_OPTION", "E_DATASET_UNKNOWN", *DATABASE_ERRORS)
    read = partial(reading, tag="datasets", kinds=kinds, scopes=("upload", "read"), errors=errors)
    all_of_them, one = answer("All of them.", schema("DatasetList")), answer("The dataset.", schema("Dataset"))
    every = read("list_datasets", summary="Every dataset that files can be sent for.", ok=all_of_them)
    named = read("get_dataset", summary="One dataset.", ok=one, parameters=use("name"))
    return {f"{BASE}/datasets": {"get": every}, f"{BASE}/datasets/{{name}}": {"get": named}}


def _figures(kinds: Mapping[str, Kind]) -> Json:
    metrics = answer("Prometheus' text format.", text(), media=PROMETHEUS, example=examples.METRICS)
    return {
        f"{BASE}/stats": {
            "get": reading(
                "get_stats",
                "service",
                "Totals of all jobs.",
                answer("The totals.", schema("Stats")),
                errors=("E_OPTION", *DATABASE_ERRORS),
                scopes=("metrics",),
                kinds=kinds,
            )
        },
        "/metrics": {
            "get": operation(
                "get_metrics",
                "service",
                "Counters and gauges for Prometheus.",
                {200: metrics},
                scopes=("metrics",),
                kinds=kinds,
            )
        },
    }


def _probes(kinds: Mapping[str, Kind]) -> Json:
    probe = partial(operation, tag="service", kinds=kinds, scopes=())
    status = schema("Status")
    ready = answer("It is.", status, example={"status": "ok"})
    not_now = answer("Not while starting, draining or without database.", status, example={"status": "draining"})
    return {
        "/health": {
            "get": probe(
                "get_health",
                summary="The state of the process, with 200 whatever it is.",
                description="Where keys are in use, more than the status is told to a key of the scope metrics only.",
                answers={200: answer("The state.", {"anyOf": [schema("Health"), status]})},
            )
        },
        "/health/live": {
            "get": probe("is_alive", summary="Whether the process answers.", answers={200: answer("It does.", status)})
        },
        "/health/ready": {
            "get": probe("is_ready", summary="Whether new work is welcome.", answers={200: ready, 503: not_now})
        },
    }


def _documents(kinds: Mapping[str, Kind]) -> Json:
    one = partial(operation, tag="service", kinds=kinds, scopes=())
    return {
        "/openapi.json": {
            "get": one(
                "get_openapi", summary="This document.", answers={200: answer("OpenAPI 3.1.", {"type": "object"})}
            )
        },
        "/docs": {
            "get": one(
                "get_docs", summary="This document, to read.", answers={200: answer("HTML.", text(), media=HTML)}
            )
        },
        "/docs/problems": {
            "get": one(
                "get_problems",
                summary="What each error code means; the `type` of a problem leads here.",
                answers={200: answer("HTML.", text(), media=HTML)},
            )
        },
    }


def _page(kinds: Mapping[str, Kind]) -> Json:
    one = partial(operation, tag="service", kinds=kinds)
    read = partial(reading, tag="service", kinds=kinds, scopes=(), errors=("E_OPTION",))
    links = answer("The paths; to a client that wants text/html, the page.", schema("Links"))
    links["content"] |= {HTML: {"schema": text()}}
    links["headers"] = {"Vary": ref("headers", "Vary")}
    page_file = read(
        "get_page_file",
        summary="A file of the page.",
        ok=answer("Its bytes.", text(), media="text/javascript; charset=utf-8"),
        parameters=use("page_file"),
        errors=("E_OPTION", "E_NOT_FOUND"),
    )
    page_file["responses"]["200"]["headers"] |= {name: ref("headers", name) for name in ("Vary", "Content-Encoding")}
    cookie = {"headers": {"Set-Cookie": ref("headers", "Set-Cookie")}}
    gone = {"description": "The browser has no session any more."}
    return {
        "/": {
            "get": one(
                "get_links", summary="The page for people, and where things are.", answers={200: links}, scopes=()
            )
        },
        "/page/{name}": {"get": page_file},
        "/session": {
            "get": one(
                "get_session",
                summary="Who the caller is, and what they may do.",
                errors=("E_OPTION",),
                answers={200: answer("The caller.", schema("Session"))},
                scopes=(),
            ),
            "post": one(
                "sign_in",
                summary="Begin a session with the key of the request, for the page; a cookie holds its token.",
                description="HttpOnly, SameSite=Strict, for 12 hours. With it, changes must come from our own origin.",
                answers={200: answer("The caller.", schema("Session")) | cookie},
                errors=("E_OPTION", *DATABASE_ERRORS),
                scopes=("upload", "read", "control", "metrics", "admin"),
            ),
            "delete": one(
                "sign_out",
                summary="End the session.",
                errors=("E_OPTION", *DATABASE_ERRORS),
                answers={204: gone | cookie},
                scopes=(),
            ),
        },
    }
