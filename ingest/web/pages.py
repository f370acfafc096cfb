"""The page for people at `/` and its files, and the session in which a browser keeps its key.

The cookie is the key itself: nothing is kept here, and a key that is revoked is so for the page too. No script can read
it, no other site can have it sent, and what it asks to change the guard lets pass from a page of our own origin only.
"""

from __future__ import annotations

from dataclasses import replace

from quart import request

from ingest.assets import Asset, assets
from ingest.errors import RequestError
from ingest.web import options
from ingest.web.access import caller_of
from ingest.web.answers import BASE, Answer, json_answer
from ingest.web.etags import revalidated
from ingest.web.requests import KEY_COOKIE

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
SESSION_S = 12 * 3600
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


async def sign_in() -> Answer:
    """Keep the key that the request carries in a cookie."""
    options.query(request.query_string, ())
    scheme, _, key = request.headers.get("Authorization", "").strip().partition(" ")
    cookies = (_cookie(key.strip(), SESSION_S),) if scheme and caller_of(request.scope).key_id else ()
    return json_answer(200, _who(), cookies)


async def sign_out() -> Answer:
    """Forget the cookie; the key stays good."""
    options.query(request.query_string, ())
    return Answer(204, (_cookie("", 0),), b"")


ROUTES = (("/", root), ("/page/<name>", file), ("/session", session))
CHANGES = (("POST", "/session", sign_in), ("DELETE", "/session", sign_out))


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
    text = f"{KEY_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict"
    return "Set-Cookie", text + ("; Secure" if secure else "")
