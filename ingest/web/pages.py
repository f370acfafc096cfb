"""The page for people at `/` and its files, and the session that a browser begins with a key.

The cookie holds a token that stands for the key as long as the session lasts and the key is good. No script can read
it, no other site can have it sent, and what it asks to change the guard lets pass from a page of our own origin only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol
from uuid import UUID

from quart import request

from ingest.assets import Asset, assets
from ingest.errors import RequestError
from ingest.session import SESSION_S
from ingest.web import options
from ingest.web.access import caller_of
from ingest.web.answers import BASE, Answer, json_answer
from ingest.web.etags import revalidated
from ingest.web.requests import SESSION_COOKIE

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
NAMES = ("upload", "files", "preview", "jobs", "stats", "datasets")


async def root() -> Answer:
    """Return the page to a browser, to all others the paths of the service."""
    wanted = request.accept_mimetypes.best_match(["application/json", "text/html"])
    if wanted == "text/html":
        return _file(assets()["index.html"], (("Content-Security-Policy", POLICY),))
    links = {name: f"{BASE}/{name}" for name in NAMES} | {"health": "/health", "metrics": "/metrics", "docs": "/docs"}
    return json_answer(200, {"service": "ingest", "links": links}, (("Vary", "Accept"),))


async def file(name: str) -> Answer:
    """Return a file of the page."""
    options.query(request.query_string, ())
    found = assets().get(name)
    if found is None:
        raise RequestError("there is nothing at this path", code="E_NOT_FOUND")
    return _file(found, ())


async def session() -> Answer:
    """Say who the caller is, and what they may do."""
    options.query(request.query_string, ())
    return json_answer(200, _who())


class Sessions(Protocol):
    """The sessions of browsers. Everything raises DatabaseError."""

    async def begin_session(self, key_id: UUID) -> str: ...

    async def end_session(self, token: str) -> None: ...


class SessionViews:
    """Signing in and out. Each raises RequestError for a request at fault, DatabaseError without a database."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def routes(self) -> tuple[tuple[str, str, Callable[[], Awaitable[Answer]]], ...]:
        """Return method, path and view of each."""
        return (("POST", "/session", self.sign_in), ("DELETE", "/session", self.sign_out))

    async def sign_in(self) -> Answer:
        """Begin a session with the key that the request carries; it takes the place of the one there was."""
        options.query(request.query_string, ())
        key_id = caller_of(request.scope).key_id
        if key_id is None or "Authorization" not in request.headers:
            return json_answer(200, _who())
        token = await self._sessions.begin_session(key_id)
        await self._end()
        return json_answer(200, _who(), (_cookie(token, SESSION_S),))

    async def sign_out(self) -> Answer:
        """End the session; the key stays good."""
        options.query(request.query_string, ())
        await self._end()
        return Answer(204, (_cookie("", 0),), b"")

    async def _end(self) -> None:
        token = request.cookies.get(SESSION_COOKIE)
        if token:
            await self._sessions.end_session(token)


ROUTES = (("/", root), ("/page/<name>", file), ("/session", session))


def _file(asset: Asset, headers: tuple[tuple[str, str], ...]) -> Answer:
    packed = request.accept_encodings["gzip"] > 0
    body = asset.packed if packed else asset.body
    own = (("Content-Type", asset.media_type), ("Content-Length", str(len(body))))
    coding = (("Content-Encoding", "gzip"),) if packed else ()
    answer = revalidated(Answer(200, own + coding, body), request.method, request.headers.get("If-None-Match"))
    # With 304 too: a browser puts the headers of it, and so its policy, in the place of those that it has kept.
    return replace(answer, headers=(*answer.headers, *headers, ("Vary", "Accept, Accept-Encoding")))


def _who() -> dict[str, object]:
    caller = caller_of(request.scope)
    return {"signed_in": caller.key_id is not None, "owner": caller.owner, "scopes": sorted(caller.scopes)}


def _cookie(value: str, seconds: int) -> tuple[str, str]:
    """Return the header; behind a proxy that ends TLS, the browser's Origin tells that the page came by https."""
    secure = request.scheme == "https" or request.headers.get("Origin", "").startswith("https://")
    text = f"{SESSION_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return "Set-Cookie", text + ("; Secure" if secure else "")
