"""API keys as their users meet them: made by a command, used over HTTP, limited, revoked; and what never shows."""

from __future__ import annotations

import json
import re
import socket
from functools import partial
from pathlib import Path

import pytest

from ingest.apikey import KEY
from tests.acceptance.client import BASE, at_once, command, events, tracebacks, until
from tests.acceptance.conftest import SMALL
from tests.acceptance.keyed import Keyring, bearer, opened, prefix_of
from tests.conftest import Psql, as_user
from tests.processes import Process, Starter

UPLOAD = f"{BASE}/upload/f.csv?dataset=public.t"
REQUIRED = {"INGEST_AUTH": "required", "INGEST_TABLE_SCHEMAS": "public"}


@pytest.fixture
def ring(service: Starter, psql: Psql) -> Keyring:
    """Makes keys for the test's database."""
    psql("create table t (a int)")
    return Keyring(service)


def test_a_key_is_shown_once_listed_without_its_secret_and_revoked(ring: Keyring, psql: Psql) -> None:
    done = ring.run("create", "--owner", "ada@example.org", "--scope", "read", "--scope", "upload", "--expires", "90d")
    key = done.out.strip()
    assert KEY.fullmatch(key)
    assert done.err == f"key {prefix_of(key)} of ada@example.org; it is not shown again\n"

    [listed] = json.loads(ring.run("list", "--json").out)
    assert (listed["prefix"], listed["owner"], listed["status"]) == (prefix_of(key), "ada@example.org", "active")
    assert listed["scopes"] == ["read", "upload"]
    assert psql("select expires_at::date - created_at::date from ingest.keys") == "90"
    secret = key.split("_", 2)[2]
    for out in (ring.run("list").out, ring.run("list", "--json").out, psql("select k::text from ingest.keys k")):
        assert prefix_of(key) in out
        assert secret not in out

    assert ring.run("revoke", prefix_of(key)).out == f"key {prefix_of(key)} is revoked\n"
    assert "revoked" in ring.run("list").out
    assert ring.run("revoke", "000000000000").error_line == "ingest: there is no key '000000000000'"


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--owner", "ada"),
        ("create", "--scope", "read"),
        ("create", "--owner", "ada", "--scope", "all"),
        ("create", "--owner", "a b", "--scope", "read"),
        ("create", "--owner", "ada", "--scope", "read", "--expires", "soon"),
        ("create", "--owner", "ada", "--scope", "read", "--expires", "9999999w"),
        ("create", "--owner", "ada", "--scope", "read", "--open-jobs", "0"),
    ],
)
def test_a_wrong_command_makes_no_key(ring: Keyring, psql: Psql, arguments: tuple[str, ...]) -> None:
    assert ring.run(*arguments).code == 2
    assert psql("select count(*) from ingest.keys") == "0"


def test_beyond_loopback_nothing_is_served_before_there_is_a_key(ring: Keyring, service: Starter) -> None:
    def refused() -> str:
        done = command(
            "api", "--host", "0.0.0.0", "--port", "0", environment=service.environment, folder=service.folder
        )
        assert done.code == 2
        return done.error_line

    assert "ingest keys create" in refused()
    key = ring.make("ada", "admin")
    service("api", "--host", "0.0.0.0")
    ring.run("revoke", prefix_of(key))
    assert "INGEST_AUTH=off" in refused()
    service("api", "--host", "0.0.0.0", INGEST_AUTH="off")
    service("worker", "--host", "0.0.0.0")  # answers probes only


def test_a_revoked_key_is_refused_within_seconds_by_a_running_service(ring: Keyring, service: Starter) -> None:
    key = ring.make("ada", "read")
    with opened(service("api", **REQUIRED).url, key) as http:
        assert http.get(f"{BASE}/jobs").status_code == 200
        ring.run("revoke", prefix_of(key))
        until(lambda: http.get(f"{BASE}/jobs").status_code == 401, "the key is refused", timeout_s=30)


def test_the_use_of_a_key_is_noted(ring: Keyring, service: Starter, psql: Psql) -> None:
    key = ring.make("ada", "read")
    with opened(service("api", **REQUIRED).url, key) as http:
        http.get(f"{BASE}/jobs")
        noted = psql("select last_used_at from ingest.keys")
        assert noted
        http.get(f"{BASE}/jobs")
        assert psql("select last_used_at from ingest.keys") == noted


