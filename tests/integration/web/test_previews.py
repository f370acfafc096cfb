"""POST /preview over HTTP: its answer, its limits, its refusals."""

from __future__ import annotations

import pytest

from .conftest import Web

URL = "/api/v1/csv/preview"


async def test_a_preview(web: Web) -> None:
    """Of a body without any framing."""
    response = await web.client.post(f"{URL}?dataset=public.t&delimiter=;", content=b"a;b\n1;2\n")
    assert response.status_code == 200
    assert response.json()["rows"] == [["1", "2"]]
    assert response.json()["problems"] == ["unknown: 'a', 'b'"]


@pytest.mark.parametrize(
    ("query", "body", "status", "code", "words"),
    [
        ("?dataset=public.t", b"a\n" + b"1\n" * 524_288, 413, "E_TOO_LARGE", "the first 1048576 bytes"),
        ("?dataset=public.t", b"", 422, "E_EMPTY", "empty"),
        ("?dataset=public.t", b'"a,b\n', 422, "E_QUOTE_OPEN", "the header is not complete"),
        ("?dataset=public.u", b"a\n", 404, "E_DATASET_UNKNOWN", "public.u"),
        ("?dataset=public.t&mode=atomic", b"a\n", 400, "E_OPTION", "mode"),
        ("?dataset=public.t&quote=xx", b"a\n", 400, "E_OPTION", "quote"),
    ],
)
async def test_a_preview_is_refused(web: Web, query: str, body: bytes, status: int, code: str, words: str) -> None:
    """With a problem that says why."""
    response = await web.client.post(URL + query, content=body)
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert words in response.json()["detail"]


async def test_other_methods_are_refused(web: Web) -> None:
    """And told what to use."""
    response = await web.client.get(URL)
    assert (response.status_code, response.headers["Allow"]) == (405, "OPTIONS, POST")
