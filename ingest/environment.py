"""What the commands take from outside: the environment as Settings, and the database that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dotenv import dotenv_values

from ingest.database.embedded import embedded_postgres
from ingest.settings import Settings


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
