"""The commands that talk to a running service, as people and scripts use them."""

from __future__ import annotations

import gzip
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from ingest.client import Client as RemoteClient
from tests.acceptance.client import PATIENCE_S, Client, Ended, at_once, until
from tests.acceptance.conftest import SMALL, Connect, Run
from tests.acceptance.tables import count
from tests.conftest import Psql
from tests.processes import Process, Starter, clean_environment

UNKNOWN = "00000000-0000-0000-0000-000000000001"
Ask = Callable[..., Ended]


@pytest.fixture
def process(service: Starter, psql: Psql) -> Process:
    """A running service with a table t."""
    psql("create table t (id int primary key, name text not null)")
    return service(**SMALL)


@pytest.fixture
def ask(run: Run, process: Process) -> Ask:
    """Run a command against the service."""
    return lambda *arguments, **environment: run(*arguments, INGEST_SERVER=process.url, **environment)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file without mistakes."""
    path = tmp_path / "good.csv"
    path.write_text("id,name\n" + "".join(f"{n},name {n}\n" for n in range(10_000)))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A file with two bad records."""
    path = tmp_path / "bad.csv"
    path.write_text("id,name\n100001,a\nx,b\n100003,c\n100004\n")
    return path


def test_files_are_sent_and_followed_to_their_end(
    ask: Ask, process: Process, good: Path, bad: Path, psql: Psql
) -> None:
    """One line each in the table, exit codes as of a local load, and no bar where nobody looks."""
    sent = ask("load", good, "--dataset", "public.t", "--server", process.url)
    assert (sent.code, sent.err) == (0, "")
    assert "good.csv" in sent.out
    assert "completed" in sent.out
    assert "10,000" in sent.out
    assert count(psql, "t") == 10_000
    psql("truncate t")
    both = ask("load", good, bad, "--dataset", "public.t", "--server", process.url, "--json")
    jobs = json.loads(both.out)
    assert both.code == 3
    assert [(job["filename"], job["status"], job["failed_rows"]) for job in jobs] == [
        ("good.csv", "completed", 0), ("bad.csv", "completed", 2)
    ]  # fmt: skip


def test_a_file_that_is_refused_does_not_stop_the_others(
    ask: Ask, process: Process, tmp_path: Path, good: Path
) -> None:
    """It says why, on one line; so does one that cannot be read."""
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("a,b\n1,2\n")
    missing = tmp_path / "missing.csv"
    sent = ask("load", wrong, missing, good, "--dataset", "public.t", "--server", process.url)
    assert sent.code == 1
    assert [line.split(":")[0] for line in sent.err.splitlines()] == ["wrong.csv", "missing.csv"]
    assert "completed" in sent.out
    assert sent.out.count("refused") == 2


@pytest.mark.parametrize("name", ["good.csv.gz", "packed.csv"])
def test_a_compressed_file_is_sent_like_any_other(
    ask: Ask, process: Process, good: Path, tmp_path: Path, psql: Psql, name: str
) -> None:
    """Resumably; the service knows it by its name or its first bytes."""
    packed = tmp_path / name
    packed.write_bytes(gzip.compress(good.read_bytes()))
    done = ask("load", packed, "--dataset", "public.t", "--server", process.url, "--json")
    assert done.code == 0, done.err
    assert psql("select compression, filename from ingest.jobs") == f"gzip|{name}"
    assert psql("select count(*) from t") == "10000"
    assert psql("select state from ingest.uploads") == "completed"


def test_standard_input_options_and_rejects(run: Run, ask: Ask, process: Process, tmp_path: Path, psql: Psql) -> None:
    """A file of unknown length, in another dialect, with its rejects written beside it."""
    out = tmp_path / "rejects.csv"
    sent = run("load", "-", "--dataset", "public.t", "--server", process.url, "--delimiter", ";", "--null", "NA",
               "--rejects", out, given=b"id;name\n1;a\n2;NA\n")  # fmt: skip
    assert sent.code == 3, sent.err
    assert count(psql, "t") == 1
    assert out.read_text().splitlines()[0].startswith("id;name;_line")
    assert len(out.read_text().splitlines()) == 2


