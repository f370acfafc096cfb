"""Every route with every kind of caller, made from the one table of routes; and that there is no other route."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from ingest.caller import Scope
from ingest.web.access import OPEN, ROUTES, Route
from ingest.web.answers import BASE
from tests.acceptance.client import until
from tests.acceptance.keyed import Keyring, bearer, opened, prefix_of
from tests.conftest import run_psql
from tests.processes import starting

REFUSED = (401, 403)
GUARDED = [route for route in ROUTES if route.needs is not OPEN and route.needs]
every_guarded_route = pytest.mark.parametrize("route", GUARDED, ids=lambda route: f"{route.method} {route.path}")

# Who asks, and which scopes the key has.
CALLERS = {
    **{scope.value: (scope.value,) for scope in Scope},
    "all but admin": ("upload", "read", "control", "metrics"),
}


@dataclass
class World:
    """A service that asks for keys: `jobs` has a job of each owner, `keys` a key for each kind of caller."""

    url: str
    http: httpx.Client
    keys: dict[str, str]
    jobs: dict[str, str]

    def ask(self, route: Route, key: str | None, job_id: str) -> httpx.Response:
        """Send the smallest request of a route; streams are left once they have begun."""
        path = route.path.replace("{job_id}", job_id).replace("{upload_id}", str(uuid4())).replace("{name}", "public.t")
        path = path.replace("{filename...}", "f.csv").replace("{page...}", "x")
        headers = bearer(key) if key else {}
        with self.http.stream(route.method, path, headers=headers) as answer:
            if answer.status_code >= 400:
                answer.read()
            return answer


@pytest.fixture(scope="module")
def world(shared_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two owners with a job each."""
    folder = tmp_path_factory.mktemp("keys")
    run_psql(shared_dsn, "create table t (a int)")
    environment = {
        "DATABASE_URL": shared_dsn, "INGEST_HOME": str(folder / "home"), "LOG_FORMAT": "json",
        "INGEST_AUTH": "required", "INGEST_TABLE_SCHEMAS": "public",
    }  # fmt: skip
    with starting(Path(folder), environment) as service:
        url = service().url
        ring = Keyring(service)
        keys = {name: ring.make("ada", *scopes) for name, scopes in CALLERS.items()}
        keys["other"] = ring.make("grace", "upload", "read", "control", "metrics")
        keys["expired"] = ring.make("ada", "admin", expires="1h")
        keys["revoked"] = ring.make("ada", "admin")
        run_psql(shared_dsn, f"update ingest.keys set expires_at = now() where prefix = '{prefix_of(keys['expired'])}'")
        assert ring.run("revoke", prefix_of(keys["revoked"])).code == 0
        keys["wrong"] = keys["admin"][:-4] + "wron"
        with opened(url) as http:
            jobs = {name: _job(http, keys[name]) for name in ("upload", "other")}
            yield World(url, http, keys, {"ada": jobs["upload"], "grace": jobs["other"]})


def _job(http: httpx.Client, key: str) -> str:
    answer = http.put(f"{BASE}/upload/f.csv?dataset=public.t", content=b"a\n1\n", headers=bearer(key))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


@every_guarded_route
@pytest.mark.parametrize("key", [None, "wrong", "expired", "revoked"])
def test_without_a_good_key_nothing_is_done(world: World, route: Route, key: str | None) -> None:
    answer = world.ask(route, key and world.keys[key], world.jobs["ada"])

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="ingest"')
    if route.method != "HEAD":
        assert answer.json()["code"] == ("E_KEY" if key else "E_UNAUTHENTICATED")


@every_guarded_route
@pytest.mark.parametrize("caller", CALLERS)
def test_a_key_does_what_its_scopes_allow_and_no_more(world: World, route: Route, caller: str) -> None:
    allowed = caller == "admin" or bool(route.needs & {Scope(scope) for scope in CALLERS[caller]})
    # A job that does not exist: what the caller may do must not change the jobs of the other cases.
    answer = world.ask(route, world.keys[caller], str(uuid4()))

    assert (answer.status_code not in REFUSED) == allowed
    if not allowed:
        assert answer.status_code == 403
        assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]
        if route.method != "HEAD":
            assert answer.json()["code"] == "E_SCOPE"


