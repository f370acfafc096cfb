"""The OpenAPI document as a judge of real answers. Members that it does not know are faults here, unlike for clients."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import jsonschema

BASE = "/api/v1/csv"
JOB = f"{BASE}/jobs/{{job_id}}"

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")

# What every answer may have: of HTTP itself, and of the service for all alike.
COMMON_HEADERS = frozenset(
    {
        "cache-control", "connection", "cross-origin-resource-policy", "x-frame-options", "x-request-id", "content-length", "content-security-policy", "content-type", "date",
        "referrer-policy", "transfer-encoding", "x-content-type-options",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Operation:
    """A method on a path."""

    method: str
    path: str
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Document:
    """An OpenAPI document."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.raw = document
        self._components = closed(document["components"])
        self.operations = [
            Operation(method.upper(), path, body)
            for path, methods in document["paths"].items()
            for method, body in methods.items()
            if method in METHODS
        ]

    def find(self, method: str, path: str) -> Operation:
        """Return the operation that a request is for; HEAD is a GET unless it is documented itself."""
        plain = [one for one in self.operations if one.path == path]
        here = [one for one in plain or self.operations if pattern(one.path).fullmatch(path)]
        wanted = "GET" if method == "HEAD" and "HEAD" not in {one.method for one in here} else method
        found = [one for one in here if one.method == wanted]
        assert len(found) == 1, f"{method} {path} is {len(found)} operations of the document"
        return found[0]

    def resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a reference refers to."""
        if "$ref" not in node:
            return node
        _, components, kind, name = node["$ref"].split("/")
        found: Mapping[str, Any] = self.raw[components][kind][name]
        return found

    def check(self, schema: Mapping[str, Any], value: object) -> None:
        """Fail when a value does not fit a schema."""
        whole = {**closed(schema), "components": self._components}
        jsonschema.Draft202012Validator(whole, format_checker=jsonschema.FormatChecker()).validate(value)

    def judge(self, answer: httpx.Response) -> Operation:
        """Fail when the document does not say that a request may be answered so; returns the operation."""
        request = answer.request
        operation = self.find(request.method, request.url.path)
        said = operation.body["responses"].get(str(answer.status_code))
        assert said is not None, f"{operation}: {answer.status_code} is not documented: {answer.text[:500]}"
        headers = {name.lower() for name in said.get("headers", ())}
        assert set(answer.headers.keys()) - COMMON_HEADERS <= headers, f"{operation}: {answer.headers}"
        if request.method != "HEAD":
            self._judge_body(operation, said, answer)
        return operation

    def _judge_body(self, operation: Operation, said: Mapping[str, Any], answer: httpx.Response) -> None:
        if "content" not in said:
            assert answer.content == b"", f"{operation}: a body is not documented"
            return
        kind = answer.headers["content-type"]
        assert kind in said["content"], f"{operation}: {kind} is not documented for {answer.status_code}"
        value = answer.json() if kind.endswith("json") else answer.text
        self.check(said["content"][kind]["schema"], value)


def closed(node: Any) -> Any:
    """Return schemas that refuse members they do not name."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {name: closed(one) for name, one in node.items()}
    if node.get("type") == "object" and isinstance(node.get("properties"), dict):
        found.setdefault("additionalProperties", False)
    return found


def pattern(path: str) -> re.Pattern[str]:
    """What the paths of an operation look like."""
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))


def examples(document: Document, node: Any) -> Iterator[tuple[Mapping[str, Any], object]]:
    """Yield every example below a node with the schema that it should fit."""
    if isinstance(node, list):
        for one in node:
            yield from examples(document, one)
    elif isinstance(node, dict):
        if "schema" in node and "example" in node:
            yield node["schema"], node["example"]
        if "schema" in node and isinstance(node.get("examples"), dict):
            for one in node["examples"].values():
                yield node["schema"], document.resolved(one)["value"]
        for one in node.values():
            yield from examples(document, one)
