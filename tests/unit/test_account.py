"""The account of an embedded server: found or made, and let through folders no further than it needs."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.database.account import NAME, Account, account_for
from ingest.errors import SettingsError

# Nobody owns anything with these numbers.
STRANGER = Account(uid=54_321, gid=54_321, foreign=True)


@pytest.fixture(autouse=True)
def _folders_above_as_they_were(tmp_path: Path) -> Iterator[None]:
    modes = {folder: mode(folder) for folder in tmp_path.parents}
    yield
    for folder, before in modes.items():
        if mode(folder) != before:
            folder.chmod(before)


def mode(path: Path) -> int:
    """The permission bits of the path."""
    return stat.S_IMODE(path.stat().st_mode)


def as_root(monkeypatch: pytest.MonkeyPatch, accounts: dict[str, tuple[int, int]]) -> list[list[str]]:
    """Pretend to be root on a machine with these accounts; returns the commands that were run."""
    commands: list[list[str]] = []

    def find(name: str) -> pwd.struct_passwd:
        uid, gid = accounts[name]
        return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/false"))

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        raise FileNotFoundError

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("pwd.getpwnam", find)
    monkeypatch.setattr("subprocess.run", run)
    return commands


def test_an_ordinary_user_is_its_own_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    account = account_for(tmp_path / "new")
    assert (account.uid, account.foreign) == (1234, False)
    assert account.identity() == {}


def test_root_uses_the_account_made_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    commands = as_root(monkeypatch, {NAME: (70, 71), "postgres": (26, 26)})
    account = account_for(tmp_path / "new")
    assert account.identity() == {"user": 70, "group": 71, "extra_groups": []}
    assert commands == []


def test_root_without_useradd_uses_the_account_of_the_systems_postgresql(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands = as_root(monkeypatch, {"_postgres": (216, 216)})
    assert account_for(tmp_path / "new").uid == 216
    assert commands[0][0] == "useradd"


def test_root_without_any_account_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    as_root(monkeypatch, {})
    with pytest.raises(SettingsError) as caught:
        account_for(tmp_path / "new")
    assert caught.value.code == "E_EMBEDDED"
    assert "run as an ordinary user or set DATABASE_URL" in caught.value.detail


def test_the_way_is_opened_for_search_only_and_only_where_it_is_shut(tmp_path: Path) -> None:
    shut, open_already = tmp_path / "shut", tmp_path / "shut/open"
    open_already.mkdir(parents=True)
    open_already.chmod(0o751)
    shut.chmod(0o700)
    STRANGER.open_way(open_already / "home")
    assert mode(shut) == 0o701
    assert mode(open_already) == 0o751


def test_the_owner_and_the_group_need_no_opening(tmp_path: Path) -> None:
    tmp_path.chmod(0o710)
    mine = tmp_path.stat()
    Account(mine.st_uid, 54_321, foreign=True).open_way(tmp_path / "home")
    Account(54_321, mine.st_gid, foreign=True).open_way(tmp_path / "home")
    assert mode(tmp_path) == 0o710


def test_programs_installed_under_a_strict_umask_become_readable(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program, text = tmp_path / "bin/postgres", tmp_path / "bin/postgres.bki"
    program.touch()
    text.touch()
    program.chmod(0o700)
    text.chmod(0o600)
    (tmp_path / "bin").chmod(0o700)
    tmp_path.chmod(0o700)
    STRANGER.open_tree(tmp_path)
    assert [mode(path) for path in (tmp_path, tmp_path / "bin", program, text)] == [0o705, 0o705, 0o705, 0o604]


def test_our_own_folders_are_left_as_they_are(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    ours = Account(os.geteuid(), os.getegid(), foreign=False)
    ours.open_way(tmp_path / "home")
    ours.open_tree(tmp_path)
    assert mode(tmp_path) == 0o700
