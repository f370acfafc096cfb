"""README.md, executed from top to bottom as a newcomer would, in one shell beside a running service.

What a command prints is compared with what the README says it prints by shape: members of JSON, lines, rows of tables,
exit codes. Every block is either run or listed here with the reason why not.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from ingest.database.embedded import bin_path
from tests.acceptance.client import LOOK_S, PATIENCE_S, until
from tests.acceptance.readme import Block, Command, Comparison, Shell, blocks, commands
from tests.acceptance.running import Running, running
from tests.processes import clean_environment

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What is not run, by heading and beginning of the command or block, and why.
NOT_RUN: Mapping[tuple[str, str], str] = {
    ("Two commands", "git clone"): "the address is the reader's",
    ("Two commands", "scripts/run"): "installs for a minute; the test's own service stands for it",
    ("The picture", ""): "a picture",
    ("Send a large file over a bad line", "import { Upload }"): "needs npm; test_tus_clients runs that client",
    (
        "Load a file that the service can reach",
        "INGEST_SOURCE_ROOTS",
    ): "does not end; the test's own service has it set",
    ("Deploy", ""): "needs Docker; test_image does the steps of the image",
    ("Run it apart, on several machines", "export DATABASE_URL"): "other machines",
    ("Run it apart, on several machines", "ingest api"): "does not end; test_live starts it",
    ("Run it apart, on several machines", "ingest worker"): "does not end; test_live starts it",
    ("Working on it", ""): "the tests themselves",
}

# Fewer rows in smaller batches: several of them, since what the README tells of happens in between.
SMALLER = {"1e6": "1e5", "1000000": "100000"}
SERVICE = {"WORKER_BATCH_SIZE": "5000"}

# As a person with a spreadsheet would.
EDITOR = """#!/bin/sh
sed -e 's/^not-an-address,/nobody@example.com,/' -e 's/1912-06-31,5/1912-06-23,5/' \\
    -e 's/Dijkstra,,/Dijkstra,Rotterdam,1930-05-11/' "$1" > edited && mv edited "$1"
"""

# After the first rows of a job every batch waits for the test, so that the job can be paused and cancelled.
HOLD = """
truncate flights;
create function hold() returns trigger language plpgsql as $$ begin
    if exists (select from flights) then perform pg_advisory_xact_lock(1); end if;
    return null;
