"""A request on its way through Quart, in the version that the edge has tried."""

from __future__ import annotations

import trio
from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent
from quart.asgi import ASGIHTTPConnection
from quart.wrappers import Request
from quart_trio.asgi import TrioASGIHTTPConnection


class QuartConnection(TrioASGIHTTPConnection):
    """Quart-Trio's request, which no longer cancels itself while hypercorn is still finishing its response.

    The disconnect that follows each response made Quart-Trio cancel the very send that was about to start the
    idle timer, so connections stayed open for ever and every stop took the whole grace.
    """

    async def __call__(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """Run the request; a disconnect cancels its handler only while the response is unfinished."""
        self._finished = False

        async def noting_end(message: ASGISendEvent) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._finished = True
            await send(message)

        await super().__call__(receive, noting_end)

    async def handle_messages(  # type: ignore[override]  # Quart-Trio changes Quart's signature as well
        self, nursery: trio.Nursery, request: Request, receive: ASGIReceiveCallable
    ) -> None:
        """Feed the request's body until the client leaves."""
        await ASGIHTTPConnection.handle_messages(self, request, receive)
        if not self._finished:
            nursery.cancel_scope.cancel(reason="client disconnected")
