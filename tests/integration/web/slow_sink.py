"""A server of its own process whose uploads go nowhere, slowly; prints its port, and its memory's peak at the end.

Run as a module with the sink's MB/s (0: as fast as it can); ends when its input closes.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import trio

from ingest.metrics import Metrics
from ingest.settings import Settings
from ingest.watching import Watching
from ingest.web.app import create_app
from ingest.web.edge import serve_http
from ingest.web.health import memory
from ingest.web.listening import Address
from ingest.web.metrics import MetricsPage

from .fakes import (
    FakeControl,
    FakeDatasets,
    FakeHealth,
    FakeJobs,
    FakeKeys,
    FakeReadings,
    FakeReceiving,
    FakeRejects,
    FakeRetrying,
    no_request_keys,
)  # fmt: skip


async def main(bytes_per_s: float) -> None:
    """Serve until the input ends."""
    receiving, shutdown = FakeReceiving(), trio.Event()

    async def absorb(data: bytes) -> None:
        if bytes_per_s:
            await trio.sleep(len(data) / bytes_per_s)

    receiving.on_feed = absorb
    app = create_app(
        settings=Settings.from_environment({}), keys=FakeKeys(), receiving=receiving, jobs=FakeJobs(),
        rejects=FakeRejects(), retrying=FakeRetrying(), control=FakeControl(), datasets=FakeDatasets(),
        health=FakeHealth(), watching=Watching(FakeJobs()), draining=trio.Event(), resumable=cast(Any, None),
        sources=cast(Any, None), request_keys=no_request_keys(), metrics=MetricsPage(Metrics(), FakeReadings()),
    )  # fmt: skip

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
