"""The guard in front of everything: is the request meant for us, who sends it, and may they do that.

Every request passes it, files and WebSockets too; handlers find the caller in the request's state and never see a key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, WebsocketScope

from ingest.caller import ANYBODY, NOBODY, Caller
from ingest.errors import IngestError, RequestError
from ingest.settings import Settings
from ingest.web import tusheaders
from ingest.web.access import PROBES, ROUTES, Found, OtherMethods, find_route
from ingest.web.answering import respond
from ingest.web.answers import Answer, problem_answer
from ingest.web.auth import Authenticator, KeyRows
from ingest.web.body import Body
from ingest.web.metering import Allowances, metered
from ingest.web.options import job_id_from
from ingest.web.problems import internal_problem, problem
from ingest.web.requests import SESSION_COOKIE, completed, request_id_for
from ingest.web.standing import remember
from ingest.web.tus import is_tus

HttpHandler = Callable[[HTTPScope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]
SocketHandler = Callable[[WebsocketScope, ASGIReceiveCallable, ASGISendCallable], Awaitable[None]]
Headers = dict[bytes, bytes]

# Methods that change nothing, so that a page of another site may send them: it cannot read the answer.
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# A body that is refused is read and dropped for a moment (see respond); none of it is kept.
REFUSED_IDLE_S = 5.0

log = structlog.get_logger("ingest.access")


class KeySource(KeyRows, Allowances, Protocol):
    """What the guard asks the database. Everything raises DatabaseError."""

    async def owner_of_job(self, job_id: UUID) -> str | None: ...


class Guard:
    """Lets requests through to handlers, or answers them with the reason why not."""

    def __init__(
        self, settings: Settings, keys: KeySource, authenticator: Authenticator, *, probes_only: bool = False
    ) -> None:
        self._routes = PROBES if probes_only else ROUTES
        self._keys = keys
        self._keys_required = settings.keys_required
        self._trusts_all = settings.auth == "off"  # then the header is the affair of a proxy in front
        self._own_name = settings.host
        self._checks_hosts = settings.on_loopback and not self._trusts_all
        self._authenticator = authenticator

    def http(self, handler: HttpHandler) -> HttpHandler:
        """Return the handler behind the guard."""

        async def guarded(scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            headers = _headers(scope)
            try:
                found, caller = await self.admit(
                    scope, headers, scope["method"], changes=scope["method"] not in SAFE_METHODS
                )
            except IngestError as error:
                await _answer(_refusal(error, scope), headers, receive, send)
                return
            except Exception:  # a bug must cost its own request only, and let nobody in
                log.exception("guard_crashed")
                await _answer(problem_answer(internal_problem()), headers, receive, send)
                return
            if found.route.metered and caller.key_id is not None:
                announced = int(headers.get(b"content-length", b"0"))
                async with metered(receive, self._keys, caller.key_id, announced) as counted:
                    await handler(scope, counted, send)
            else:
                await handler(scope, receive, send)

        return guarded

    def websocket(self, handler: SocketHandler) -> SocketHandler:
        """Return the handler of WebSockets behind the guard; a refusal is an HTTP answer instead of the upgrade."""

        async def guarded(scope: WebsocketScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            request_id = request_id_for(scope)
            structlog.contextvars.bind_contextvars(request_id=request_id)
            try:
                # A page of any site may open one and read it, so the rules are those of a change.
                await self.admit(scope, _headers(scope), "GET", changes=True)
            except IngestError as error:
                log.info("websocket_refused", path=scope["path"], code=error.code)
                answer = problem_answer(problem(error))
                pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
                headers = completed(pairs, request_id)
                await send({"type": "websocket.http.response.start", "status": answer.status, "headers": headers})
                await send({"type": "websocket.http.response.body", "body": answer.body, "more_body": False})
            else:
                await handler(scope, receive, send)

        return guarded

    async def admit(
        self, scope: HTTPScope | WebsocketScope, headers: Headers, method: str, *, changes: bool
    ) -> tuple[Found, Caller]:
        """Return the route and the caller of a request, and leave the caller in its state.

        `changes`: a page of another site must not be able to send it, because it does something or can be read.
        Raises RequestError for whatever speaks against it, DatabaseError.
        """
        found = find_route(self._routes, method, scope["path"])
        self._check_host(headers)
        sent = None if self._trusts_all else headers.get(b"authorization")
        kept = None if self._trusts_all or sent is not None else session_of_cookie(headers)
        if changes and kept is not None:  # the browser adds it by itself, whoever has the request sent
            check_same_origin(headers)
        caller = await self._caller(scope, sent, kept, found)
        scope["state"]["caller"] = caller
        remember(scope, partial(self._caller, scope, sent, kept, found, again=True))
        if changes and caller is ANYBODY:
            check_same_origin(headers)
        if found.route.needs and not caller.may(found.route.needs):
            raise _lacks_scope(found)
        await self._check_job(found, caller)
        return found, caller

    async def _caller(
        self,
        scope: HTTPScope | WebsocketScope,
        sent: bytes | None,
        kept: str | None,
        found: Found,
        *,
        again: bool = False,
    ) -> Caller:
        address = scope["client"][0] if scope["client"] else ""
        if sent is not None:
            return (await self._authenticator.identify(_bearer(sent), address, again=again)).caller
        if kept is not None and found.route.needs:
            return (await self._authenticator.identify_session(kept, address, again=again)).caller
        if kept is not None and found.route.greets:
            try:
                return (await self._authenticator.identify_session(kept, address)).caller
            except RequestError:
                return NOBODY  # so that a page whose session has ended can be told to ask for a key
        if not self._keys_required:
            return ANYBODY
        if found.route.needs:
            raise RequestError("this needs an API key: Authorization: Bearer ing_...", code="E_UNAUTHENTICATED")
        return NOBODY

    async def _check_job(self, found: Found, caller: Caller) -> None:
        """Raise E_NOT_FOUND for a job that is not the caller's, in the words for one that does not exist."""
        job_id = job_id_from(found.parts.get("job_id", ""))
        if job_id is None or caller.is_admin:
            return
        if not caller.sees(await self._keys.owner_of_job(job_id)):
            raise RequestError(f"there is no job {found.parts['job_id']!r}", code="E_NOT_FOUND")

    def _check_host(self, headers: Headers) -> None:
        """Refuse a name that leads to loopback but is not ours: a page of that name could read what we answer.

        Only names with a dot can be bought and made to lead here; addresses and names of this network are let pass.
        """
        host = _name_in("//" + headers.get(b"host", b"").decode("latin-1"))
        if not self._checks_hosts or "." not in host or host == self._own_name or host.endswith(".localhost"):
            return
        try:
            ipaddress.ip_address(host)
        except ValueError:
            text = "the service listens on loopback: it answers to its address and to localhost, not to this Host"
            raise RequestError(text, code="E_HOST") from None


