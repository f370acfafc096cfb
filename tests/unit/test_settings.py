"""Settings: defaults, units, every refusal in one line, and no password in any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.errors import SettingsError
from ingest.settings import (
    AUTO_BYTES,
    AUTO_WRITERS,
    COPIED_BYTES,
    LEAST_SIDE_CONNECTIONS,
    SIDE_CONNECTIONS,
    Settings,
    variables,
)
from ingest.variables import SHOWN_CHARACTERS, masked


def refused(**environment: str) -> str:
    """The detail of the error for this environment."""
    with pytest.raises(SettingsError) as caught:
        Settings.from_environment(environment)
    assert "\n" not in caught.value.detail
    return caught.value.detail


def test_an_empty_environment_gives_the_documented_defaults() -> None:
    settings = Settings.from_environment({})
    assert settings.database_url is None
    assert settings.data_dir == Path(".ingest")
    assert (settings.batch_records, settings.batch_bytes, settings.chunk_bytes) == (50_000, None, 16 << 20)
    assert (settings.most_batch_bytes(copied=True), settings.most_batch_bytes(copied=False)) == (8 << 20, 2 << 20)
    assert (settings.poll_interval_s, settings.heartbeat_interval_s, settings.lease_ttl_s) == (1.0, 5.0, 20.0)
    assert (settings.host, settings.port, settings.shutdown_grace_s) == ("127.0.0.1", 8000, 25.0)
    assert settings.allowed_schemas == {"public"}


def test_batches_are_as_large_as_set_and_no_larger_than_a_chunk() -> None:
    small = {"CHUNK_SIZE": "4194304"}
    assert Settings.from_environment(small).most_batch_bytes(copied=True) == 4 << 20
    given = Settings.from_environment({**small, "WORKER_BATCH_BYTES": "5"})
    assert (given.most_batch_bytes(copied=True), given.most_batch_bytes(copied=False)) == (5, 5)


def test_direct_construction_and_an_empty_environment_agree() -> None:
    assert Settings() == Settings.from_environment({})


def test_milliseconds_become_seconds() -> None:
    settings = Settings.from_environment({"WORKER_POLL_INTERVAL": "250", "WORKER_HEARTBEAT_INTERVAL": "1500"})
    assert (settings.poll_interval_s, settings.heartbeat_interval_s) == (0.25, 1.5)


def test_an_empty_or_blank_variable_is_unset() -> None:
    settings = Settings.from_environment({"DATABASE_URL": "", "PORT": "  ", "INGEST_TABLE_SCHEMAS": ""})
    assert settings == Settings()


def test_a_flag_wins_over_the_environment_and_an_absent_flag_does_not() -> None:
    settings = Settings.from_environment({"PORT": "1", "HOST": "127.0.0.2"}, port=0, host=None)
    assert (settings.port, settings.host) == (0, "127.0.0.2")


def test_a_wrong_flag_is_shown_with_its_own_value() -> None:
    with pytest.raises(SettingsError, match="PORT=70000: must be a TCP port"):
        Settings.from_environment({"PORT": "1"}, port=70_000)


def test_an_unknown_override_is_refused() -> None:
    with pytest.raises(SettingsError, match="colour=red"):
        Settings.from_environment({}, colour="red")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_BATCH_SIZE", "many"),
        ("WORKER_BATCH_SIZE", "0"),
        ("WORKER_BATCH_SIZE", "1.5"),
        ("WORKER_BATCH_BYTES", "-1"),
        ("WORKER_CONCURRENT_BATCHES", "0"),
        ("WORKER_CONCURRENT_BATCHES", "all"),
        ("WORKER_CONCURRENT_CHUNKS", "65"),
        ("WORKER_POLL_INTERVAL", "soon"),
        ("WORKER_POLL_INTERVAL", "nan"),
        ("WORKER_HEARTBEAT_INTERVAL", "0"),
        ("WORKER_LEASE_TTL", "inf"),
        ("CHUNK_SIZE", "1e9"),
        ("MAX_RECORD_BYTES", "0"),
        ("MAX_UPLOAD_BYTES", "99999999999999999999"),
        ("UPLOAD_IDLE_TIMEOUT", "0"),
        ("UPLOAD_EXPIRY", "0"),
        ("INGEST_SOURCE_ROOTS", "exports"),
        ("SHUTDOWN_GRACE", "-1"),
        ("DATABASE_POOL_SIZE", "lots"),
        ("DATABASE_POOL_SIZE", "1001"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("HOST", "two words"),
        ("PORT", "65536"),
        ("INGEST_AUTH", "maybe"),
    ],
)
def test_a_wrong_value_names_the_variable_the_value_and_what_is_allowed(name: str, value: str) -> None:
    allowed = {variable.name: variable.allowed for variable in variables().values()}[name]
    assert refused(**{name: value}) == f"{name}={value}: must be {allowed}"


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"WORKER_HEARTBEAT_INTERVAL": "10000"}, "WORKER_LEASE_TTL=20000:"),
        ({"WORKER_BATCH_BYTES": "65537", "CHUNK_SIZE": "65536"}, "CHUNK_SIZE=65536:"),
        ({"CHUNK_SIZE": "65536"}, "MAX_RECORD_BYTES=1048576:"),
        ({"WORKER_BATCH_BYTES": "4096", "CHUNK_SIZE": "65536"}, "MAX_RECORD_BYTES=1048576:"),
        ({"WORKER_CONCURRENT_BATCHES": "8", "DATABASE_POOL_SIZE": "11"}, "DATABASE_POOL_SIZE=11:"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(environment: dict[str, str], named: str) -> None:
    assert refused(**environment).startswith(named)


def test_a_lease_of_exactly_three_heartbeats_is_allowed() -> None:
    settings = Settings.from_environment({"WORKER_HEARTBEAT_INTERVAL": "100", "WORKER_LEASE_TTL": "300"})
    assert settings.lease_ttl_s == 0.3


AUTO = {"WORKER_CONCURRENT_BATCHES": "auto"}


@pytest.mark.parametrize(("processors", "writers"), [(None, 2), (1, 2), (2, 3), (8, 9), (64, 16)])
def test_there_is_one_writer_more_than_processors(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, writers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    settings = Settings()
    assert settings.writer_count == writers
    assert (settings.most_writers, settings.pool_size) == (writers, writers + SIDE_CONNECTIONS)
    auto = Settings(writers="auto")
    assert (auto.writer_count, auto.most_writers) == (writers, max(writers, AUTO_BYTES // COPIED_BYTES))
    assert auto.pool_size == AUTO_WRITERS + SIDE_CONNECTIONS


@pytest.mark.parametrize(
    ("environment", "begins", "most"),
    [
        ({"DATABASE_POOL_SIZE": "6"}, 2, 2),
        (AUTO | {"DATABASE_POOL_SIZE": "6"}, 2, 2),
        (AUTO | {"DATABASE_POOL_SIZE": "14"}, 5, 6),
        (AUTO | {"DATABASE_POOL_SIZE": "48"}, 5, 8),
        (AUTO | {"DATABASE_POOL_SIZE": "48", "WORKER_BATCH_BYTES": "2097152"}, 5, 32),
        (AUTO | {"DATABASE_POOL_SIZE": "48", "WORKER_BATCH_BYTES": "16777216", "CHUNK_SIZE": "16777216"}, 5, 5),
        ({"WORKER_CONCURRENT_BATCHES": "3"}, 3, 3),
    ],
)
def test_auto_grows_as_far_as_pool_and_memory_have_room(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], begins: int, most: int
) -> None:
    """On four processors; a number that is set is the number."""
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    settings = Settings.from_environment(environment)
    assert (settings.writer_count, settings.most_writers) == (begins, most)


def test_writers_and_pool_can_be_set() -> None:
    least = 3 + LEAST_SIDE_CONNECTIONS
    settings = Settings.from_environment({"WORKER_CONCURRENT_BATCHES": "3", "DATABASE_POOL_SIZE": str(least)})
    assert (settings.writer_count, settings.pool_size) == (3, least)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"])
def test_loopback_needs_no_keys(host: str) -> None:
    settings = Settings.from_environment({"HOST": host})
    assert settings.on_loopback
    assert settings.allowed_schemas == {"public"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_a_reachable_address_needs_keys_and_opens_no_table_by_itself(host: str) -> None:
    settings = Settings.from_environment({"HOST": host})
    assert settings.keys_required
    assert settings.allowed_schemas == frozenset()


@pytest.mark.parametrize(
    ("auth", "host", "required"),
    [("auto", "127.0.0.1", False), ("off", "0.0.0.0", False), ("off", "127.0.0.1", False), ("required", "::1", True)],
)
def test_keys_are_asked_for_as_told(auth: str, host: str, required: bool) -> None:
    assert Settings.from_environment({"HOST": host, "INGEST_AUTH": auth}).keys_required is required


def test_a_reachable_address_without_keys_on_purpose_opens_no_table_by_itself() -> None:
    environment = {"HOST": "0.0.0.0", "INGEST_AUTH": "off"}
    assert Settings.from_environment(environment).allowed_schemas == frozenset()
    environment["INGEST_TABLE_SCHEMAS"] = "public, sales ,"
    assert Settings.from_environment(environment).allowed_schemas == {"public", "sales"}


@pytest.mark.parametrize("level", ["debug", "Info", "WARNING"])
def test_the_log_level_may_be_written_in_any_case(level: str) -> None:
    assert Settings.from_environment({"LOG_LEVEL": level}).log_level == level.upper()


def test_a_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert Settings.from_environment({"INGEST_HOME": "~/data"}).data_dir == Path("/home/someone/data")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://ada:s3cret@host/db",
        "postgresql://ada:s3cr et@host/db",
        "postgres//ada:s3cret@host:5432/db?password=s3cret",
        "mysql://host/db?user=ada&password=s3cret&sslkey=s3cret",
        "postgresql:/ada:s3cret@host/db",
        "host=db user=ada password='s3cret'",
        "postgresql:// ada:p@s3cret/@host",
    ],
)
def test_a_wrong_database_url_is_shown_without_its_password(url: str) -> None:
    detail = refused(DATABASE_URL=url)
    assert detail.startswith("DATABASE_URL=")
    assert "postgresql://user:password@host" in detail
    assert "s3cr" not in detail
    assert "s3cr" not in repr(Settings(database_url="postgresql://ada:s3cret@host/db"))


def test_masking_leaves_the_rest_readable() -> None:
    assert masked("mysql://ada:s3cret@host:1/db?a=1") == "mysql://***@host:1/db?a=1"


def test_a_long_or_hostile_value_stays_on_one_short_line() -> None:
    detail = refused(PORT="1\n\x1b[31m" + "x" * 1000)
    assert "\x1b" not in detail
    assert "\\x1b[31m" in detail
    assert len(detail) < SHOWN_CHARACTERS + 100


def test_every_setting_has_a_variable_of_its_own() -> None:
    names = [variable.name for variable in variables().values()]
    assert list(variables()) == list(Settings.model_fields)
    assert len(set(names)) == len(names)
