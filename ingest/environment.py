"""What the commands take from outside: the environment as Settings, and the database that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dotenv import dotenv_values

from ingest.database.embedded import embedded_postgres
from ingest.settings import Settings

DEFAULT_SERVER = "http://127.0.0.1:8000"


def read_settings(**flags: object) -> Settings:
    """Return the settings of the environment and of .env, a flag that is given winning. Raises SettingsError."""
    environment = {name: value for name, value in dotenv_values(".env").items() if value is not None} | dict(os.environ)
    return Settings.from_environment(environment, **flags)


@contextmanager
def database_dsn(settings: Settings) -> Iterator[str]:
    """The database to use: the one that is set, or the embedded one, which runs as long as it is used."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    with embedded_postgres(settings.data_dir) as dsn:
        yield dsn


def read_server(server: str | None) -> tuple[str, str | None]:
    """Return the server to talk to (a flag, INGEST_SERVER, or the one on this machine) and the key (INGEST_API_KEY)."""
    environment = {**dotenv_values(".env"), **os.environ}
    return server or environment.get("INGEST_SERVER") or DEFAULT_SERVER, environment.get("INGEST_API_KEY") or None
