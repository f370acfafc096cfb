"""The HTTP edge: hypercorn's HTTP/1.1 under our own supervision.

hypercorn 0.18 as it comes ends the whole process when one connection crashes, waits without limit for a client that
stops reading, and switches to HTTP/2 on demand, where one slow upload blocks every stream of its connection. Its
`serve` offers no place to change that short of replacing its globals, so the accept loop is ours (the same two
nurseries) and each connection is a subclass of hypercorn's, speaking HTTP/1.1 and nothing else. A proxy in front may
speak HTTP/2 to clients.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
from functools import partial
from typing import Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from hypercorn.utils import parse_socket_addr

from ingest.errors import SettingsError
from ingest.web.atonce import KEY
from ingest.web.listening import Address, listen
from ingest.web.protocol import MESSAGE_BYTES, Http1

# Our subclasses, here and in `protocol` and `quartconnection`, reach into these; another version must be read and tried
# before it is allowed here.
TRIED_VERSIONS = {"h11": "0.16.0", "hypercorn": "0.18.0", "quart-trio": "0.12.0"}

# How long a client may leave a piece of an answer unread: long enough for a pause, short enough to get the memory back.
SEND_STALL_S = 60.0
SEND_PIECE_BYTES = 64 * 1024
# The same once the service is stopping: a client that reads at all takes a piece well within this.
STOPPING_STALL_S = 2.0
# So much is tried to be sent without a turn of the loop: an answer or an event, not a stretch of a file.
AT_ONCE_BYTES = 16 * 1024
# Longer than the idle time of common load balancers (60 s): they close first and never reuse a connection we closed.
KEEP_ALIVE_S = 65.0
# The most that is taken from a client at once; eight times hypercorn's, for an eighth of the trips.
RECEIVE_BYTES = 512 * 1024
log = structlog.get_logger("ingest.web")


async def serve_http(
    app: ASGIFramework,
    *,
    host: str,
    port: int,
    shutdown: trio.Event,
    grace_s: float,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until `shutdown` is set, then for at most `grace_s` seconds more.

    `started` gives the address once connections are accepted.
    After `shutdown` no connection is accepted, idle ones close at once, clients that do not read are cut after
    STOPPING_STALL_S, and requests under way may finish within the grace. Cancellation cuts every connection at once.
    Raises SettingsError (one line) when the address cannot be used.
    """
    _check_versions()
    stalls = Stalls()
    context = WorkerContext(None)
    config = _config()

    async def handle(stream: trio.SocketStream) -> None:
        await Connection(stalls, app, config, context, stream).run()

    listeners = await listen(host, port)
    async with trio.open_nursery() as connections:
        async with trio.open_nursery() as accepting:
            accepting.start_soon(partial(trio.serve_listeners, handle, listeners, handler_nursery=connections))
            task_status.started(Address(host, listeners[0].socket.getsockname()[1]))
            await shutdown.wait()
            accepting.cancel_scope.cancel(reason="shutdown")
        connections.cancel_scope.deadline = trio.current_time() + grace_s
        stalls.hurry()
        await context.terminated.set()


class Stalls:
    """How long a client may leave what we send unread: one limit for all connections, lowered for all when we stop."""

    def __init__(self) -> None:
        self._limit_s = SEND_STALL_S
        self._sending: set[trio.CancelScope] = set()

    async def send(self, stream: trio.abc.Stream, piece: memoryview) -> bool:
        """Send a piece; False when the client left it unread for too long. Cancellation may leave it half sent."""
        with trio.move_on_after(self._limit_s) as scope:
            self._sending.add(scope)
            try:
                await stream.send_all(piece)
            finally:
                self._sending.discard(scope)
        return not scope.cancelled_caught

    def hurry(self) -> None:
        """Lower the limit, also for sends that wait already."""
        self._limit_s = STOPPING_STALL_S
        latest = trio.current_time() + STOPPING_STALL_S
        for scope in self._sending:
            scope.deadline = min(scope.deadline, latest)