def test_jobs_are_listed_shown_and_watched(ask: Ask, connect: Connect, process: Process, good: Path, bad: Path) -> None:
    """As tables for people, as JSON for scripts."""
    client = connect(process)
    first, second = client.send(good, "public.t", name="good.csv"), client.send(bad, "public.t", name="b[red]ad.csv")
    watched = ask("watch", second)
    assert (watched.code, "completed" in watched.out, "b[red]ad.csv" in watched.out) == (3, True, True)
    client.wait(first)
    listed = ask("jobs")
    assert listed.code == 0
    assert first in listed.out
    assert second in listed.out
    found = json.loads(ask("jobs", "--json", "--limit", "1").out)
    assert ([job["id"] for job in found["jobs"]], found["total"]) == ([second], 2)
    assert json.loads(ask("job", first, "--json").out) == client.job(first) | {
        "updated_at": client.job(first)["updated_at"]
    }
    lines = [json.loads(line) for line in ask("watch", first, "--json").out.splitlines()]
    assert lines[-1]["status"] == "completed"


def test_rejects_are_shown_and_written(ask: Ask, connect: Connect, process: Process, bad: Path, tmp_path: Path) -> None:
    """A table with what is wrong where, JSON, a file, and standard output."""
    job_id = connect(process).load(bad, "public.t")["id"]
    shown = ask("rejects", job_id)
    assert shown.code == 0
    assert "E_TYPE" in shown.out
    assert "E_COLUMNS" in shown.out
    found = json.loads(ask("rejects", job_id, "--json", "--code", "E_TYPE").out)
    assert [(reject["line"], reject["value"]) for reject in found["rejects"]] == [(3, "x")]
    assert "1 of 2 reasons" in ask("rejects", job_id, "--limit", "1").err
    out = tmp_path / "rejects.csv"
    assert ask("rejects", job_id, "--csv", out).code == 0
    assert ask("rejects", job_id, "--csv", "-").out == out.read_text()
    assert out.read_text().startswith("id,name,_line,_column,_code,_error\nx,b,3,id,E_TYPE,")
    assert ask("rejects", job_id, "--csv", tmp_path / "no" / "where").error_line.startswith("ingest: ")


def test_a_job_is_controlled(
    ask: Ask, service: Starter, process: Process, psql: Psql, good: Path, connect: Connect
) -> None:
    """Pause, resume, priority, cancel, delete; what cannot be is said in a line."""
    psql("create function slowly() returns trigger language plpgsql as $$ begin perform pg_sleep(3); return null; end $$;"
         "create trigger slowly after insert on t for each statement execute function slowly()")  # fmt: skip
    client: Client = connect(process)
    job_id = client.send(good, "public.t")
    until(lambda: client.job(job_id)["processed_rows"], "it runs")
    assert "paused" in ask("pause", job_id).out
    assert (
        ask("pause", job_id).error_line
        == "ingest: the job is paused; only one that is pending or processing can be paused"
    )
    assert json.loads(ask("priority", job_id, "9", "--json").out)["priority"] == 9
    resumed = ask("resume", job_id).out
    assert "pending" in resumed or "processing" in resumed  # a worker may have been faster than the answer
    assert ask("delete", job_id).code == 1
    cancelled = ask("cancel", job_id)
    assert (cancelled.code, "cancelled" in cancelled.out) == (0, True)
    assert "rows of the file are in the table" in cancelled.error_line
    assert ask("retry", job_id).code == 1
    assert ask("watch", job_id).code == 1
    assert ask("delete", job_id).out == f"deleted {job_id}\n"
    assert ask("job", job_id).error_line == f"ingest: there is no job '{job_id}'"


