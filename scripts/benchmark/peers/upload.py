"""A minimal upload on asyncio and uvicorn: it writes what it is sent to a file and does nothing else.

Prints its port. `flush` lets it wait, as this service does, until the bytes are on the disk before it answers.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path
from typing import Any

import uvicorn


class Upload:
    """The ASGI application."""

    def __init__(self, folder: Path, flush: bool) -> None:
        self._folder = folder
        self._flush = flush

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Take one body."""
        with (self._folder / "upload").open("wb", buffering=0) as file:
            while True:
                message = await receive()
                file.write(message["body"])
                if not message["more_body"]:
                    break
            if self._flush:
                os.fsync(file.fileno())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def main(folder: str, flush: str) -> None:
    """Serve until the process is ended."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        application = Upload(Path(folder), flush == "flush")
        settings = uvicorn.Config(application, loop="asyncio", lifespan="off", log_level="warning", access_log=False)
        await uvicorn.Server(settings).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
