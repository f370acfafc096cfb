"""The Dockerfile and compose.yaml, read as a linter would: no engine runs here, and what they promise is plain to see."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest.settings import Settings, variables

ROOT = Path(__file__).parents[2]
STEPS = runpy.run_path(str(ROOT / "scripts" / "image-steps"))
INSTRUCTIONS: list[tuple[str, str]] = STEPS["instructions"]((ROOT / "Dockerfile").read_text())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())

# The keys of the Compose Specification that are used here; another one must be looked up before it is let in.
SERVICE_KEYS = {
    "build", "cap_drop", "command", "depends_on", "deploy", "environment", "healthcheck", "image", "ports", "read_only",
    "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip
DURATION = re.compile(r"(\d+)s")


def all_of(word: str) -> list[str]:
    """What follows every instruction of a kind."""
    return [rest for found, rest in INSTRUCTIONS if found == word]


def last_stage() -> list[tuple[str, str]]:
    """The instructions of the image itself."""
    start = max(place for place, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM")
    return INSTRUCTIONS[start:]


def test_the_base_is_pinned_slim_and_one_for_both_stages() -> None:
    """By a tag that names the patch release and the distribution."""
    bases = {rest.split()[0] for rest in all_of("FROM")}
    assert len(all_of("FROM")) == 2
    [base] = bases
    assert re.fullmatch(r"python:3\.1[123]\.\d+-slim-[a-z]+", base)
    assert re.fullmatch(r"postgres:1[5-8]\.\d+-[a-z]+", COMPOSE["services"]["postgres"]["image"])


def test_the_image_holds_what_was_built_and_runs_nothing_more() -> None:
    """No step of the last stage needs root, a shell or a package manager."""
    words = [word for word, _ in last_stage()]
    assert "RUN" not in words
    assert all("--from=build" in rest for word, rest in last_stage() if word == "COPY")
    for step in all_of("RUN"):
        assert "pip install" not in step or "--require-hashes" in step or "--no-deps" in step


def test_it_does_not_run_as_root() -> None:
    """The user is a number, has a name for initdb, and owns the one folder that is written."""
    [user] = all_of("USER")
    number, _, group = user.partition(":")
    assert number == group
    assert int(number) >= 10_000
    assert any(f"ingest:x:{number}:{group}:" in step for step in all_of("RUN"))
    [volume] = all_of("VOLUME")
    assert any(f"--chown={user}" in rest and rest.endswith(volume) for rest in all_of("COPY"))
    words = [word for word, _ in last_stage()]
    assert words.index("USER") < words.index("ENTRYPOINT")


def test_the_signal_reaches_the_service_itself() -> None:
    """A shell in front of it would keep SIGTERM to itself."""
    [entrypoint], [command], [signal] = all_of("ENTRYPOINT"), all_of("CMD"), all_of("STOPSIGNAL")
    assert json.loads(entrypoint) == ["ingest"]
    assert json.loads(command) == ["serve"]
    assert signal == "SIGTERM"


def test_the_health_check_asks_whether_the_process_lives() -> None:
    """Not whether it is ready: a database that is away is no reason to kill it."""
    [check] = all_of("HEALTHCHECK")
    options, _, command = check.partition("CMD ")
    assert {"--interval", "--timeout", "--start-period"} <= {option.split("=")[0] for option in options.split()}
    assert "/health/live" in json.loads(command)[-1]


def test_every_copied_source_is_in_the_checkout_and_sent_to_docker() -> None:
    """And nothing else is: no .env, no tests, no history."""
    sent = STEPS["context"]()
    assert {"requirements.txt", "pyproject.toml", "ingest/__main__.py", "sql/000_create_tables.sql"} <= set(sent)
    tops = {name.split("/")[0] for name in sent}
    assert tops == {"LICENSE", "README.md", "ingest", "pyproject.toml", "requirements.txt", "sql"}
    assert not [name for name in sent if "__pycache__" in name]
    for rest in all_of("COPY"):
        *sources, _ = [word for word in rest.split() if not word.startswith("--")]
        assert "--from=build" in rest or all(source == "." or source in sent for source in sources)


def test_the_environment_is_made_of_known_settings() -> None:
    """With values that the service accepts beside a database and keys turned off."""
    [rest] = all_of("ENV")
    given = dict(pair.split("=", 1) for pair in rest.split())
    ours = {variable.name for variable in variables().values()}
    assert set(given) - ours == {"PATH", "HOME", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
    settings = Settings.from_environment({**given, "INGEST_AUTH": "off"})
    assert str(settings.port) == all_of("EXPOSE")[0]
    assert str(settings.data_dir) == all_of("VOLUME")[0]
    assert (settings.host, settings.log_format) == ("0.0.0.0", "json")


def test_compose_has_the_right_keys_and_references() -> None:
    """A misspelt key is ignored by some engines."""
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"services", "volumes"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        for volume in service["volumes"]:
            assert volume.split(":")[0] in COMPOSE["volumes"]
        for needed, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in COMPOSE["services"][needed]


def test_compose_starts_an_api_two_workers_and_postgres() -> None:
    """Each restarted when it ends, and stopped no sooner than it may take."""
    services = COMPOSE["services"]
    assert services["api"]["command"] == ["api"]
    assert (services["worker"]["command"], services["worker"]["deploy"]["replicas"]) == (["worker"], 2)
    for name in ("api", "worker"):
        found = DURATION.fullmatch(services[name]["stop_grace_period"])
        assert found
        assert int(found[1]) > Settings.from_environment({}).shutdown_grace_s + 15
        assert services[name]["read_only"] is True
        assert (services[name]["cap_drop"], services[name]["tmpfs"]) == (["ALL"], ["/tmp"])
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}


def test_compose_publishes_on_loopback_only_and_knows_no_password() -> None:
    """Passwords come from .env; without one it does not start. The example has none either."""
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    text = (ROOT / "compose.yaml").read_text()
    for line in text.splitlines():
        if "PASSWORD" in line and not line.lstrip().startswith("#"):
            assert "${POSTGRES_PASSWORD:?" in line
    used = set(re.findall(r"\$\{(\w+)", text))
    example = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == set(example)
    assert example["POSTGRES_PASSWORD"] == ""


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("ingest/x.py", False), ("ingest/__pycache__/x.pyc", True), (".env", True), ("tests/x.py", True), ("sql", False)],
)
def test_the_last_rule_that_fits_decides(name: str, ignored: bool) -> None:
    """As Docker reads .dockerignore."""
    assert STEPS["is_ignored"](name, ["*", "!ingest", "!sql", "**/__pycache__"]) is ignored