end $$;
create trigger hold before insert on flights for each statement execute function hold();
"""
LET_GO = "drop trigger hold on flights; drop function hold()"

# What a person takes a moment for: before this command, this query must be true.
WAITS = {"curl -X POST $API/jobs/$ID/pause": "select exists (select from flights)"}


class Newcomer:
    """Somebody who types what the README says and looks whether it prints what it says."""

    def __init__(self, service: Running, shell: Shell) -> None:
        self.service = service
        self.shell = shell
        self.comparison = Comparison()
        self.skipped: set[tuple[str, str]] = set()

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if self._skips(block.heading, block.text):
            return
        if block.language == "console":
            for command in commands(block):
                if not self._skips(block.heading, command.text):
                    self._type(command, block.heading)
        elif block.language == "python":
            (self.shell.folder / "program.py").write_text(block.text, encoding="utf-8")
            code, printed = self.shell.type(f"{shlex.quote(sys.executable)} program.py")
            assert code == 0, f"{block.heading}: {printed}"
        else:
            assert block.language == "toml", f"{block.heading}: a block that is neither run nor listed in NOT_RUN"
            (self.shell.folder / "orders.toml").write_text(block.text, encoding="utf-8")

    def _skips(self, heading: str, text: str) -> bool:
        self.skipped |= (found := {key for key in NOT_RUN if key[0] == heading and text.startswith(key[1])})
        return bool(found)

    def _type(self, command: Command, heading: str) -> None:
        for beginning, sql in WAITS.items():
            if command.text.startswith(beginning):
                until(lambda sql=sql: self.service.psql(sql) == "t", sql)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            code, printed = self.shell.type(self.comparison.real(command.text))
            shown = f"{heading}\n$ {command.text}\n{printed}"
            assert code == command.exit_code, f"exit code {code}: {shown}"
            assert command.printed or '"type": "/docs/problems' not in printed, shown
            try:
                if command.printed:
                    self.comparison.check(command.printed, printed)
                return
            except (AssertionError, ValueError) as error:
                if not command.only_asks or time.monotonic() > deadline:
                    raise AssertionError(f"{error}\n\nin {shown}") from error
            time.sleep(LOOK_S)


@contextmanager
def two_files(newcomer: Newcomer) -> Iterator[None]:
    """a.csv and b.csv."""
    for name in "ab":
        newcomer.shell.type(f"head -n 10 flights.csv > {name}.csv")
    yield


@contextmanager
def exported(newcomer: Newcomer) -> Iterator[None]:
    """flights.csv where the service may read it."""
    newcomer.shell.type("cp flights.csv ../exports/")
    yield


@contextmanager
def held(newcomer: Newcomer) -> Iterator[None]:
    """A load that does not end by itself."""
    psql = subprocess.Popen(
        [bin_path() / "psql", "-XAtq", "-d", newcomer.service.dsn],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment(),
    )  # fmt: skip
    assert psql.stdin is not None
    assert psql.stdout is not None
    newcomer.service.psql(HOLD)
    psql.stdin.write("select pg_advisory_lock(1); select 'held';\n")
    psql.stdin.flush()
    assert [psql.stdout.readline().strip() for _ in range(2)] == ["", "held"]
    try:
        yield
    finally:
        psql.communicate("select pg_advisory_unlock(1);\n", timeout=PATIENCE_S)
        newcomer.service.psql(LET_GO)


# What must be there before a section, by its heading.
BEFORE: Mapping[str, Callable[[Newcomer], AbstractContextManager[None]]] = {
    "Send several files, or from a form": two_files,
    "Load a file that the service can reach": exported,
    "Cancel, pause, hurry, forget": held,
}


def program(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def newcomer(shared_dsn: str, tmp_path: Path) -> Iterator[Newcomer]:
    """In a folder with an installed `ingest`, beside a service; curl shows no bar and does not wait for ever."""
    folder, exports = tmp_path / "checkout", tmp_path / "exports"
    exports.mkdir()
    program(folder / ".venv/bin/ingest", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ingest "$@"\n')
    program(tmp_path / "editor", EDITOR)
    (tmp_path / ".curlrc").write_text(f"silent\nshow-error\nmax-time = {PATIENCE_S:g}\n")
    with running(shared_dsn, tmp_path, INGEST_SOURCE_ROOTS=str(exports), **SERVICE) as service:
        environment = service.starter.environment | {
            "HOME": str(tmp_path),
            "COLUMNS": "120",
            "EDITOR": str(tmp_path / "editor"),
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        shell = Shell(folder, environment)
        try:
            yield Newcomer(service, shell)
        finally:
            shell.close()


def rewritten(text: str, service: Running, exports: Path) -> str:
    """The README for this service: its port, its folder of exports, files that are quickly loaded."""
    address = service.process.url.removeprefix("http://")
    for old, new in {"127.0.0.1:8000": address, "/srv/exports": str(exports), **SMALLER}.items():
        assert old in text, f"{old} is no longer in the README: this test rewrites it"
        text = text.replace(old, new)
    return text


@pytest.mark.slow
def test_what_the_readme_says_is_what_happens(newcomer: Newcomer, tmp_path: Path) -> None:
    """Every section in its order."""
    heading = ""
    with ExitStack() as section:
        for block in blocks(rewritten(README, newcomer.service, tmp_path / "exports")):
            if block.heading != heading:
                heading = block.heading
                section.close()
                section.enter_context(BEFORE[heading](newcomer) if heading in BEFORE else ExitStack())
            newcomer.follow(block)
    assert newcomer.skipped == set(NOT_RUN), "NOT_RUN lists what is not in the README"


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ('{"id": ..., "rows": 3, ...}', '{"id": "a", "rows": 4}'),
        ('{"id": ..., "rows": 3, ...}', '{"rows": 3}'),
        ('{"rows": 3}', '{"rows": 3, "id": "a"}'),
        ('{"jobs": [{"id": ..., ...}]}', '{"jobs": []}'),
        ('{"jobs": [...], ...}', '{"jobs": []}'),
        ('{"status": "completed", ...}', '{"status": "pending"}'),
        (" a | b\n---+---\n 1 | 2\n(1 row)", " a | b\n---+---\n 1 | 2\n 3 | 4\n(2 rows)"),
        (" a | b\n 1 | x", " a | b\n 1 | y"),
        ("HTTP/1.1 204\nUpload-Offset: 7", "HTTP/1.1 204 \nx: y"),
        ("retry: 1\n\nevent: end\nid: 1\ndata: {\"a\": 1}", "retry: 1\n\nevent: other\nid: 1\ndata: {\"a\": 1}"),
        ("retry: 1\n\nevent: end\nid: 1\ndata: {\"a\": 1}", "retry: 1\n\nevent: end\nid: 1\ndata: {\"b\": 1}"),
    ],
)  # fmt: skip
def test_what_is_not_as_the_readme_says_is_told(said: str, printed: str) -> None:
    """The comparison, which forgives ids, times and figures, forgives nothing else; and it knows what is like itself."""
    Comparison().check(said.replace(", ...", "").replace("...", "1"), said.replace(", ...", "").replace("...", "1"))
    with pytest.raises(AssertionError):
        Comparison().check(said, printed)


def test_a_block_that_is_neither_run_nor_listed_is_told() -> None:
    """A new block is somebody's promise."""
    [block] = blocks("## New\n\n```bash\nfrobnicate\n```\n")
    with pytest.raises(AssertionError, match="NOT_RUN"):
        Newcomer(None, None).follow(block)  # type: ignore[arg-type]


def test_a_prompt_takes_lines_until_the_shell_has_all() -> None:
    """Documents, open quotes, pipes and backslashes go on in the next line."""
    text = "$ cat <<'EOF'\na\n$ b\nEOF\n\n$ awk '{ print\n  }' |\n  wc \\\n  -l\n3\n"
    first, second = commands(Block("", "console", text))
    assert (first.text, first.printed) == ("cat <<'EOF'\na\n$ b\nEOF", "")
    assert (second.text, second.printed) == ("awk '{ print\n  }' |\n  wc \\\n  -l", "3")