class Connection(TCPServer):
    """One client connection of hypercorn's, contained: whatever goes wrong in it costs this connection only."""

    def __init__(
        self, stalls: Stalls, app: ASGIFramework, config: Config, context: WorkerContext, stream: trio.SocketStream
    ) -> None:
        super().__init__(ASGIWrapper(app), config, context, ConnectionState({}), cast("Any", stream))
        self._stalls = stalls
        self._socket = stream.socket
        self._life = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._ended = False  # the client sends no more; nothing to be idle for
        self._rest = b""  # of a part of an answer that went out only in part: it goes first

    async def run(self) -> None:
        """Serve the connection to its end. Cancellation closes the socket at once."""
        try:
            with self._life:
                await self._serve()
        except* OSError:
            pass  # the client has gone
        except* Exception as crash:
            log.warning("connection_crashed", exc_info=crash)
        finally:
            # hypercorn's own close cannot get here when it is cancelled on the way.
            self._socket.close()

    async def _serve(self) -> None:
        client = parse_socket_addr(self._socket.family, self._socket.getpeername())
        server = parse_socket_addr(self._socket.family, self._socket.getsockname())
        state = ConnectionState({KEY: self.send_at_once})
        try:
            async with TaskGroup() as group:
                self._task_group = group
                protocol = Http1(
                    self.app, self.config, self.context, group, state, False, client, server, self.protocol_send
                )
                self.protocol = cast("ProtocolWrapper", protocol)  # the wrapper's one task is to change to HTTP/2
                await self.idle_task.restart(group, self._idle_timeout)
                with self._reading:
                    await self._read_data()
                # hypercorn lets a connection that the client has closed wait for the end of its idle time.
                self._ended = True
                await self.idle_task.stop()
        finally:
            await self._close()

    async def _read_data(self) -> None:
        """Hand on what the client sends until it closes; an upload costs a trip through h11 and a queue a piece."""
        data: bytes | bytearray = b"?"
        while data:
            try:
                data = await self.stream.receive_some(RECEIVE_BYTES)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            await self.protocol.handle(RawData(bytes(data)))
        await self.protocol.handle(Closed())

    async def protocol_send(self, event: Event) -> None:
        """Send bytes within the stall limit, in pieces so that a slow client is not taken for one that stopped."""
        if isinstance(event, RawData):
            async with self.send_lock:
                await self._send(event.data)
        elif not (self._ended and isinstance(event, Updated)):
            await super().protocol_send(event)
            if isinstance(event, Closed):
                self._stop_reading()

    def _stop_reading(self) -> None:
        # With requests sent in advance, hypercorn's reader waits for a turn that never comes once the answering ends.
        self._reading.cancel(reason="connection closed")

    def send_at_once(self, data: bytes) -> bool:
        """Send a part of the answer that is under way, if nothing else is and the socket has room for it (`AtOnce`)."""
        if self._rest or self.send_lock.locked():
            return False
        framed = cast("Http1", self.protocol).framed(data)
        sent = self._send_at_once(framed)
        self._rest = framed[sent:] if sent else b""
        return 0 < sent == len(framed)

    def _send_at_once(self, data: bytes) -> int:
        """Send what the socket has room for, and return how much that was; what is wrong with it is found by a send.

        Of what an event costs, going by way of Trio is the half, which counts where hundreds read along.
        """
        try:
            return os.write(self._socket.fileno(), data) if len(data) <= AT_ONCE_BYTES else 0
        except OSError:
            return 0

    async def _send(self, data: bytes) -> None:
        rest, self._rest = self._rest, b""
        data = rest + data
        view = memoryview(data)[self._send_at_once(data) :]
        try:
            for start in range(0, len(view), SEND_PIECE_BYTES):
                if not await self._stalls.send(self.stream, view[start : start + SEND_PIECE_BYTES]):
                    log.info("client_stalled")
                    self._life.cancel(reason="client stalled")  # and with it what produces the bytes it does not read
                    await trio.lowlevel.checkpoint()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            # Busy: the client has left, and hypercorn is saying the end of the stream at this very moment.
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())
            self._stop_reading()
        except trio.Cancelled:
            # Half an answer may be out; whatever followed on this connection would be read as its other half.
            await trio.aclose_forcefully(self.stream)
            raise


def _config() -> Config:
    config = Config()
    config.accesslog = None  # app writes the access log
    config.errorlog = logging.getLogger("hypercorn.error")  # as it is: its lines go where all others go
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.include_server_header = False
    config.websocket_max_message_size = MESSAGE_BYTES
    # With RECEIVE_BYTES 2 MiB read ahead of the handler: the network goes on while a block is hashed, cut and written.
    config.max_app_queue_size = 4
    return config


def _check_versions() -> None:
    for package, tried in TRIED_VERSIONS.items():
        found = importlib.metadata.version(package)
        if found != tried:
            raise SettingsError(f"{package} {found} is installed, but only {tried} is known to work: install that one")
