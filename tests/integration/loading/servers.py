"""Other PostgreSQL servers for the same tests: 16 from the wheel, 15 where the operating system has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingest.database.account import account_for
from ingest.database.embedded import bin_path

SETTINGS = {"listen_addresses": "", "fsync": "off", "timezone": "UTC", "max_connections": "50"}
MAJORS = (16, 15)


def programs(major: int) -> Path | None:
    """The folder with the programs of that version, None when it is not here."""
    places = {16: bin_path().parents[1] / "pginstall" / "bin", 15: Path("/usr/lib/postgresql/15/bin")}
    return places[major] if (places[major] / "initdb").exists() else None


@contextmanager
def server(major: int) -> Iterator[str]:
    """Run a throw-away server of that version; yields the DSN of its superuser. Works as root and as a user."""
    folder = Path(tempfile.mkdtemp(prefix=f"ingest-pg{major}-"))
    home = folder / "home"
    account = account_for(home)
    account.private_folder(home)
    account.open_way(home)
    binaries = programs(major)
    assert binaries is not None
    account.open_way(binaries / "postgres")

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [binaries / program, *arguments], cwd=home, capture_output=True, text=True, check=False,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, **account.identity(),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    try:
        run("initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        run("pg_ctl", "start", "-D", "data", "-l", "log", "-w", "-o", f"-k {home} {options}")
        try:
            yield f"postgresql://postgres@/postgres?host={home}"
        finally:
            run("pg_ctl", "stop", "-D", "data", "-m", "immediate", "-w")
    finally:
        shutil.rmtree(folder)
