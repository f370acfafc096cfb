"""What `.ci/run` installs before it tests: on a machine of links to programs that do nothing but note their call."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.needed import missing

SCRIPT = Path(__file__).parents[2] / ".ci" / "run"
REAL = ("bash", "dirname", "rm", "env")


@dataclass
class Machine:
    """A checkout that holds `.ci/run` alone, and the programs there are."""

    root: Path
    programs: list[str] = field(default_factory=list)

    def run(self, *, user: int = 0, apt_fails_at: str = "") -> tuple[list[str], str]:
        """Run the script; returns the calls that were made and what it said."""
        folder, calls = self.root / "bin", self.root / "calls"
        (self.root / ".ci").mkdir()
        shutil.copy(SCRIPT, self.root / ".ci")
        for name in ("scripts/check", "scripts/bench", "scripts/test"):
            self._program(self.root / name, 'echo "$0 $INGEST_TEST_PICTURES" >> "$CALLS"')
        for name in self.programs:
            failing = f'case "$*" in *{apt_fails_at}*) exit 1;; esac' if apt_fails_at else ""
            self._program(folder / name, f'echo "{name} $*" >> "$CALLS"; {failing}')
        self._program(folder / "id", f"echo {user}")
        for name in REAL:
            (folder / name).symlink_to(str(shutil.which(name)))
        environment = {"PATH": str(folder), "CALLS": str(calls), "HOME": str(self.root)}
        done = subprocess.run(
            [self.root / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return calls.read_text().splitlines(), done.stderr

    def _program(self, path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def the_rest(machine: Machine) -> list[str]:
    """The calls that come at the end, whatever was installed."""
    pictures = machine.root / ".ci" / "artefacts" / "page"
    return [f"scripts/{name} {pictures}" for name in ("check", "bench", "test")]


def test_nothing_is_installed_where_all_is_there(machine: Machine) -> None:
    machine.programs = ["apt-get", "google-chrome", "node", "npm"]
    assert machine.run() == (the_rest(machine), "")


def test_what_is_missing_is_installed_by_root(machine: Machine) -> None:
    machine.programs = ["apt-get", "node"]
    calls, said = machine.run()
    update, install, *rest = calls
    assert update == "apt-get -qq update"
    assert install.split("install ")[1] == "chromium fonts-dejavu-core npm"
    assert (rest, said) == (the_rest(machine), "")


@pytest.mark.parametrize(("programs", "user"), [(["apt-get"], 1000), ([], 0)], ids=["no root", "no apt-get"])
def test_what_cannot_be_installed_is_said(machine: Machine, programs: list[str], user: int) -> None:
    machine.programs = programs
    calls, said = machine.run(user=user)
    assert calls == the_rest(machine)
    assert said.count("\n") == 1
    assert "chromium fonts-dejavu-core nodejs npm" in said


@pytest.mark.parametrize("step", ["update", "install"])
def test_a_failed_installation_is_said(machine: Machine, step: str) -> None:
    machine.programs = ["apt-get"]
    calls, said = machine.run(apt_fails_at=step)
    assert calls[-3:] == the_rest(machine)
    assert (
        said == ".ci/run: apt-get could not install chromium fonts-dejavu-core nodejs npm; tests that need them fail\n"
    )


@pytest.mark.parametrize(("ci", "ending"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_what_is_missing_fails_in_ci_and_is_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, ending: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ending, match="no browser"):
        missing("no browser")
