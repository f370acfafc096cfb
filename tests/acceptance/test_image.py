"""The very steps of the image, done in an empty folder; the service is then started as the image starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.client import PATIENCE_S, Client, until
from tests.conftest import Psql
from tests.processes import READY, clean_environment

ROOT = Path(__file__).parents[2]
INSTALL_S = 900.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(INSTALL_S + 300)]


@dataclass(frozen=True, slots=True)
class Image:
    """The root of an image without an engine, and how it starts."""

    root: Path
    start: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        """What the image sets, with the machine's own PATH behind."""
        ours = {name: value.replace("$PATH", "/usr/bin:/bin") for name, value in self.start["environment"].items()}
        kept = {name: value for name, value in clean_environment().items() if not name.startswith("PYTHON")}
        return {**kept, **ours}

    def program(self, command: list[str]) -> list[str]:
        """The command with its program found on the image's PATH."""
        found = shutil.which(command[0], path=self.environment["PATH"])
        assert found
        assert Path(found).is_relative_to(self.root)
        return [found, *command[1:]]

    def files(self) -> dict[str, int]:
        """Every file outside of what may be written, with the time of its last change."""
        outside = [
            path for path in self.root.rglob("*") if path.is_file() and "var" not in path.relative_to(self.root).parts
        ]
        return {str(path): path.stat().st_mtime_ns for path in outside}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built from the locked dependencies with their hashes, as the Dockerfile says."""
    root = tmp_path_factory.mktemp("image") / "root"
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "image-steps", root], capture_output=True, text=True, timeout=INSTALL_S
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return Image(root, json.loads((root / "start.json").read_text()))


@contextmanager
def started(image: Image, log: Path, *before: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image's entrypoint with its default command; killed if the test has not ended it."""
    command = [*before, *image.program([*image.start["entrypoint"], *image.start["cmd"]])]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=image.start["folder"], env=image.environment | environment, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)


def url_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the service answers, once it is ready."""
    until(lambda: READY.search(log.read_text()) or process.poll() is not None, "the ready line")
    found = READY.search(log.read_text())
    assert found, log.read_text()
    return found[1].replace("0.0.0.0", "127.0.0.1")


def is_healthy(image: Image, port: int) -> bool:
    """What the image's health check says."""
    command, environment = image.program(image.start["healthcheck"]), image.environment | {"PORT": str(port)}
    return subprocess.run(command, env=environment, capture_output=True, timeout=PATIENCE_S).returncode == 0


def test_the_service_runs_from_the_image(image: Image, dsn: str, psql: Psql, tmp_path: Path) -> None:
    """It loads a file, is healthy, writes nowhere but below its volume, and drains on the image's stop signal."""
    psql("create table t (a int)")
    before, log = image.files(), tmp_path / "log"
    settings = {"DATABASE_URL": dsn, "PORT": "0", "INGEST_AUTH": "off", "INGEST_TABLE_SCHEMAS": "public"}

    with started(image, log, **settings) as process:
        url = url_in(log, process)
        with closing(Client(url)) as client:
            job = client.load(b"a\n1\n2\n", "public.t")
        port = httpx.URL(url).port
        assert port
        healthy = is_healthy(image, port)
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE_S)

    assert (job["status"], job["inserted_rows"], healthy, code) == ("completed", 2, True, 0)
    assert not is_healthy(image, port)
    assert image.files() == before
    assert list((image.root / "var" / "lib" / "ingest").iterdir())


def test_as_process_1_it_gets_the_signal(image: Image, dsn: str, tmp_path: Path) -> None:
    """The kernel drops signals for process 1 that it has no handler for."""
    as_root = ("--user", "--map-root-user") if os.geteuid() else ()
    apart = ("unshare", *as_root, "--pid", "--fork", "--kill-child", "--")
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("this system does not let us make a process namespace")
    log = tmp_path / "log"
    with started(image, log, *apart, DATABASE_URL=dsn, PORT="0", INGEST_AUTH="off") as process:
        url_in(log, process)
        [one] = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert own_number(Path(f"/proc/{one}/status").read_text()) == "1"
        os.kill(int(one), signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert '"event": "stopped"' in log.read_text()


def own_number(status: str) -> str:
    """The number that a process has in its own namespace."""
    [line] = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return line.split()[-1]


def test_the_steps_want_an_empty_folder(tmp_path: Path) -> None:
    """What lies there already would be taken for a part of the image."""
    (tmp_path / "something").touch()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "image-steps", tmp_path], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stderr) == (1, f"image-steps: {tmp_path} is not empty\n")
