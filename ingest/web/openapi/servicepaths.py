"""The operations over datasets and over the service itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from ingest.web.answers import BASE
from ingest.web.openapi import examples
from ingest.web.openapi.building import DATABASE_ERRORS, Json, answer, operation, reading, schema, text
from ingest.web.openapi.parameters import use
from ingest.web.problems import Kind

HTML = "text/html; charset=utf-8"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def service_paths(kinds: Mapping[str, Kind]) -> Json:
    """Return the paths of datasets, statistics, probes and documentation."""
    data = partial(reading, tag="datasets", kinds=kinds, scopes=("upload", "read"))
    open_to_all = partial(operation, tag="service", kinds=kinds, scopes=())
    metrics = answer("Prometheus' text format.", text(), media=PROMETHEUS, example=examples.METRICS)
    return {
        f"{BASE}/datasets": {
            "get": data(
                "list_datasets",
                summary="Every dataset that files can be sent for.",
                ok=answer("All of them.", schema("DatasetList")),
                errors=("E_OPTION", "E_DATASET_UNKNOWN", *DATABASE_ERRORS),
            )
        },
        f"{BASE}/datasets/{{name}}": {
            "get": data(
                "get_dataset",
                summary="One dataset.",
                ok=answer("The dataset.", schema("Dataset")),
                errors=("E_OPTION", "E_DATASET_UNKNOWN", *DATABASE_ERRORS),
                parameters=use("name"),
            )
        },
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
        "/health": {
            "get": open_to_all(
                "get_health",
                summary="The state of the process, with 200 whatever it is.",
                description="Where keys are in use, more than the status is told to a key of the scope metrics only.",
                answers={200: answer("The state.", {"anyOf": [schema("Health"), schema("Status")]})},
            )
        },
        "/health/live": {
            "get": open_to_all(
                "is_alive", summary="Whether the process answers.", answers={200: answer("It does.", schema("Status"))}
            )
        },
        "/health/ready": {
            "get": open_to_all(
                "is_ready",
                summary="Whether new work is welcome.",
                answers={
                    200: answer("It is.", schema("Status"), example={"status": "ok"}),
                    503: answer(
                        "Not while starting, draining or without database.",
                        schema("Status"),
                        example={"status": "draining"},
                    ),
                },
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
        **_documents(kinds),
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
        "/": {
            "get": one("get_links", summary="Where things are.", answers={200: answer("The paths.", schema("Links"))})
        },
    }
