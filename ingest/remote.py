"""What the commands that talk to a service do: call the client, and show its answers as tables or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
import trio
from rich.progress import Progress, TaskID

from ingest.client import Client, Job, Reject
from ingest.commandfiles import reading, writing
from ingest.compression import MAGIC_BYTES, compression_of_bytes, compression_of_name
from ingest.environment import read_server
from ingest.errors import IngestError
from ingest.logs import escaped
from ingest.remoteshow import (
    Sent,
    bar,
    exit_code,
    print_jobs,
    print_json,
    print_rejects,
    print_sent,
    sent_as_json,
    show,
)

T = TypeVar("T")

PAGE_ROWS = 500


def jobs(server: str | None, as_json: bool, **wanted: Any) -> None:
    """Print a page of jobs."""
    page = _talk(server, lambda client: client.jobs(**wanted))
    if as_json:
        print_json({"jobs": [job.raw for job in page.items], "total": page.total})
        return
    print_jobs(page.items)
    if page.total > len(page.items):
        click.echo(f"{len(page.items)} of {page.total} jobs; --page and --limit show others", err=True)


def job(server: str | None, as_json: bool, job_id: UUID) -> None:
    """Print one job."""
    show(_talk(server, lambda client: client.job(job_id)), as_json)


def change(server: str | None, as_json: bool, action: str, job_id: UUID, *values: object) -> None:
    """Do something to a job, and print it as it is then."""
    show(_talk(server, lambda client: getattr(client, action)(job_id, *values)), as_json)


def delete(server: str | None, job_id: UUID) -> None:
    """Forget a job."""
    _talk(server, lambda client: client.delete(job_id))
    click.echo(f"deleted {job_id}")


def watch(server: str | None, as_json: bool, job_id: UUID) -> None:
    """Follow a job to its end, and exit as `load` does."""

    async def follow(client: Client) -> Job:
        with bar(quiet=as_json) as shown:
            task = shown.add_task(str(job_id), total=1.0)
            return await _follow(client, job_id, shown, task, as_lines=as_json)

    found = _talk(server, follow)
    if not as_json:
        show(found, as_json=False)
    sys.exit(exit_code([found]))


def rejects(server: str | None, as_json: bool, job_id: UUID, limit: int, filters: Mapping[str, str]) -> None:
    """Print the first reasons."""
    found, total = _talk(server, lambda client: _first_rejects(client, job_id, limit, filters))
    if as_json:
        print_json({"rejects": [asdict(reject) for reject in found], "total": total})
        return
    print_rejects(found)
    if total > len(found):
        click.echo(f"{len(found)} of {total} reasons; --limit shows more, --csv OUT writes all records", err=True)


def rejects_csv(server: str | None, job_id: UUID, path: Path) -> None:
    """Write the rejected records to a file."""
    with writing(path) as file:
        _talk(server, lambda client: client.rejects_csv(job_id, file.write))


def load(
    server: str | None,
    files: Sequence[str],
    dataset: str,
    options: Mapping[str, str],
    *,
    as_json: bool,
    quiet: bool,
    write_rejects: Callable[[bytes], object] | None,
) -> None:
    """Send files to a service, follow their jobs, print what became of them, and exit as a local load does."""

    async def send_all(client: Client) -> list[Sent]:
        sent = [await _send(client, name, dataset, options, quiet=quiet or as_json) for name in files]
        for one in sent:
            if write_rejects is not None and one.job is not None:
                await client.rejects_csv(one.job.id, write_rejects)
        return sent

    sent = _talk(server, send_all)
    if as_json:
        print_json([sent_as_json(one) for one in sent])
    else:
        print_sent(sent)
    sys.exit(exit_code([one.job for one in sent]))


def _talk(server: str | None, call: Callable[[Client], Awaitable[T]]) -> T:
    """Connect, call, and return the answer. Raises ClientError, which ends the command with one line."""
    url, key = read_server(server)

    async def talk() -> T:
        async with Client(url, api_key=key) as client:
            return await call(client)

    return trio.run(talk)


async def _follow(client: Client, job_id: UUID, shown: Progress, task: TaskID, *, as_lines: bool = False) -> Job:
    async with client.watch(job_id) as changes:
        async for found in changes:
            pace = "" if found.rows_per_second is None else f", {found.rows_per_second:,.0f} rows/s"
            text = f"{found.status}, {found.processed_rows:,} rows{pace}"
            shown.update(task, total=1.0, completed=found.progress, description=text)
            if as_lines:
                click.echo(json.dumps(found.raw))
    return found


async def _send(client: Client, name: str, dataset: str, options: Mapping[str, str], *, quiet: bool) -> Sent:
    label = "stdin" if name == "-" else Path(name).name
    try:
        with ExitStack() as held, bar(quiet=quiet) as shown:
            file = sys.stdin.buffer if name == "-" else held.enter_context(reading(Path(name)))
            size = file.seek(0, 2) if file.seekable() else None
            compressed = compression_of_name(label) is not None
            if size is not None:
                file.seek(0)
                compressed = compressed or compression_of_bytes(file.read(MAGIC_BYTES)) is not None
                file.seek(0)
            task = shown.add_task(f"sending {escaped(label)}", total=size)
            job = await client.upload(
                file,
                dataset=dataset,
                filename=label,
                options=options,
                resumable=False if compressed else None,
                on_progress=lambda sent: shown.update(task, completed=sent),
            )
            found = await _follow(client, job.id, shown, task)
        return Sent(filename=label, job=found, error=None)
    except IngestError as error:
        return Sent(filename=label, job=None, error=error)


async def _first_rejects(
    client: Client, job_id: UUID, limit: int, filters: Mapping[str, str]
) -> tuple[list[Reject], int]:
    page = await client.rejects(job_id, limit=min(limit, PAGE_ROWS), **filters)
    found = page.items
    while page.next is not None and len(found) < limit:
        page = await client.rejects(job_id, after=page.next)
        found += page.items
    return found[:limit], page.total
