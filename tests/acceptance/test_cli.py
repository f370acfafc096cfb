"""The commands that need no running service: migrate, load, datasets; exit codes and what they print where."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.client import CUT_ALL, PATIENCE_S, Ended, at_once, until
from tests.acceptance.conftest import SMALL, Run
from tests.acceptance.tables import count, digest
from tests.acceptance.test_crashes import prepare_lineitem
from tests.conftest import Psql, named, run_psql
from tests.processes import Starter, clean_environment

NOWHERE = "postgresql://somebody:geheim@127.0.0.1:1/nowhere"


@pytest.fixture
def table(psql: Psql) -> None:
    """A table t to load into."""
    psql("create table t (id int primary key, name text not null)")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file."""

    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


Write = Callable[[str, str], Path]


def test_migrate_applies_each_script_once_and_says_what_it_would_do(run: Run, server: str) -> None:
    name = f"empty_{os.getpid()}"
    run_psql(server, f"create database {name}")
    dsn = named(server, name)
    schemas = "select count(*) from pg_namespace where nspname = 'ingest'"

    dry = run("migrate", "--dry-run", DATABASE_URL=dsn)
    assert (dry.code, run_psql(dsn, schemas)) == (0, "0")
    first = run("migrate", DATABASE_URL=dsn)
    second = run("migrate", DATABASE_URL=dsn)

    assert (first.code, second.code) == (0, 0)
    assert dry.out.replace("would apply", "applied") == first.out
    assert first.out.splitlines()[0].startswith("applied 000_create_tables")
    assert len(first.out.splitlines()) == int(run_psql(dsn, "select count(*) from ingest.migrations"))
    assert second.out == "nothing to apply\n"
    run_psql(server, f"drop database {name} with (force)")


@pytest.mark.usefixtures("table")
def test_load_says_in_its_exit_code_how_it_went(run: Run, psql: Psql, write: Write) -> None:
    good = write("good.csv", "id,name\n1,one\n2,two\n")
    dirty = write("dirty.csv", "id,name\n3,three\nx,four\n5,\n")
    bad = write("bad.csv", "id,name\nsix,6\n")
    expected: dict[tuple[str | Path, ...], tuple[int, str]] = {
        (good,): (0, ""),
        (dirty,): (3, ""),
        (bad,): (1, "none of the 1 records could be loaded"),
        (good.with_name("gone.csv"),): (1, "gone.csv"),
        (good, "--delimiter", "xx"): (2, "delimiter"),
        (good, "--colour", "red"): (2, "--colour"),
        (): (2, "FILE"),
    }
    every = at_once(partial(run, "load", *arguments, "--dataset", "public.t") for arguments in expected)
    for (code, words), ended in zip(expected.values(), every, strict=True):
        assert ended.code == code, ended
        assert words in ended.err
        assert "Traceback" not in ended.err
    wrong = run("load", good, "--dataset", "public.nope")
    assert (wrong.code, "public.nope" in wrong.error_line) == (1, True)
    assert psql("select string_agg(id || name, ' ' order by id) from t") == "1one 2two 3three"
    assert psql("select distinct line from ingest.rejects order by 1") == "2\n3\n4"


@pytest.mark.usefixtures("table")
def test_load_takes_several_files_and_standard_input(run: Run, psql: Psql, write: Write) -> None:
    one, bad = write("one.csv", "id,name\n1,one\n"), write("bad.csv", "id,nope\n2,two\n")

    ended = run("load", one, bad, "-", "--dataset", "public.t", "--json", given=b"name,id\nthree,3\n")

    assert ended.code == 1
    jobs = json.loads(ended.out)
    assert [job["filename"] for job in jobs] == ["one.csv", "bad.csv", "stdin"]
    assert [job["status"] for job in jobs] == ["completed", "refused", "completed"]
    assert jobs[1]["error"]["code"] == "E_HEADER_MISMATCH"
    assert [jobs[0]["processed_rows"], jobs[2]["processed_rows"]] == [1, 1]
    assert psql("select string_agg(id || name, ' ' order by id) from t") == "1one 3three"