def check_same_origin(headers: Headers) -> None:
    """Raise RequestError (E_CROSS_SITE) when a browser says that a page of another origin sends this.

    For requests that no key vouches for. What is no browser sends neither header.
    """
    site = headers.get(b"sec-fetch-site")
    origin = headers.get(b"origin")
    if site is not None:
        same = site in (b"same-origin", b"none")
    else:
        same = origin is None or origin.lower().partition(b"://")[2] == headers.get(b"host", b"?").lower()
    if not same:
        text = "a page of another origin may not do this; send an API key, or call the service without a browser"
        raise RequestError(text, code="E_CROSS_SITE")


def _refusal(error: IngestError, scope: HTTPScope) -> Answer:
    """Return the answer to a request that goes no further; a question for the methods of a path is one of them."""
    if isinstance(error, OtherMethods) and scope["method"] == "OPTIONS":
        return Answer(200, (("Allow", ", ".join(error.allow)), ("Content-Length", "0")), b"")
    answer = problem_answer(problem(error))
    return replace(answer, headers=(*answer.headers, *tusheaders.OWN)) if is_tus(scope["raw_path"]) else answer


async def _answer(answer: Answer, headers: Headers, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    body = Body(receive, limit_bytes=0, idle_s=REFUSED_IDLE_S)
    # Without a body there is nothing to wait for, and the connection can go on.
    body.ended = headers.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in headers
    await respond(answer, body, send)


def _name_in(url: str) -> str:
    """Return the host of a URL without its port; one that cannot be read is no name that is ours."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return "malformed.invalid"


def _lacks_scope(found: Found) -> RequestError:
    scopes = sorted(found.route.needs)
    text = f"the key has no scope for this; it needs {' or '.join(scopes)}"
    return RequestError(text, code="E_SCOPE", scopes=scopes)


def session_of_cookie(headers: Headers) -> str | None:
    """Return the token of the session that a browser has with the page, None when it has none."""
    pairs = (pair.strip().partition("=") for pair in headers.get(b"cookie", b"").decode("latin-1").split(";"))
    return next((value for name, _, value in pairs if name == SESSION_COOKIE and value), None)


def _bearer(header: bytes) -> str:
    scheme, _, key = header.decode("latin-1").strip().partition(" ")
    if scheme.lower() != "bearer":
        raise RequestError("keys are sent as Authorization: Bearer ing_...", code="E_KEY")
    return key.strip()


def _headers(scope: HTTPScope | WebsocketScope) -> Headers:
    """Return the headers by lower-case name; one that is given twice has both its values, which fits nothing."""
    found: Headers = {}
    for raw_name, value in scope["headers"]:
        name = raw_name.lower()
        found[name] = found[name] + b", " + value if name in found else value
    return found
