"""The bytes of a COPY on their way to the server: past the event loop, from a worker thread straight into the socket.

Through asyncio's transport a COPY costs a dozen trips through two event loops for each MiB, and while the loop is busy
with one connection the server waits for data on the others: two writers kept 1.2 backends busy. A thread that is
inside `send` or `poll` holds no interpreter lock, so here the server is fed as fast as it reads.

The thread is the only one to write to the socket while it runs: asyncpg has sent the COPY statement and waits for us.
Where that cannot be known (TLS, unsent bytes in the transport), and for a few bytes, they go through the transport as
usual.
"""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# The server takes a message in whole before it looks at it: small messages let it parse while more arrives.
MESSAGE_BYTES = 64 * 1024
# A thread is not worth its while for so few.
FEW_BYTES = 256 * 1024
# Pieces given to one system call: more than the socket has room for, less than its limit (IOV_MAX, 1024).
BUFFERS = 16
# How long a thread waits for room in the socket before it tells that the server stalls, long beside what a server needs
# that is at work; then twice as long, and so on, up to how long it may take to see that it was told to stop.
STALL_MS, POLL_MS = 5, 500


async def copy_source(connection: PoolConnectionProxy, data: bytes) -> AsyncIterator[memoryview]:
    """Send `data` for the COPY that `connection` has begun; yields only what has to go through the transport.

    Raises OSError when the connection is lost. Cancelled, it shuts the connection down and waits for the thread.
    """
    transport = connection._con._transport
    is_ours = transport.get_extra_info("ssl_object") is None and not transport.get_write_buffer_size()
    if len(data) <= FEW_BYTES or not is_ours:
        view = memoryview(data)
        for start in range(0, len(view), MESSAGE_BYTES):
            yield view[start : start + MESSAGE_BYTES]
        return
    own, loop = connection._con, asyncio.get_running_loop()  # the pool may take it from its proxy while we wait
    feed = _Feed(transport.get_extra_info("socket").dup(), data, lambda: loop.call_soon_threadsafe(own.read_up))
    own.resting = True
    sent = loop.run_in_executor(None, feed.run)
    try:
        await asyncio.shield(sent)
    except asyncio.CancelledError:
        feed.stop()
        transport.abort()
        await asyncio.wait([sent])
        raise
    finally:
        own.end_rest()


class _Feed:
    """Sends one batch into a socket. `run` belongs to a worker thread, `stop` to the event loop.

    `on_stall` is called in the thread, again and again, while the server takes nothing.
    """

    def __init__(self, own_socket: socket.socket, data: bytes, on_stall: Callable[[], object]) -> None:
        self._socket = own_socket  # a duplicate: its number cannot be given to another file while we write
        self._data = data
        self._on_stall = on_stall
        self._stopped = False

    def run(self) -> None:
        """Send all bytes as CopyData messages. Raises OSError when the connection is lost."""
        # Taken out, because asyncio's futures form cycles that keep this object until the next collection of garbage.
        data, self._data = self._data, b""
        with self._socket:
            rest = _messages(data)
            writable = select.poll()
            writable.register(self._socket, select.POLLOUT)
            wait_ms = STALL_MS
            while rest and not self._stopped:
                try:
                    _advance(rest, self._socket.sendmsg([*islice(rest, BUFFERS)]))
                    wait_ms = STALL_MS
                except BlockingIOError:
                    if not writable.poll(wait_ms):
                        self._on_stall()
                        wait_ms = min(wait_ms * 2, POLL_MS)

    def stop(self) -> None:
        """Make `run` return soon, with the connection unusable."""
        self._stopped = True


def _messages(data: bytes) -> deque[memoryview]:
    """Return `data` as CopyData messages (PostgreSQL manual, "Message Formats"), head and body in turn, uncopied."""
    view = memoryview(data)
    messages: deque[memoryview] = deque()
    for start in range(0, len(view), MESSAGE_BYTES):
        body = view[start : start + MESSAGE_BYTES]
        messages += (memoryview(struct.pack("!ci", b"d", len(body) + 4)), body)
    return messages


def _advance(rest: deque[memoryview], sent_bytes: int) -> None:
    """Drop the first `sent_bytes` of what is still to be sent."""
    while sent_bytes:
        first = rest.popleft()
        if sent_bytes < len(first):
            rest.appendleft(first[sent_bytes:])
            return
        sent_bytes -= len(first)
