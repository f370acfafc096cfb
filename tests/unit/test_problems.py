"""Every error that can reach a client has its place in the table of problems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import ingest
from ingest import errors
from ingest.web.problems import KINDS, http_problem, internal_problem, problem

# The modules whose errors a request can meet.
MODULES = (
    "dialect",
    "header",
    "splitter",
    "datasets",
    "targets",
    "planning",
    "matching",
    "jobs",
    "storage",
    "receiving",
    "upload",
    "compression",
    "unpacking",
    "digests",
    "idempotency",
    "web/*",
    "database/*",
)
# Codes there that never leave the process over HTTP, and why.
INSIDE = {
    "E_EMBEDDED",  # at start only
    "E_MIGRATION_CHANGED",  # at start only
    "E_DATABASE_ENCODING",  # at start only
    "E_LEASE_LOST",  # workers only
}


def used_codes() -> set[str]:
    """Return the codes that those modules give to errors."""
    folder = Path(ingest.__file__).parent
    files = [path for module in MODULES for path in folder.glob(f"{module}.py")]
    return {code for path in files for code in re.findall(r'code\s*=\s*"(E_\w+)"', path.read_text())}


def test_every_code_in_use_has_a_kind() -> None:
    """So no client meets one whose status was left to chance."""
    assert used_codes() - set(KINDS) - INSIDE == set()


def test_every_kind_is_well_formed() -> None:
    """A code, an error status, a title."""
    for code, kind in KINDS.items():
        assert re.fullmatch(r"E_[A-Z]+(_[A-Z]+)*", code)
        assert 400 <= kind.status < 600
        assert kind.title


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.FileError("x", code="E_NEW"), 422),
        (errors.RequestError("x", code="E_NEW"), 400),
        (errors.StorageError("x", code="E_NEW"), 503),
        (errors.PermanentError("x", code="E_NEW"), 500),
        (errors.UnavailableError("x"), 503),
        (errors.AccountingError("x"), 500),
    ],
)
def test_an_unlisted_code_goes_by_who_is_at_fault(error: errors.IngestError, status: int) -> None:
    """And keeps its code."""
    found = problem(error)
    assert (found.status, found.body["code"]) == (status, error.code)


def test_facts_become_members_and_replace_none() -> None:
    """`status` is the HTTP status, whatever an error calls a fact."""
    body = problem(errors.FileError("why", code="E_HEADER_MISMATCH", missing=["a"], status="x")).body
    assert (body["missing"], body["status"], body["detail"]) == (["a"], 422, "why")


def test_http_and_unexpected_errors() -> None:
    """Both are problems like all others."""
    assert http_problem(418, "tea").body["code"] == "E_REQUEST"
    assert http_problem(502, "bad").body["code"] == "E_INTERNAL"
    assert internal_problem().status == 500