@pytest.mark.parametrize(
    "arguments",
    [("jobs",), ("job", UNKNOWN), ("cancel", UNKNOWN), ("delete", UNKNOWN), ("rejects", UNKNOWN),
     ("rejects", UNKNOWN, "--csv", "-")],
)  # fmt: skip
def test_a_server_that_is_away(run: Run, arguments: tuple[str, ...]) -> None:
    """One line, exit code 1, no traceback and no key."""
    ended = run(*arguments, "--server", "http://127.0.0.1:1", INGEST_API_KEY="ing_secret")
    assert (ended.code, ended.out) == (1, "")
    assert ended.error_line.startswith("ingest: the server at http://127.0.0.1:1 cannot be reached")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [(("job", "x"), "not a valid UUID"), (("jobs", "--server", "nowhere"), "http://host:port"),
     (("rejects", UNKNOWN, "--csv", "-", "--json"), "--csv"), (("priority", UNKNOWN, "10"), "0<=x<=9")],
)  # fmt: skip
def test_wrong_usage(run: Run, arguments: tuple[str, ...], text: str) -> None:
    """Exit code 2, before anything is asked."""
    ended = run(*arguments)
    assert ended.code == 2
    assert text in ended.err


def test_a_bar_on_a_terminal(service: Starter, process: Process, good: Path) -> None:
    """On standard error, alive while the file is sent and loaded."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ingest", "load", str(good), "--dataset", "public.t", "--server", process.url]
    environment = clean_environment() | service.environment | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment, cwd=service.folder, text=True
    ) as running:
        os.close(theirs)
        shown = b""
        while piece := _read(ours):
            shown += piece
        assert running.stdout is not None
        out = running.stdout.read()
        assert running.wait(PATIENCE_S) == 0
    os.close(ours)
    assert b"sending good.csv" in shown
    assert b"completed, 10,000 rows" in shown
    assert "completed" in out


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end was closed
        return b""


def test_commands_at_once(ask: Ask, connect: Connect, process: Process, good: Path) -> None:
    """Several scripts do not disturb each other."""
    client = connect(process)
    ids = [client.send(b"id,name\n%d,a\n" % n, "public.t") for n in range(4)]
    assert [ended.code for ended in at_once([lambda job_id=job_id: ask("watch", job_id) for job_id in ids])] == [0] * 4  # type: ignore[misc]


class Disturbed(io.BytesIO):
    """A file; when a place in it has been read for the first time, something happens."""

    def __init__(self, data: bytes, place: int, disturb: Callable[[], object]) -> None:
        super().__init__(data)
        self._place = place
        self._disturb: Callable[[], object] | None = disturb

    def read(self, size: int | None = -1) -> bytes:
        """Read; disturb once."""
        if self._disturb is not None and self.tell() >= self._place:
            disturb, self._disturb = self._disturb, None
            disturb()
        return super().read(size)


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
def test_an_upload_and_a_watch_outlast_a_crash_of_the_service(
    service: Starter, connect: Connect, psql: Psql, loop: str
) -> None:
    """Killed in the middle of a file, and again in the middle of the load; each row is there once."""
    psql("create table t (id int, name text)")
    first = service(**SMALL)
    if connect(first).get("/api/v1/csv/files").status_code == 404:
        pytest.skip("the service has no resumable uploads")
    data = b"id,name\n" + b"".join(b"%d,name %d\n" % (n, n) for n in range(1_000_000))
    port = first.url.rpartition(":")[2]
    running = [first]

    def crash() -> None:
        running[-1].kill()
        running.append(service("serve", "--port", port, ready=False, **SMALL))

    async def main() -> str:
        async with RemoteClient(first.url) as client:
            file = Disturbed(data, len(data) // 2, crash)
            job = await client.upload(file, dataset="public.t", filename="f.csv", resumable=True)
            async with client.watch(job.id) as changes:
                async for found in changes:
                    if found.processed_rows and len(running) == 2:
                        crash()
        return found.status

    assert anyio.run(main, backend=loop) == "completed"
    assert len(running) == 3
    assert psql("select count(*), count(distinct id) from t") == "1000000|1000000"
