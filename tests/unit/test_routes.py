"""The route label of a metric is a template of the API, whatever path a client makes up."""

from __future__ import annotations

import pytest

from ingest.web.openapi import document
from ingest.web.routes import Routes

JOB = "/api/v1/csv/jobs/{job_id}"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/", "/"),
        ("/metrics", "/metrics"),
        ("/api/v1/csv/jobs", "/api/v1/csv/jobs"),
        ("/api/v1/csv/jobs/1f", JOB),
        ("/api/v1/csv/jobs/not a job", JOB),
        ("/api/v1/csv/jobs/1f/rejects", f"{JOB}/rejects"),
        ("/api/v1/csv/jobs/1f/rejects.csv", f"{JOB}/rejects.csv"),
        ("/api/v1/csv/jobs/1f/rejectsxcsv", "other"),
        ("/api/v1/csv/jobs/1f/nothing", "other"),
        ("/api/v1/csv/upload", "/api/v1/csv/upload"),
        ("/api/v1/csv/upload/a.csv", "/api/v1/csv/upload/{filename}"),
        ("/api/v1/csv/upload/a/b\n.csv", "/api/v1/csv/upload/{filename}"),
        ("/api/v1/csv/upload/", "other"),
        ("/wp-login.php", "other"),
        ("", "other"),
    ],
)
def test_every_path_has_a_route_or_is_other(path: str, label: str) -> None:
    """Parameters take one segment; the name of a file takes all that follows."""
    assert Routes(document()["paths"]).label(path) == label
