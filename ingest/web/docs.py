"""The documentation that the service serves itself: the OpenAPI document, and pages made from it on the server.

No script, nothing from elsewhere; the one style sheet is inside the page and named by its hash.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from quart import request

from ingest.web import options
from ingest.web.answers import Answer, json_answer
from ingest.web.docspage import STYLE_HASH, api_page, problems_page
from ingest.web.openapi import document
from ingest.web.problems import PROBLEMS_PATH

POLICY = f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


async def openapi() -> Answer:
    """Return the document."""
    _without_query()
    return _document()


async def page() -> Answer:
    """Return the document as a page for people."""
    _without_query()
    return _page(api_page)


async def problems() -> Answer:
    """Return what each error code means; every `type` of a problem leads to its place here."""
    _without_query()
    return _page(problems_page)


ROUTES = (("/openapi.json", openapi), ("/docs", page), (PROBLEMS_PATH, problems))


def _without_query() -> None:
    options.query(request.query_string, ())


@cache
def _document() -> Answer:
    return json_answer(200, document())


@cache
def _page(write: Callable[[], str]) -> Answer:
    body = write().encode()
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Content-Security-Policy", POLICY),
    )
    return Answer(200, headers, body)
