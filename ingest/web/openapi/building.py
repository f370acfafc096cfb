"""The words that the document is written with: schemas, parameters, bodies, answers, operations. Pure values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from ingest.web.problems import Kind, problem_type

Json = dict[str, Any]

JSON = "application/json"
PROBLEM = "application/problem+json"

# What a request that asks the database may meet, and what any request may.
DATABASE_ERRORS = ("E_DATABASE", "E_DATABASE_REFUSED", "E_DATABASE_UNAVAILABLE")
ALWAYS = ("E_INTERNAL", "E_HOST")
# Headers of problems, by the code or the status.
PROBLEM_HEADERS = {
    "WWW-Authenticate": {"E_UNAUTHENTICATED", "E_KEY", "E_SCOPE"},
    "Retry-After": {"429", "503", "E_KEY_BUSY"},
    "Tus-Version": {"E_TUS_VERSION"},
    "Allow": {"E_METHOD"},
}
# What a key may meet, also where none is needed; and what a request that needs one may.
ANY_KEY_ERRORS = ("E_KEY", "E_THROTTLED", "E_QUOTA", *DATABASE_ERRORS)
KEY_ERRORS = ("E_UNAUTHENTICATED", "E_SCOPE", *ANY_KEY_ERRORS)


def ref(kind: str, name: str) -> Json:
    """Return a reference to a component."""
    return {"$ref": f"#/components/{kind}/{name}"}


def schema(name: str) -> Json:
    """Return a reference to a schema."""
    return ref("schemas", name)


def text(description: str = "", **more: object) -> Json:
    """Return the schema of a text."""
    return {"type": "string", **_described(description), **more}


def whole(description: str = "", **more: object) -> Json:
    """Return the schema of a whole number, not negative."""
    return {"type": "integer", "minimum": 0, **_described(description), **more}


def number(description: str = "", **more: object) -> Json:
    """Return the schema of a number, not negative."""
    return {"type": "number", "minimum": 0, **_described(description), **more}


def flag(description: str = "") -> Json:
    """Return the schema of a truth value."""
    return {"type": "boolean", **_described(description)}


def moment(description: str) -> Json:
    """Return the schema of a moment, ISO 8601 in UTC."""
    return text(description, format="date-time")


def word(values: Iterable[str], description: str = "") -> Json:
    """Return the schema of one of several words."""
    return {"type": "string", "enum": list(values), **_described(description)}


def maybe(one: Json) -> Json:
    """Return a schema that takes null as well."""
    if "$ref" in one:
        return {"anyOf": [one, {"type": "null"}]}
    types = one["type"] if isinstance(one["type"], list) else [one["type"]]
    found = {**one, "type": [*types, "null"]}
    return {**found, "enum": [*one["enum"], None]} if "enum" in one else found


def listed(items: Json, description: str = "", **more: object) -> Json:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **_described(description), **more}


def named(values: Json, description: str = "") -> Json:
    """Return the schema of an object with names that are not known before."""
    return {"type": "object", "additionalProperties": values, **_described(description)}


def thing(description: str, properties: Mapping[str, Json], optional: Sequence[str] = ()) -> Json:
    """Return the schema of an object; a client must accept further members, which later versions may add."""
    return {
        "type": "object",
        "description": description,
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
    }


def parameter(place: str, name: str, description: str, kind: Json, example: object = None) -> Json:
    """Return a parameter `in` query, header or path; those of a path are required."""
    shown = {} if example is None else {"example": example}
    return {
        "name": name, "in": place, "required": place == "path", "description": description, "schema": kind, **shown
    }  # fmt: skip


def body(description: str, *, required: bool = True, **content: Json) -> Json:
    """Return a request body; `content` by the media type's name in Python, as `text_csv`."""
    found = {MEDIA[name]: value for name, value in content.items()}
    return {"description": description, "required": required, "content": found}


MEDIA = {
    "json": JSON,
    "csv": "text/csv",
    "binary": "application/octet-stream",
    "form": "multipart/form-data",
    "patch": "application/offset+octet-stream",
}