@pytest.mark.parametrize(
    "route",
    [route for route in GUARDED if "{job_id}" in route.path],
    ids=lambda route: f"{route.method} {route.path}",
)
def test_the_job_of_another_owner_is_not_there(world: World, route: Route) -> None:
    theirs = world.ask(route, world.keys["all but admin"], world.jobs["grace"])
    nobodys = world.ask(route, world.keys["all but admin"], nothing := str(uuid4()))

    assert theirs.status_code == nobodys.status_code == 404
    mine, other = theirs.json(), nobodys.json()
    assert mine["detail"].replace(world.jobs["grace"], "") == other["detail"].replace(nothing, "")
    assert mine["code"] == other["code"] == "E_NOT_FOUND"


@pytest.mark.parametrize("route", [route for route in ROUTES if not route.needs], ids=lambda route: route.path)
def test_open_routes_ask_for_no_key(world: World, route: Route) -> None:
    assert world.ask(route, None, str(uuid4())).status_code not in REFUSED


def test_each_owner_sees_their_own_jobs_and_an_admin_all(world: World) -> None:
    def seen(key: str) -> set[str]:
        answer = world.http.get(f"{BASE}/jobs?limit=100", headers=bearer(world.keys[key])).json()
        assert answer["total"] == len(answer["jobs"])
        return {job["id"] for job in answer["jobs"]}

    assert seen("read") == {world.jobs["ada"]}
    assert seen("other") == {world.jobs["grace"]}
    assert seen("admin") == set(world.jobs.values())
    for key in ("read", "admin"):
        job = until(lambda key=key: _ended(world, key), "the job ends")
        assert (job["id"], job["owner"]) == (world.jobs["ada"], "ada")


def _ended(world: World, key: str) -> dict[str, str] | None:
    job = world.http.get(f"{BASE}/jobs/{world.jobs['ada']}", headers=bearer(world.keys[key])).json()
    return job if job["status"] == "completed" else None


def test_the_corrected_file_of_another_owner_is_refused_like_that_of_no_job(world: World) -> None:
    url, headers = f"{BASE}/upload/f.csv?dataset=public.t&parent=", bearer(world.keys["other"])
    answers = [
        world.http.put(url + parent, content=b"a\n1\n", headers=headers) for parent in (world.jobs["ada"], str(uuid4()))
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(422, "E_PARENT")] * 2


def test_health_tells_strangers_the_status_only(world: World) -> None:
    assert world.http.get("/health").json() == {"status": "ok"}
    assert world.http.get("/health", headers=bearer(world.keys["read"])).json() == {"status": "ok"}
    assert "database" in world.http.get("/health", headers=bearer(world.keys["metrics"])).json()


@pytest.mark.parametrize(
    "path",
    ["/nowhere", f"{BASE}/jobs/", f"/{BASE}/jobs", f"{BASE}//jobs", f"{BASE}/jobs/x/y", "/%2e%2e/x", f"{BASE}/jobs;x"],
)
def test_a_path_that_is_not_in_the_table_is_not_served(world: World, path: str) -> None:
    """Not even to be redirected."""
    answer = world.http.get(path, headers=bearer(world.keys["admin"]))
    assert (answer.status_code, answer.json()["code"]) == (404, "E_NOT_FOUND")
    assert answer.headers["content-type"] == "application/problem+json"


def test_other_methods_are_named(world: World) -> None:
    answer = world.http.put(f"{BASE}/datasets", headers=bearer(world.keys["admin"]))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    answer = world.http.options(f"{BASE}/jobs/{world.jobs['ada']}")
    assert (answer.status_code, answer.headers["allow"]) == (200, "DELETE, GET, HEAD, OPTIONS, PATCH")


@pytest.mark.parametrize("header", ["Basic YWRhOmFkYQ==", "Bearer", "Bearer ing_0_1", "ing_0_1", "Bearer \xff"])
def test_what_is_no_key_is_refused(world: World, header: str) -> None:
    answer = world.http.get(f"{BASE}/jobs", headers={"Authorization": header.encode("latin-1")})
    assert (answer.status_code, answer.json()["code"]) == (401, "E_KEY")


def test_a_websocket_needs_a_key_too(world: World) -> None:
    upgrade = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    path = f"{BASE}/jobs/{world.jobs['ada']}/ws"
    for key, status in ((None, 401), ("upload", 403), ("other", 404)):
        with opened(world.url, key and world.keys[key]) as http:
            answer = http.get(path, headers=upgrade)
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
            assert answer.headers["x-request-id"] == answer.json()["request_id"]