def test_the_bytes_of_a_day_hold_over_processes_and_restarts(ring: Keyring, service: Starter, psql: Psql) -> None:
    key = ring.make("ada", "upload", bytes_per_day="1000000")
    file = b"a\n" + b"1\n" * 200_000
    urls = [service("api", **REQUIRED).url for _ in range(2)]
    for url in urls:
        with opened(url, key) as http:
            assert http.put(UPLOAD, content=file).status_code == 202
    service.started[0].kill()
    with opened(service("api", **REQUIRED).url, key) as http:
        until(
            lambda: psql("select bytes from ingest.key_usage") == str(2 * len(file)), "what was not used is given back"
        )
        assert http.put(UPLOAD, content=file[:150_000]).status_code == 202
        for content in (file, iter([file[:100_000]] * 4)):
            answer = http.put(UPLOAD, content=content)
            assert (answer.status_code, answer.json()["code"]) == (429, "E_QUOTA")
            assert 1 <= int(answer.headers["retry-after"]) <= 86_400
    assert int(psql("select bytes from ingest.key_usage")) <= 1_000_000
    psql("update ingest.key_usage set day = day - 1")
    with opened(urls[1], key) as http:
        assert http.put(UPLOAD, content=file).status_code == 202


def test_a_key_without_a_limit_sends_what_it_wants(ring: Keyring, service: Starter, psql: Psql) -> None:
    """Whether the length is announced or not; what it sends is counted all the same."""
    key, file = ring.make("ada", "upload"), b"a\n" + b"1\n" * 500_000
    with opened(service("api", **REQUIRED).url, key) as http:
        assert http.put(UPLOAD, content=file).status_code == 202
        assert http.put(UPLOAD, content=iter([file])).status_code == 202
    until(lambda: psql("select bytes from ingest.key_usage") == str(2 * len(file)), "what was not used is given back")


def test_a_key_has_only_so_many_open_jobs(ring: Keyring, service: Starter, psql: Psql) -> None:
    keys = [ring.make("ada", "upload", open_jobs="2") for _ in range(2)]
    url = service("api", **REQUIRED).url
    with opened(url, keys[0]) as http, opened(url, keys[1]) as other:
        assert [http.put(UPLOAD, content=b"a\n1\n").status_code for _ in range(2)] == [202, 202]
        answer = http.put(UPLOAD, content=b"a\n1\n")
        assert (answer.status_code, answer.json()["code"], answer.json()["limit"]) == (429, "E_QUOTA", "open_jobs")
        assert answer.headers["retry-after"] == "10"
        assert other.put(UPLOAD, content=b"a\n1\n").status_code == 202
        service("worker", **REQUIRED)
        until(lambda: psql("select count(*) from ingest.jobs where state = 'completed'") == "3", "the jobs end")
        assert http.put(UPLOAD, content=b"a\n1\n").status_code == 202
    assert psql("select count(*) from ingest.jobs") == "4"


def test_jobs_that_come_at_once_do_not_slip_past_the_limit(ring: Keyring, service: Starter, psql: Psql) -> None:
    key = ring.make("ada", "upload", open_jobs="3")
    urls = [service("api", **REQUIRED).url for _ in range(2)]

    def send(number: int) -> int:
        with opened(urls[number % 2], key) as http:
            return http.put(UPLOAD, content=b"a\n1\n").status_code

    answers = at_once(partial(send, number) for number in range(16))
    assert sorted(answers) == [202] * 3 + [429] * 13
    assert psql("select count(*) from ingest.jobs") == "3"


def test_a_key_makes_only_so_many_jobs_a_second(ring: Keyring, service: Starter, psql: Psql) -> None:
    key = ring.make("ada", "upload", jobs_per_second="0.01")
    with opened(service("api", **REQUIRED).url, key) as http:
        form = [("file", ("a.csv", b"a\n1\n")), ("file", ("b.csv", b"a\n1\n"))]
        [first, second] = http.post(f"{BASE}/upload?dataset=public.t", files=form).json()["jobs"]
        assert first["owner"] == "ada"
        assert (second["status"], second["code"], second["limit"]) == (429, "E_QUOTA", "jobs_per_second")
        psql("update ingest.jobs set created_at = created_at - interval '100 seconds'")
        assert http.put(UPLOAD, content=b"a\n1\n").status_code == 202


