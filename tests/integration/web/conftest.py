"""A web server on a free port over fakes, inside the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

import httpx
import pytest
import trio
from hypercorn.typing import ASGIFramework

from ingest.settings import Settings
from ingest.watching import Watching
from ingest.web.app import create_app
from ingest.web.edge import serve_http
from ingest.web.listening import Address

from .fakes import (
    FakeControl,
    FakeHealth,
    FakeJobs,
    FakeKeys,
    FakeReadings,
    FakeReceiving,
    FakeRejects,
    FakeRetrying,
    parts,
)  # fmt: skip

MAX_UPLOAD_BYTES = 8 * 1024 * 1024


@dataclass
class Web:
    """A running server and the fakes below it."""

    app: ASGIFramework
    address: Address
    receiving: FakeReceiving
    keys: FakeKeys
    jobs: FakeJobs
    rejects: FakeRejects
    retrying: FakeRetrying
    control: FakeControl
    health: FakeHealth
    watching: Watching
    readings: FakeReadings
    draining: trio.Event
    shutdown: trio.Event
    stopped: trio.Event
    client: httpx.AsyncClient

    @property
    def upload_url(self) -> str:
        """The URL of the upload paths."""
        return f"{self.address.url}/api/v1/csv/upload"

    async def connect(self) -> trio.SocketStream:
        """Open a connection for a test that speaks HTTP by hand."""
        return await trio.open_tcp_stream(self.address.host, self.address.port)


@pytest.fixture
def settings() -> Settings:
    """Small limits, so that tests reach them."""
    return Settings.from_environment({"MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES), "UPLOAD_IDLE_TIMEOUT": "1"})


@pytest.fixture
async def web(nursery: trio.Nursery, settings: Settings) -> AsyncIterator[Web]:
    """Serve the application; the server is stopped when the test ends."""
    receiving, jobs, health = FakeReceiving(), FakeJobs(), FakeHealth()
    rejects, retrying, control, keys = FakeRejects(), FakeRetrying(), FakeControl(), FakeKeys()
    watching, readings = Watching(jobs), FakeReadings()
    draining, shutdown, stopped = trio.Event(), trio.Event(), trio.Event()
    app = create_app(
        parts(
            settings, keys=keys, receiving=receiving, jobs=jobs, rejects=rejects, retrying=retrying, control=control,
            health=health, watching=watching, readings=readings, draining=draining,
        )
    )  # fmt: skip

    async def serve(task_status: trio.TaskStatus[Address]) -> None:
        await serve_http(app, host="127.0.0.1", port=0, shutdown=shutdown, grace_s=5, task_status=task_status)
        stopped.set()

    address: Address = await nursery.start(serve)
    nursery.start_soon(watching.look_again_and_again)
    client = httpx.AsyncClient(base_url=address.url, timeout=10)
    yield Web(
        app, address, receiving, keys, jobs, rejects, retrying, control, health, watching, readings, draining, shutdown,
        stopped, client,
    )  # fmt: skip
    await client.aclose()
    shutdown.set()
    with trio.fail_after(10):
        await stopped.wait()


async def curl(*arguments: str) -> tuple[int, str, str]:
    """Run curl; return its exit code, the body, and the status with the headers."""
    run = partial(trio.run_process, capture_stdout=True, capture_stderr=True, check=False)
    done = await run(["curl", "-sS", "-D", "/dev/stderr", *arguments])
    return done.returncode, done.stdout.decode(), done.stderr.decode()
