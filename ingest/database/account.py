"""The operating system user an embedded server runs as: ourselves, or if we are root another, as PostgreSQL insists."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import structlog

from ingest.errors import SettingsError

NAME = "pgserver"
# Accounts that exist for a PostgreSQL server: ours, that of Linux packages, that of macOS.
FALLBACKS = (NAME, "postgres", "_postgres")

log = structlog.get_logger(__name__)


class Identity(TypedDict, total=False):
    """The arguments of `subprocess.run` that change who runs the program."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """A user and a group; `foreign` when they are not those of this process."""

    uid: int
    gid: int
    foreign: bool

    def identity(self) -> Identity:
        """Arguments for `subprocess.run`; as root all of root's groups are left behind too."""
        return Identity(user=self.uid, group=self.gid, extra_groups=[]) if self.foreign else Identity()

    def take(self, path: Path) -> None:
        """Make a file or folder of ours the account's."""
        if self.foreign:
            os.chown(path, self.uid, self.gid)

    def private_folder(self, path: Path) -> Path:
        """Make the folder for this account alone, or raise SettingsError when it is somebody else's."""
        try:
            path.mkdir(mode=0o700)
            self.take(path)
        except FileExistsError:
            pass
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.uid:
            raise SettingsError(f"embedded PostgreSQL: {path} belongs to another user", code="E_EMBEDDED")
        return path

    def open_way(self, path: Path) -> None:
        """Let the account walk to the path: search permission, never read, and only on parents where it is missing."""
        if not self.foreign:
            return
        for folder in path.parents:
            found = folder.stat()
            if not self._may_search(found):
                folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
                log.warning("folder opened for search", folder=str(folder), uid=self.uid)

    def open_tree(self, root: Path) -> None:
        """Let the account read everything below root, where a strict umask kept the installed programs private."""
        if not self.foreign or root.stat().st_mode & stat.S_IROTH:
            return
        for folder, _, files in os.walk(root):
            for path in (Path(folder), *(Path(folder, name) for name in files)):
                mode = stat.S_IMODE(path.stat().st_mode)
                path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))

    def _may_search(self, found: os.stat_result) -> bool:
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        if found.st_gid == self.gid:
            return bool(found.st_mode & stat.S_IXGRP)
        return bool(found.st_mode & stat.S_IXOTH)


def account_for(home: Path) -> Account:
    """Who runs the server in `home`: ourselves; as root the folder's owner, or an account made for it.

    Raises SettingsError when the folder is another user's, or when root finds no account to use.
    """
    owner = home.stat().st_uid if home.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise SettingsError(
                f"embedded PostgreSQL: {home} belongs to another user; run as that user, set INGEST_HOME to another "
                "folder, or set DATABASE_URL",
                code="E_EMBEDDED",
            )
        return Account(os.geteuid(), os.getegid(), foreign=False)
    entry = pwd.getpwuid(owner) if owner else _account_for_root()
    return Account(entry.pw_uid, entry.pw_gid, foreign=True)


def _account_for_root() -> pwd.struct_passwd:
    for attempt in (_find, _make_and_find):
        if entry := attempt():
            return entry
    raise SettingsError(
        "embedded PostgreSQL: it does not run as root and no other account could be made; run as an ordinary user or "
        "set DATABASE_URL",
        code="E_EMBEDDED",
    )


def _find(names: tuple[str, ...] = (NAME,)) -> pwd.struct_passwd | None:
    for name in names:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def _make_and_find() -> pwd.struct_passwd | None:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        # It fails when another process was faster, and then the account is there all the same.
        subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        log.info("no useradd here")
    return _find(FALLBACKS)
