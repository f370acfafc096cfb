"""The service as a real process: started as a user starts it, watched through its output, always reaped.

Waiting is for lines of output and for process ends, never for time to pass.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ingest.settings import variables
from tests import canaries

READY = re.compile(r"^ingest is ready on (http://\S+)", re.MULTILINE)

# Bounds against a hang, far above what anything takes.
START_S = 60
END_S = 60

# The end of a process's output that is shown when its test has failed.
SHOWN_CHARACTERS = 5000


class Process:
    """A running `ingest` command in a process group of its own; `log` is all it has printed so far."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self.arguments = tuple(arguments)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ingest", *arguments],
            cwd=folder,
            env=clean_environment() | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            bufsize=1,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __str__(self) -> str:
        return f"ingest {' '.join(self.arguments)} (process {self.process.pid}, exit code {self.process.returncode})"

    @property
    def log(self) -> str:
        """Everything printed so far, standard output and standard error together."""
        return "".join(self._lines)

    @property
    def url(self) -> str:
        """Where the service answers, from its ready line."""
        return self.wait_for(READY)[1]

    def wait_ready(self, timeout_s: float = START_S) -> Process:
        """Wait for the ready line; fails with the log when the process ends or takes too long."""
        self.wait_for(READY, timeout_s)
        return self

    def wait_for(self, pattern: str | re.Pattern[str], timeout_s: float = START_S) -> re.Match[str]:
        """Wait until the output matches; fails with the log when the process ends or takes too long."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or re.search(pattern, self.log), timeout_s)
        found = re.search(pattern, self.log)
        assert found, f"no {pattern!r} (exit code {self.process.poll()}) in:\n{self.log}"
        return found

    def signal(self, number: int) -> None:
        """Send a signal to the process alone."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = END_S) -> int:
        """Wait for the end and for its last line; returns the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(timeout_s)
        return code

    def terminate(self, timeout_s: float = END_S) -> int:
        """SIGTERM, then wait for the end; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> int:
        """SIGKILL to the whole process group, as a crash; returns the exit code."""
        self._kill_group()
        return self.wait()

    def reap(self, grace_s: float = END_S) -> None:
        """End it whatever state it is in: asked first, so that it can write its coverage, then killed.

        Fails when it has printed something that was planted.
        """
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._kill_group()
        self.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        canaries.search(self.log, str(self))

    def _kill_group(self) -> None:
        # Not yet waited for, so the number still is this group's.
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


class Starter:
    """Starts processes that share a database, a home folder and a settings environment, and reaps them all."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)
        self.started: list[Process] = []

    def __call__(self, role: str = "serve", *arguments: str, ready: bool = True, **environment: str) -> Process:
        """Start `ingest ROLE` on a free port with these settings; by default returns when it is ready."""
        process = self.command(role, "--port", "0", *arguments, **environment)
        return process.wait_ready() if ready else process

    def command(self, *arguments: str, **environment: str) -> Process:
        """Start any `ingest` command with these settings and return at once."""
        process = Process(arguments, self.environment | environment, self.folder)
        self.started.append(process)
        return process


@contextmanager
def starting(folder: Path, environment: Mapping[str, str]) -> Iterator[Starter]:
    """A Starter whose processes have all ended when the context ends."""
    starter = Starter(folder, environment)
    try:
        yield starter
    finally:
        with ExitStack() as reaping:  # all of them, whatever one of them has printed
            for process in starter.started:
                # Shown by pytest when the test has failed.
                reaping.callback(lambda one=process: print(f"-- {one}:\n{one.log[-SHOWN_CHARACTERS:]}"))
                reaping.callback(process.reap)


def clean_environment() -> dict[str, str]:
    """Our environment without the settings of the service and without those of PostgreSQL clients."""
    ours = {variable.name for variable in variables().values()}
    found = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("PG")}
    if path := found.get("PYTHONPATH"):
        # The processes run in folders of their own, where a relative entry would lead elsewhere.
        found["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in path.split(os.pathsep))
    return found