@pytest.mark.usefixtures("table")
def test_load_takes_a_mode(run: Run, psql: Psql, tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("id,name\n1,a\n2,b\n")

    tried = run("load", path, "--dataset", "public.t", "--mode", "validate", "--json")
    assert (tried.code, json.loads(tried.out)[0]["processed_rows"], count(psql, "t")) == (0, 2, 0), tried.err
    done = run("load", path, "--dataset", "public.t", "--mode", "atomic", "--json")
    assert (done.code, count(psql, "t")) == (0, 2), done.err


@pytest.mark.usefixtures("table")
def test_load_reads_other_dialects(run: Run, psql: Psql, write: Write) -> None:
    psql("alter table t alter name drop not null")
    path = write("file.tsv", "id\tname\n1\t'a\tb'\n2\tNA\n3\t'NA'\n")

    ended = run("load", path, "--dataset", "public.t", "--delimiter", "tab", "--quote", "'", "--null", "NA")

    assert ended.code == 0, ended
    assert psql("select id, name from t order by id") == "1|a\tb\n2|\n3|NA"


@pytest.mark.usefixtures("table")
def test_load_leaves_the_file_alone_and_no_copy_of_it(run: Run, write: Write, stored: Callable[[], list[Path]]) -> None:
    text = "id,name\n" + "".join(f"{i},name {i}\n" for i in range(5000))
    path = write("file.csv", text)
    assert run("load", path, "--dataset", "public.t").code == 0
    assert run("load", "-", "--dataset", "public.t", given=b"id,name\n-1,x\n").code == 0
    assert path.read_text() == text
    assert stored() == []


def test_a_load_that_was_killed_goes_on_where_it_was(
    service: Starter, run: Run, psql: Psql, small_lineitem_csv: Path
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    arguments = ("load", str(small_lineitem_csv), "--dataset", "public.lineitem")
    first = service.command(*arguments, **SMALL)
    until(lambda: count(psql, "ingest.ledger") > 20, "a part is loaded")
    first.kill()
    assert count(psql, "lineitem") < 100_000

    ended = run(*arguments, "--json", **SMALL)

    assert ended.code == 0, ended
    [job] = json.loads(ended.out)
    assert (job["status"], job["processed_rows"]) == ("completed", 100_000)
    assert psql("select id from ingest.jobs") == job["id"]
    assert digest(psql, "lineitem") == digest(psql, "reference")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_load_that_is_interrupted_hands_its_work_back(
    service: Starter, run: Run, psql: Psql, small_lineitem_csv: Path, number: int
) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    arguments = ("load", str(small_lineitem_csv), "--dataset", "public.lineitem")
    first = service.command(*arguments, **SMALL)
    until(lambda: count(psql, "ingest.ledger") > 20, "a part is loaded")

    first.signal(number)

    assert first.wait() == 128 + number, first.log
    assert first.log.startswith(f"ingest: interrupted by {signal.Signals(number).name}; give the same command again")
    assert len(first.log.splitlines()) == 1
    assert count(psql, "ingest.chunks where state = 'processing'") == 0
    assert (count(psql, "ingest.leases"), count(psql, "ingest.workers")) == (0, 0)
    assert run(*arguments, **SMALL).code == 0
    assert digest(psql, "lineitem") == digest(psql, "reference")


@pytest.mark.usefixtures("table")
def test_a_load_that_waits_for_standard_input_can_be_interrupted(service: Starter, psql: Psql) -> None:
    program = [sys.executable, "-m", "ingest", "load", "-", "--dataset", "public.t"]
    environment = clean_environment() | service.environment
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(program, env=environment, **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(b"id,name\n" + b"1,one\n" * 1000)
        process.stdin.flush()
        until(lambda: count(psql, "ingest.jobs") == 1, "the load has begun")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 130
        assert process.stderr.read() == b"ingest: interrupted by SIGINT\n"
    assert psql("select state, error_code from ingest.jobs") == "failed|E_UPLOAD_INCOMPLETE"
    assert (count(psql, "t"), count(psql, "ingest.chunks")) == (0, 0)


def test_a_load_outlives_its_connections(service: Starter, psql: Psql, small_lineitem_csv: Path) -> None:
    prepare_lineitem(psql, small_lineitem_csv)
    process = service.command("load", str(small_lineitem_csv), "--dataset", "public.lineitem", **SMALL)
    for batches in (20, 60, 100):
        until(lambda batches=batches: count(psql, "ingest.ledger") > batches, "a part is loaded")  # type: ignore[misc]
        psql(CUT_ALL)
    assert process.wait() == 0, process.log
    assert digest(psql, "lineitem") == digest(psql, "reference")


@pytest.mark.usefixtures("table")
def test_datasets_are_listed_and_shown(run: Run) -> None:
    asked = (
        ("list",),
        ("list", "--json"),
        ("show", "public.t"),
        ("show", "public.t", "--json"),
        ("show", "public.nope"),
    )
    listed, listed_json, shown, shown_json, missing = at_once(partial(run, "datasets", *words) for words in asked)
    assert [ended.code for ended in (listed, listed_json, shown, shown_json, missing)] == [0, 0, 0, 0, 1]
    assert {line.split()[0] for line in listed.out.splitlines()} >= {"customers", "public.t"}
    assert {dataset["name"] for dataset in json.loads(listed_json.out)} >= {"customers", "public.t"}
    assert [line.split()[:2] for line in shown.out.splitlines()[1:]] == [["id", "integer"], ["name", "text"]]
    [column, _] = json.loads(shown_json.out)["columns"]
    assert (column["name"], column["type"], column["required"], column["is_key"]) == ("id", "integer", True, True)
    assert "public.nope" in missing.error_line


def test_a_wrong_setting_stops_the_start_with_one_line(run: Run) -> None:
    wrong = {
        "WORKER_BATCH_SIZE=many": "WORKER_BATCH_SIZE=many: must be records, from 1 to 1000000",
        "WORKER_BATCH_SIZE=0": "WORKER_BATCH_SIZE=0: must be",
        "WORKER_LEASE_TTL=100": "WORKER_LEASE_TTL=100: must be",
        "PORT=70000": "PORT=70000: must be",
        "LOG_FORMAT=xml": "LOG_FORMAT=xml: must be",
        "HOST=0.0.0.0": "HOST=0.0.0.0",
        "DATABASE_URL=mysql://root:geheim@db/x": "DATABASE_URL=mysql://***@db/x: must be",
        "STORAGE_URL=s3://bucket": "STORAGE_URL=s3",
    }

    def start(setting: str) -> Ended:
        variable, _, value = setting.partition("=")
        return run("serve", **{"PORT": "0"} | {variable: value})

    for words, ended in zip(wrong.values(), at_once(partial(start, setting) for setting in wrong), strict=True):
        assert (ended.code, ended.out) == (2, "")
        assert ended.error_line.startswith(f"ingest: {words}")
        assert "geheim" not in ended.err


def test_a_port_in_use_stops_the_start_with_one_line(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run("serve", "--port", str(port))
    assert (ended.code, ended.out) == (2, "")
    assert f"PORT={port}" in ended.error_line
    assert "another process listens there" in ended.error_line


def test_a_database_that_is_not_there_is_said_in_one_line(run: Run) -> None:
    commands = (
        ("serve", "--port", "0"),
        ("worker", "--port", "0"),
        ("migrate",),
        ("datasets", "list"),
        ("load", "-", "--dataset", "public.t"),
    )

    for ended in at_once(partial(run, *command, DATABASE_URL=NOWHERE, DATABASE_WAIT="0") for command in commands):
        assert (ended.code, ended.out) == (1, "")
        assert ended.error_line.startswith("ingest: the database cannot be reached")
        assert "geheim" not in ended.err
