"""The OpenAPI document against the routes that the application has; and the pages that are made from it."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from quart_trio import QuartTrio

from ingest.job import JobView
from ingest.web import api as api_module
from ingest.web.access import ROUTES
from ingest.web.openapi import SAID_ONCE, document
from ingest.web.problems import KINDS
from tests.document import Document, Operation, examples

from .conftest import Web

BASE = "/api/v1/csv"

# HEAD belongs to each GET and OPTIONS to each path; the document says so once.
EVERYWHERE = {"HEAD", "OPTIONS"}


@pytest.fixture
def document_() -> Document:
    """The document."""
    return Document(document())


@pytest.fixture
def apis(monkeypatch: pytest.MonkeyPatch) -> list[QuartTrio]:
    """The framework's applications that are made from here on."""
    made: list[QuartTrio] = []

    class Noted(QuartTrio):  # type: ignore[misc]  # ships no types
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(api_module, "QuartTrio", Noted)
    return made


async def test_documented_are_the_routes_that_there_are(document_: Document, apis: list[QuartTrio], web: Web) -> None:
    """Each path is asked for its methods, those in front of the framework too; the framework's table has no others."""
    there = set()
    for path in document_.raw["paths"]:
        answer = await web.client.request("BREW", path.replace("{job_id}", str(uuid4())).replace("{filename}", "f.csv"))
        if answer.status_code == 405:
            methods = set(answer.headers["allow"].split(", ")) - EVERYWHERE
            there |= {f"{method} {path}" for method in methods}
    [api] = apis
    for rule in api.url_map.iter_rules():
        path = re.sub(r"<(\w+)>", r"{\1}", rule.rule)
        there |= {f"{method} {path}" for method in rule.methods - EVERYWHERE}
    documented = {str(one) for one in document_.operations if one.method not in EVERYWHERE}

    assert there - documented == set(), "these routes are not documented"
    assert documented - there == set(), "these routes are not there"


def test_the_document_and_the_table_of_access_say_the_same(document_: Document) -> None:
    """Every method on every path, and the scopes of which a key needs one."""
    documented = {str(one): scopes_of(one) for one in document_.operations}
    guarded = {f"{route.method} {route.path.replace('...}', '}')}": set(route.needs) for route in ROUTES}
    assert documented == guarded


def scopes_of(operation: Operation) -> set[str]:
    """The scopes that an operation names."""
    return {scope for option in operation.body["security"] for scope in option.get("key", ())}


def test_it_is_openapi_3_1() -> None:
    """By the standard's own schema."""
    found = schemathesis.openapi.from_dict(document())
    found.validate()
    assert found.specification.version == "3.1.0"
    for operation in found.get_all_operations():
        operation.ok()


def test_every_code_is_documented_and_every_documented_code_exists(document_: Document) -> None:
    """One that no operation names would surprise a client."""
    named = {
        code
        for operation in document_.operations
        for said in operation.body["responses"].values()
        for content in said.get("content", {}).values()
        for code in content.get("examples", ())
    }
    assert {*KINDS} - named == set(SAID_ONCE)
    assert named <= {*KINDS}


def test_every_example_fits_its_schema(document_: Document) -> None:
    """Of parameters, requests and answers."""
    found = list(examples(document_, document_.raw))
    assert len(found) > 100
    for schema, example in found:
        document_.check(schema, example)


def test_names_are_used_once_and_references_lead_somewhere(document_: Document) -> None:
    """And no component is left over."""
    names = [one.body["operationId"] for one in document_.operations]
    assert len(names) == len(set(names))
    used = set(re.findall(r"#/components/(\w+/[\w-]+)", str(document_.raw)))
    there = {f"{kind}/{name}" for kind, found in document_.raw["components"].items() for name in found}
    assert there - used == {"securitySchemes/key"}
    assert used - there == set()


def test_a_job_is_documented_field_by_field(document_: Document) -> None:
    """No more and no less than the service shows."""
    documented = set(document_.raw["components"]["schemas"]["Job"]["properties"])
    shown = {field.name for field in dataclasses.fields(JobView)} | {"links"}
    assert documented == shown


class Page(HTMLParser):
    """What of a page matters here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append(tag)
        given = dict(attrs)
        assert not [name for name in given if name == "style" or name.startswith("on")]
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src") and value]
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Tags end in the order in which they must."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note the text."""
        self.text += data


async def page(web: Web, path: str) -> Page:
    """Fetch a page; its policy lets nothing in but its own style."""
    answer = await web.client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    found = Page(answer.text)
    style = answer.text.partition("<style>")[2].partition("</style>")[0]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert not set(found.tags) & {"script", "link", "img", "iframe", "form"}
    assert all(link.startswith(("/", "#")) for link in found.links)
    assert len(found.ids) == len(set(found.ids))
    return found


async def test_the_page_has_every_operation_and_every_shape(web: Web, document_: Document) -> None:
    """With all their parameters, and links that lead somewhere."""
    found = await page(web, "/docs")
    names = {one.body["operationId"] for one in document_.operations} | set(document_.raw["components"]["schemas"])
    assert set(found.ids) == names
    assert {link[1:] for link in found.links if link.startswith("#")} <= names
    for path in (link for link in found.links if link.startswith("/")):
        assert (await web.client.get(path)).status_code == 200
    for operation in document_.operations:
        assert operation.path in found.text
        for parameter in operation.body.get("parameters", ()):
            assert document_.resolved(parameter)["name"] in found.text


async def test_the_type_of_a_problem_leads_to_its_explanation(web: Web) -> None:
    """Whichever code it has."""
    found = await page(web, "/docs/problems")
    assert set(KINDS) <= set(found.ids)
    for path in ("/nothing", f"{BASE}/jobs/1", f"{BASE}/jobs?limit=x"):
        problem = (await web.client.get(path)).json()
        where, _, anchor = problem["type"].partition("#")
        assert (where, anchor) == ("/docs/problems", problem["code"])
        assert anchor in found.ids


async def test_the_document_is_served_as_it_is(web: Web) -> None:
    """And takes no query."""
    answer = await web.client.get("/openapi.json")
    assert (answer.status_code, answer.json()) == (200, document())
    for path in ("/openapi.json", "/docs", "/docs/problems"):
        assert (await web.client.get(f"{path}?x=1")).json()["code"] == "E_OPTION"