def answer(description: str, kind: Json | None = None, **more: Any) -> Json:
    """Return an answer with a JSON body of a schema; `headers` (names of components), `example`, `media`."""
    found: Json = {"description": description}
    if kind is not None:
        example = {"example": more["example"]} if "example" in more else {}
        found["content"] = {more.get("media", JSON): {"schema": kind, **example}}
    headers = {name: ref("headers", name) for name in more.get("headers", ())}
    return found | ({"headers": headers} if headers else {})


def operation(
    name: str,
    tag: str,
    summary: str,
    answers: Mapping[int, Json],
    *,
    errors: Sequence[str] = (),
    parameters: Sequence[Json] = (),
    description: str = "",
    request: Json | None = None,
    scopes: Sequence[str] = ("read",),
    kinds: Mapping[str, Kind],
    always: Sequence[str] = (),
) -> Json:
    """Return an operation; `errors` are codes of `kinds`. A key needs one of the `scopes`, if there are any.

    `always` names headers that problems have, too.
    """
    changing = ("E_CROSS_SITE",) if {"upload", "control", "admin"} & set(scopes) else ()
    found = _problems([*errors, *(KEY_ERRORS if scopes else ANY_KEY_ERRORS), *changing, *ALWAYS], kinds, always)
    return {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        **_described(description),
        **({"parameters": list(parameters)} if parameters else {}),
        **({"requestBody": request} if request else {}),
        "responses": _together({str(status): one for status, one in answers.items()}, found),
        "security": [*({"key": [scope]} for scope in scopes), {}] if scopes else [],
    }


def reading(name: str, tag: str, summary: str, ok: Json, *, parameters: Sequence[Json] = (), **more: Any) -> Json:
    """Return an operation that reads: its answer has an ETag, by which a client learns that nothing has changed."""
    etag = {"headers": {"ETag": ref("headers", "ETag")}}
    answers = {200: ok | etag, 304: {"description": "Nothing has changed."} | etag}
    asked = [*parameters, ref("parameters", "header_If-None-Match")]
    return operation(name, tag, summary, answers, parameters=asked, **more)


def problem_example(code: str, kind: Kind) -> Json:
    """Return a problem object as the service would send it."""
    return {
        "type": problem_type(code), "title": kind.title, "status": kind.status, "detail": "what was wrong", "code": code
    }  # fmt: skip


def _together(answers: Json, problems: Json) -> Json:
    """Return all answers by status; one that is a problem or something else has the bodies of both."""
    shared = {
        status: {
            "description": f"{answers[status]['description']} {problems[status]['description']}",
            "content": answers[status].get("content", {}) | problems[status]["content"],
            "headers": answers[status].get("headers", {}) | problems[status].get("headers", {}),
        }
        for status in answers.keys() & problems.keys()
    }
    return answers | problems | shared


def _problems(codes: Sequence[str], kinds: Mapping[str, Kind], always: Sequence[str]) -> Json:
    """Return the answers for error codes: one for each status, with an example of each code."""
    ordered = sorted(dict.fromkeys(codes), key=lambda code: kinds[code].status)
    groups = groupby(ordered, key=lambda code: kinds[code].status)
    return {str(status): _problem_answer(list(group), kinds, always) for status, group in groups}


def _problem_answer(codes: Sequence[str], kinds: Mapping[str, Kind], always: Sequence[str]) -> Json:
    status = kinds[codes[0]].status
    headers = [header for header, codes_with in PROBLEM_HEADERS.items() if {str(status), *codes} & codes_with]
    found = answer(
        "; ".join(f"`{code}`: {kinds[code].title}" for code in codes),
        {**schema("Problem"), "properties": {"code": {"enum": list(codes)}, "status": {"const": status}}},
        media=PROBLEM,
        headers=(*headers, *always),
    )
    found["content"][PROBLEM]["examples"] = {code: ref("examples", code) for code in codes}
    return found


def _described(description: str) -> Json:
    return {"description": description} if description else {}
