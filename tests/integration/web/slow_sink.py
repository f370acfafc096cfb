"""A server of its own process whose uploads go nowhere, slowly; prints its port, and its memory's peak at the end.

Run as a module with the sink's MB/s (0: as fast as it can); ends when its input closes.
"""

from __future__ import annotations

import sys

import trio

from ingest.settings import Settings
from ingest.web.app import create_app
from ingest.web.edge import serve_http
from ingest.web.health import memory
from ingest.web.listening import Address

from .fakes import FakeReceiving, parts


async def main(bytes_per_s: float) -> None:
    """Serve until the input ends."""
    receiving, shutdown = FakeReceiving(), trio.Event()

    async def absorb(data: bytes) -> None:
        if bytes_per_s:
            await trio.sleep(len(data) / bytes_per_s)

    receiving.on_feed = absorb
    app = create_app(parts(Settings.from_environment({}), receiving=receiving))

    async def serve(task_status: trio.TaskStatus[Address]) -> None:
        await serve_http(app, host="127.0.0.1", port=0, shutdown=shutdown, grace_s=5, task_status=task_status)

    async with trio.open_nursery() as nursery:
        address = await nursery.start(serve)
        print(address.port, memory()["peak_bytes"], flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        shutdown.set()
    print(memory()["peak_bytes"], receiving.uploads[0].size, flush=True)


if __name__ == "__main__":
    trio.run(main, float(sys.argv[1]) * 1e6)
