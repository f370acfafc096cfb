"""hypercorn's HTTP/1.1, held to what the service speaks: no HTTP/2, and WebSockets that cost only what we send.

What clients send over a WebSocket is not for anybody, so there is nothing to be had from compressed or large messages,
only harm: a frame of 60 KB can unpack to 60 MB, and hypercorn goes on gathering a message that is too large.
"""

from __future__ import annotations

from typing import Any, cast

import h11
import trio
from h11._readers import ContentLengthReader
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, Response
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol, H11WSConnection
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream

from ingest.web.malformed import malformed_answer

# The most that is gathered of one message of a client; hypercorn's limit is 16 MiB.
MESSAGE_BYTES = 4096


class Http1(H11Protocol):
    """HTTP/1.0 and 1.1 only: an offer of h2c is ignored, as the standard allows, and HTTP/2 is refused."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._answered = trio.Event()  # a request for a WebSocket was; there is at most one on a connection

    async def handle(self, event: Event) -> None:
        """Take what the client has sent; of what follows a refused WebSocket nothing is read."""
        if not isinstance(event, RawData):
            await super().handle(event)
        elif isinstance(self.stream, HTTPStream) and self._is_inside_body(len(event.data)):
            await self.stream.handle(Body(STREAM_ID, event.data))
        elif not self._refused:
            await super().handle(event)

    async def stream_send(self, event: StreamEvent) -> None:
        """Send what the application has to say."""
        await super().stream_send(event)
        if isinstance(event, Response):
            self._answered.set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Never change the protocol."""

    async def _send_error_response(self, status_code: int) -> None:
        """Answer what is no request as every other fault is answered; there is no application to do it."""
        headers, body = malformed_answer(status_code)
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    async def _create_stream(self, request: h11.Request) -> None:
        if request.http_version not in (b"1.0", b"1.1"):
            await self._send_error_response(505)
            await self.send(Closed())
            return
        await super()._create_stream(_without_extensions(request))
        if isinstance(self.stream, WSStream):
            # Frames that did not wait for the answer would be answered a second time, and crash the connection.
            await self._answered.wait()
            if self._refused:
                cast("H11WSConnection", self.connection).buffer.clear()

    def framed(self, data: bytes) -> bytes:
        """Return a part of the answer as it goes over the connection; nothing where no answer is under way."""
        connection = self.connection
        if not isinstance(connection, h11.Connection) or connection.our_state is not h11.SEND_BODY:
            return b""
        return connection.send(h11.Data(data=data)) or b""

    def _is_inside_body(self, size: int) -> bool:
        """Say whether the next bytes can only be inside of a body whose length is known, and count them then.

        h11 would do no more with them, but copies each byte three times on the way: half of what an upload cost.
        """
        connection = self.connection
        reader = connection._reader if isinstance(connection, h11.Connection) else None
        if not isinstance(reader, ContentLengthReader) or not 0 < size < reader._remaining:
            return False
        if connection.they_are_waiting_for_100_continue or connection.trailing_data[0]:
            return False
        reader._remaining -= size
        return True

    @property
    def _refused(self) -> bool:
        return isinstance(self.stream, WSStream) and not self.stream.handshake.accepted

    async def _handle_events(self) -> None:
        await super()._handle_events()
        stream = self.stream
        # A handshake that is none, or a message that is too large: hypercorn has answered, but keeps the connection.
        if isinstance(stream, WSStream) and (stream.closed or stream.buffer.length > MESSAGE_BYTES):
            await self.send(Closed())


def _without_extensions(request: h11.Request) -> h11.Request:
    """Return a request without its offer to compress WebSocket frames, which hypercorn would accept."""
    kept = [(name, value) for name, value in request.headers.raw_items() if name.lower() != b"sec-websocket-extensions"]
    return h11.Request(method=request.method, target=request.target, headers=kept, http_version=request.http_version)
