"""The client: one method for each call of the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import IO, Any
from uuid import UUID

from ingest.client.connection import BASE, Connection, end_reading
from ingest.client.uploading import put_file, speaks_tus, tus_file
from ingest.client.values import Job, Page, Reject
from ingest.client.watching import Watch

DEFAULT_SERVER = "http://127.0.0.1:8000"
TIMEOUT_S = 30.0


class Client:
    """A client of one server, used as a context manager. Every method raises ClientError and its kinds.

    Cancelling a call leaves open whether the server did what it was asked; an upload that is cancelled leaves nothing,
    unless it is resumable.
    """

    def __init__(
        self, server: str = DEFAULT_SERVER, *, api_key: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._connection = Connection(server, api_key, timeout_s)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.aclose()

    async def upload(
        self,
        file: IO[bytes],
        *,
        dataset: str,
        filename: str,
        options: Mapping[str, str] | None = None,
        resumable: bool | None = False,
        on_progress: Callable[[int], object] = lambda sent_bytes: None,
    ) -> Job:
        """Send a file and return its job. `options` are request options and parameters of the dataset.

        `resumable`: an upload whose connection breaks goes on where the server has it (tus); the file must be seekable.
        None: if the server and the file can. `on_progress` is told how many bytes were sent so far.
        """
        values = {"dataset": dataset, **(options or {})}
        if resumable is None:
            resumable = file.seekable() and await speaks_tus(self._connection)
        send = tus_file if resumable else put_file
        return await send(self._connection, file, filename, values, on_progress)

    async def job(self, job_id: UUID) -> Job:
        """Return a job as it is now."""
        return await self._connection.job("GET", _path(job_id))

    async def jobs(
        self,
        *,
        page: int = 1,
        limit: int = 10,
        status: str | None = None,
        dataset: str | None = None,
        filename: str | None = None,
    ) -> Page[Job]:
        """Return a page of jobs, newest first; `filename` is a part of the file's name, in whatever case."""
        wanted = {"page": page, "limit": limit, "status": status, "dataset": dataset, "filename": filename}
        query = {name: value for name, value in wanted.items() if value is not None}
        found = await self._connection.json("GET", f"{BASE}/jobs", params=query)
        return Page(items=[self._connection.job_from(raw) for raw in found["jobs"]], total=found["total"])

    def watch(self, job_id: UUID) -> Watch:
        """Return the changes of a job until it has ended: `async with` it, then `async for` over it."""
        return Watch(self._connection, _path(job_id))

    async def rejects(
        self, job_id: UUID, *, limit: int = 100, after: str | None = None, **filters: str
    ) -> Page[Reject]:
        """Return reasons by line. `after` is the `next` of the page before; `filters`: code, column, line, resolved."""
        if after is None:
            found = await self._connection.json("GET", f"{_path(job_id)}/rejects", params={"limit": limit, **filters})
        else:
            found = await self._connection.json("GET", after)
        items = [Reject.from_json(raw) for raw in found["rejects"]]
        return Page(items=items, total=found["total"], next=found["next"])

    async def rejects_csv(self, job_id: UUID, write: Callable[[bytes], object]) -> None:
        """Hand the rejected records, as a file to correct and to send again, to `write`, piece by piece."""
        async with self._connection.stream("GET", f"{_path(job_id)}/rejects.csv") as response:
            pieces = response.aiter_bytes()
            try:
                async for piece in pieces:
                    write(piece)
            finally:
                await end_reading(pieces)

    async def cancel(self, job_id: UUID) -> Job:
        """End a job; the error of the job that is returned says what stayed in the table."""
        return await self._post(job_id, "cancel")

    async def pause(self, job_id: UUID) -> Job:
        """Let a job rest."""
        return await self._post(job_id, "pause")

    async def resume(self, job_id: UUID) -> Job:
        """Go on with a paused job."""
        return await self._post(job_id, "resume")

    async def retry(self, job_id: UUID) -> Job:
        """Run the failed chunks of a failed job again."""
        return await self._post(job_id, "retry")

    async def prioritise(self, job_id: UUID, priority: int) -> Job:
        """Give a job another priority: 0 to 9, 9 runs first."""
        return await self._connection.job("PATCH", _path(job_id), json={"priority": priority})

    async def delete(self, job_id: UUID) -> None:
        """Forget a job that has ended; its rows in the table stay."""
        await self._connection.ask("DELETE", _path(job_id))

    async def audit(self, job_id: UUID) -> list[dict[str, Any]]:
        """Return what was done to a job, the latest first."""
        found: list[dict[str, Any]] = (await self._connection.json("GET", f"{_path(job_id)}/audit"))["audit"]
        return found

    async def datasets(self) -> list[dict[str, Any]]:
        """Return what files can be sent for."""
        found: list[dict[str, Any]] = (await self._connection.json("GET", f"{BASE}/datasets"))["datasets"]
        return found

    async def _post(self, job_id: UUID, action: str) -> Job:
        return await self._connection.job("POST", f"{_path(job_id)}/{action}")


def _path(job_id: UUID) -> str:
    return f"{BASE}/jobs/{job_id}"