def test_a_key_makes_only_so_many_requests_a_second(ring: Keyring, service: Starter) -> None:
    key = ring.make("ada", "read", requests_per_second="0.01")
    with opened(service("api", **REQUIRED).url, key) as http:
        answers = [http.get(f"{BASE}/jobs") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert 90 <= int(answers[1].headers["retry-after"]) <= 100


def test_a_dataset_of_some_owners_is_there_for_them_alone(ring: Keyring, service: Starter, tmp_path: Path) -> None:
    folder = tmp_path / "datasets"
    folder.mkdir()
    text = 'name = "hers"\nowners = ["ada"]\ntable = "t"\n[columns.a]\ntype = "int"\n'
    (folder / "hers.toml").write_text(text)
    keys = {owner: ring.make(owner, "upload", "read") for owner in ("ada", "grace")}
    keys["admin"] = ring.make("root", "admin")
    url = service("api", **REQUIRED, INGEST_DATASETS=str(folder)).url
    for owner, status in (("ada", 202), ("grace", 404), ("admin", 202)):
        with opened(url, keys[owner]) as http:
            listed = {dataset["name"] for dataset in http.get(f"{BASE}/datasets").json()["datasets"]}
            assert ("hers" in listed) == (status == 202)
            answers = [
                http.get(f"{BASE}/datasets/hers"),
                http.post(f"{BASE}/preview?dataset=hers", content=b"a\n1\n"),
                http.put(f"{BASE}/upload/f.csv?dataset=hers", content=b"a\n1\n"),
            ]
            assert [answer.status_code for answer in answers] == ([200, 200, 202] if status == 202 else [404] * 3)
            automatic = http.put(f"{BASE}/upload/f.csv?dataset=auto", content=b"a\n1\n")
            assert automatic.status_code == (202 if status == 202 else 422)


CANARY = "canary-7f3a"


def test_no_secret_and_no_cell_shows_in_a_log_or_an_error(
    ring: Keyring, service: Starter, dsn: str, psql: Psql
) -> None:
    """Planted: keys good and bad, a password, cells, query values; searched: all output and all error bodies."""
    psql(f"create table c (id int primary key, name text check (name <> '{CANARY} bad'))")
    keys = {name: ring.make(name, scope) for name, scope in (("ada", "admin"), ("weak", "metrics"), ("gone", "read"))}
    ring.run("revoke", prefix_of(keys["gone"]))
    wrong = keys["ada"][:-6] + "wrong0"
    with_password = as_user(dsn, f"postgres:{CANARY}-password")
    process = service(**REQUIRED, **SMALL, DATABASE_URL=with_password, LOG_LEVEL="DEBUG")
    bodies: list[str] = []
    content = f"id,name\n1,{CANARY}\n1,{CANARY}\nx,{CANARY}\n2,{CANARY} bad\n3,{CANARY},{CANARY}\n".encode()
    for key in (*keys.values(), wrong, f"ing_{CANARY}", CANARY):
        with opened(process.url, key) as http:
            for answer in (
                http.put(f"{BASE}/upload/f.csv?dataset=public.c", content=content),
                http.put(
                    f"{BASE}/upload/f.csv?dataset=public.c&key={CANARY}", content=f'id,name\n1,"{CANARY}'.encode()
                ),
                http.put(f"{BASE}/upload/{key}.csv?dataset=public.c", content=b"id,name\n9,x\n"),
                http.put(f"{BASE}/upload/f.csv?dataset=public.c", content=f'{CANARY}-1,b\n"{CANARY}'.encode()),
                http.post(f"{BASE}/upload?dataset=public.c", files={"file": ("f.csv", content)}),
                http.get(f"{BASE}/jobs?token={key}"),
                http.get(f"{BASE}/jobs/{key}"),
                http.post(f"{BASE}/jobs/00000000-0000-0000-0000-000000000000/retry"),
                http.get("/health"),
            ):
                assert answer.headers["x-request-id"]
                if answer.status_code >= 400:
                    bodies.append(answer.text)
    _malformed(process, keys["ada"])
    until(
        lambda: psql("select count(*) from ingest.jobs where state in ('pending', 'processing')") == "0", "all jobs end"
    )
    psql("alter table ingest.jobs rename to gone")
    with opened(process.url, keys["ada"]) as http:
        answer = http.get(f"{BASE}/jobs")
        bodies.append(answer.text)
        assert answer.status_code == 500
    psql("alter table ingest.gone rename to jobs")
    assert process.terminate() == 0

    assert {line["status"] for line in events(process, "http_request")} >= {202, 400, 401, 403, 404, 422, 500}
    assert "batch_committed" in process.log
    assert tracebacks(process) == []
    # A file name is a label that its sender chose; keys are taken out of it, the rest is shown.
    log = re.sub(rf'"path": "{BASE}/(upload|jobs)/[^"]*{CANARY}[^"]*"', "", process.log)
    for secret in (*(key.split("_", 2)[2] for key in keys.values()), wrong.split("_", 2)[2], CANARY):
        assert secret not in log
    said = re.sub(r"there is no job '[^']*'|'(key|token)' is not an option", "", "\n".join(bodies))
    for secret in (*(key.split("_", 2)[2] for key in keys.values()), f"{CANARY}-password", "canary-7f3a bad"):
        assert secret not in said
    for words in ("SELECT", "Traceback", "asyncpg", "/home/", dsn):
        assert words not in said


def _malformed(process: Process, key: str) -> None:
    host, port = process.url.removeprefix("http://").split(":")
    for tail in (b"\r\nHost : x\r\n\r\n", b"\r\nX: " + b"x" * 70_000, b"\r\n\r\n\r\n"):
        with socket.create_connection((host, int(port)), 30) as connection:
            connection.sendall(f"GET / HTTP/1.1\r\nAuthorization: {bearer(key)['Authorization']}".encode() + tail)
            assert key.encode() not in b"".join(iter(lambda: connection.recv(65536), b""))
