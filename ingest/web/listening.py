"""Where the service listens: the sockets, their options, and one line for a person when that cannot be done."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

import trio

from ingest.errors import SettingsError

# Connections that wait to be accepted while the loop is busy; the system caps it (net.core.somaxconn).
BACKLOG = 1024

# Peers that vanished without a word: asked after 30 s of silence, given up after three questions or a minute in which
# nothing we sent was taken.
SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 30),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 10),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 60_000),
)

BIND_ERRORS = {
    errno.EADDRINUSE: "another process listens there; stop it or choose another PORT (0 = any free one)",
    errno.EACCES: "this user may not use it; choose a PORT above 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; HOST must be one of its own, or 0.0.0.0 for all",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the service listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as a URL without a path."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


async def listen(host: str, port: int) -> list[trio.SocketListener]:
    """Return listening sockets for every address of `host`; port 0 means any free one.

    Raises SettingsError (one line) when that is not possible. Cancellation leaves no socket open.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as error:
        reason = BIND_ERRORS.get(error.errno or 0, error.strerror or str(error))
        raise SettingsError(f"cannot listen on HOST={host} PORT={port}: {reason}") from error
    for listener in listeners:
        _set_options(listener.socket)
    return listeners


def _set_options(sock: trio.socket.SocketType) -> None:
    for level, name, value in SOCKET_OPTIONS:
        if hasattr(socket, name):  # not every system has them all; accepted sockets inherit them
            sock.setsockopt(level, getattr(socket, name), value)
