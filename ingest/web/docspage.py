"""The pages of the documentation, written from the OpenAPI document and from the table of problems."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from ingest.web.html import Html, joined, paragraphs, prose, table, tag
from ingest.web.openapi import document
from ingest.web.problems import KINDS, PROBLEMS_PATH
from ingest.web.problemtexts import ADVICE, JOB_CODES, REJECT_CODES

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --mark: #0a6cbf; }
@media (prefers-color-scheme: dark) { :root { --mark: #7cc0ff; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 62rem; }
a { color: var(--mark); } h1 { margin-bottom: 0; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin: 2.25rem 0 .25rem; font: 600 1rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; }
h4 { margin: 1rem 0 .25rem; font-size: .875rem; }
nav ul { columns: 18rem; padding: 0; list-style: none; font-size: .875rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; display: block; overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
td:first-child { white-space: nowrap; } code, pre { font-family: ui-monospace, monospace; font-size: .875em; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; max-height: 24rem; }
.method { display: inline-block; min-width: 4.5rem; color: var(--mark); } .soft { opacity: .75; font-size: .875rem; }
:target { background: var(--soft); }
"""
STYLE_HASH = f"sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}"

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")

Json = Mapping[str, Any]


def api_page() -> str:
    """Return the page of all operations and shapes."""
    found = document()
    operations = [
        (method, path, one)
        for path, methods in found["paths"].items()
        for method, one in methods.items()
        if method in METHODS
    ]
    parts = [paragraphs(found["info"]["description"]), _see_also()]
    for group in found["tags"]:
        own = [item for item in operations if group["name"] in item[2]["tags"]]
        parts += [tag("h2", group["name"].capitalize()), paragraphs(group["description"]), _contents(own)]
        parts += [_operation(*item) for item in own]
    parts.append(tag("h2", "Shapes"))
    parts += [_shape(name, one) for name, one in found["components"]["schemas"].items()]
    return _page(f"ingest {found['info']['version']}", parts)


def problems_page() -> str:
    """Return the page of all error codes."""
    rows = [(code, str(kind.status), kind.title, prose(ADVICE.get(code, ""))) for code, kind in KINDS.items()]
    parts = [
        paragraphs(
            "Every error is an `application/problem+json` object (RFC 9457): `type` leads here, `code` is stable, "
            "`detail` says what was wrong this time, and further members name the option, columns or limits at fault."
        ),
        _codes(("code", "status", "meaning", "what to do"), rows),
        tag("h2", "Codes of jobs"),
        paragraphs("In `error` of a job that has failed; what was loaded before stays counted."),
        _codes(("code", "why"), [(code, prose(why)) for code, why in JOB_CODES.items()], "job-"),
        tag("h2", "Codes of rejects"),
        paragraphs("Why a record was not loaded; its neighbours were."),
        _codes(("code", "why"), [(code, prose(why)) for code, why in REJECT_CODES.items()], "reject-"),
    ]
    return _page("Problems", parts)


def _page(title: str, parts: list[Html]) -> str:
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', tag('h1', title), *parts), lang='en')}\n"


def _see_also() -> Html:
    links = (
        ("/openapi.json", "OpenAPI 3.1"),
        (PROBLEMS_PATH, "error codes"),
        ("/health", "health"),
        ("/metrics", "metrics"),
    )
    return tag("p", joined([joined([tag("a", text, href=path), "  "]) for path, text in links]))


def _contents(operations: list[tuple[str, str, Json]]) -> Html:
    items = [
        tag("li", tag("a", f"{method.upper()} {path}", href=f"#{one['operationId']}"))
        for method, path, one in operations
    ]
    return tag("nav", tag("ul", *items))


def _operation(method: str, path: str, one: Json) -> Html:
    scopes = [scope for way in one["security"] for found in way.values() for scope in found]
    return tag(
        "section",
        tag("h3", tag("span", method.upper(), cls="method"), path),
        paragraphs(one["summary"]),
        paragraphs(one.get("description", "")),
        tag("p", f"Key: {' or '.join(scopes)}" if scopes else "No key needed.", cls="soft"),
        _parameters(one.get("parameters", [])),
        _request(one.get("requestBody")),
        _answers(one["responses"]),
        id=one["operationId"],
    )


def _parameters(found: list[Json]) -> Html:
    rows = []
    for given in found:
        one = _resolved(given)
        needed = ", required" if one["required"] else ""
        rows.append((tag("code", one["name"]), f"{one['in']}{needed}", _kind(one["schema"]), prose(one["description"])))
    return _titled("Parameters", table(("name", "in", "type", "meaning"), rows))


def _request(found: Json | None) -> Html:
    if found is None:
        return Html()
    parts = [paragraphs(found["description"]), tag("p", "As ", tag("code", ", ".join(found["content"])), cls="soft")]
    parts += [_example(one["example"]) for one in found["content"].values() if "example" in one]
    return _titled("Body", joined(parts))


def _answers(found: Json) -> Html:
    rows, examples = [], []
    for status, one in sorted(found.items()):
        kinds = [_kind(content["schema"]) for content in one.get("content", {}).values()]
        rows.append((status, joined(kinds), prose(one["description"]), ", ".join(one.get("headers", ()))))
        examples += [
            _example(content["example"]) for content in one.get("content", {}).values() if "example" in content
        ]
    return _titled("Answers", joined([table(("status", "body", "meaning", "headers"), rows), *examples[:1]]))


def _shape(name: str, one: Json) -> Html:
    rows = [
        (tag("code", field), _kind(kind), prose(kind.get("description", "")))
        for field, kind in one.get("properties", {}).items()
    ]
    about = one.get("description", "")
    choices = [joined([_kind(choice), " "]) for choice in one.get("anyOf", ())]
    return tag(
        "section", tag("h3", name), paragraphs(about), *choices, table(("member", "type", "meaning"), rows), id=name
    )


def _kind(schema: Json) -> Html:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return tag("a", name, href=f"#{name}")
    if "anyOf" in schema:
        return joined([joined([_kind(one), " "]) for one in schema["anyOf"]])
    if "enum" in schema:
        return tag("span", ", ".join(str(value) for value in schema["enum"] if value is not None))
    if schema.get("type") == "array":
        return joined(["list of ", _kind(schema["items"])])
    types = schema.get("type", "anything")
    return tag("span", schema.get("format") or (types if isinstance(types, str) else " or ".join(types)))


def _example(value: object) -> Html:
    return tag("pre", value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False))


def _codes(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], prefix: str = "") -> Html:
    """Return a table whose rows, codes and what there is to say, can be linked to by `prefix` and code."""
    head = tag("tr", *(tag("th", name, scope="col") for name in heads))
    body = [
        tag("tr", tag("td", tag("code", code)), *(tag("td", cell) for cell in rest), id=prefix + code)
        for code, *rest in rows
    ]
    return tag("table", tag("thead", head), tag("tbody", *body))


def _titled(title: str, content: Html) -> Html:
    return joined([tag("h4", title), content]) if content else Html()


def _resolved(found: Json) -> Json:
    if "$ref" not in found:
        return found
    name: str = found["$ref"].rsplit("/", 1)[-1]
    resolved: Json = document()["components"]["parameters"][name]
    return resolved
