"""Sources: files that lie where the service can read them are loaded in place, without being sent or copied.

A request is answered as soon as the header is accepted; the file is cut by a task that outlives the request and ends
with the service. What such a task has not finished by then fails its job, which says so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from uuid import UUID

import structlog
import trio

from ingest.admission import JobRows
from ingest.errors import IngestError, RequestError, UnavailableError
from ingest.job import JobView
from ingest.receiving import DEFAULT_QUEUE, Receiving
from ingest.uploadoptions import UploadOptions

# Files that are cut at once; each keeps a disk busy, and a processor.
MOST_AT_ONCE = 4

log = structlog.get_logger("ingest.upload")


class Sources:
    """Loads local files below `roots`; `run` must run for as long as files are to be taken."""

    def __init__(self, receiving: Receiving, jobs: JobRows, roots: Sequence[Path]) -> None:
        self._receiving = receiving
        self._jobs = jobs
        self._roots = tuple(roots)
        self._nursery: trio.Nursery | None = None
        self._stop = trio.Event()
        self._reading = 0

    async def run(self, stop: trio.Event) -> None:
        """Own the tasks that cut files; return after `stop`, when they have ended their jobs."""
        self._stop = stop
        async with trio.open_nursery() as self._nursery:
            await stop.wait()
        self._nursery = None

    async def start(self, path: Path, options: UploadOptions) -> JobView:
        """Begin to load a file and return its job as soon as it exists.

        Raises RequestError (E_TOO_MANY_SOURCES, E_DRAINING) and what `Receiving.scan_file` raises up to then.
        Cancelled before the job exists, nothing is left; afterwards the job goes on.
        """
        if self._nursery is None or self._stop.is_set():
            raise RequestError("the service is stopping; ask again in a moment", code="E_DRAINING")
        if self._reading >= MOST_AT_ONCE:
            raise RequestError(f"{MOST_AT_ONCE} sources are being read; try again later", code="E_TOO_MANY_SOURCES")
        job_id: UUID = await self._nursery.start(self._load, path, options)
        view = await self._jobs.get(job_id)
        if view is None:
            raise RequestError("the job was deleted while it was received", code="E_NOT_FOUND")
        return view

    async def find(self, url: str) -> Path:
        """Return the file that a URL names, symbolic links resolved.

        Raises RequestError: E_SOURCE for a URL that cannot be one, E_SOURCE_FORBIDDEN outside of the allowed folders.
        """
        path = path_of(url)
        resolved, roots, reason = await trio.to_thread.run_sync(self._resolve, path)
        if not any(resolved.is_relative_to(root) for root in roots):
            text = "the file is in no folder that may be loaded from (INGEST_SOURCE_ROOTS)"
            raise RequestError(text, code="E_SOURCE_FORBIDDEN")
        if reason:
            raise RequestError(reason, code="E_SOURCE")
        return resolved

    def _resolve(self, path: Path) -> tuple[Path, list[Path], str]:
        """Return the file and the roots as they really are, and why the file cannot be read, if it is there."""
        resolved, reason = Path(os.path.realpath(path)), ""
        if resolved.exists() and not resolved.is_file():
            reason = "the source is not a file"
        elif resolved.exists() and not os.access(resolved, os.R_OK):
            reason = "the service may not read the file"
        return resolved, [Path(os.path.realpath(root)) for root in self._roots], reason

    async def _load(
        self, path: Path, options: UploadOptions, *, task_status: trio.TaskStatus[UUID] = trio.TASK_STATUS_IGNORED
    ) -> None:
        told = False

        def on_job(job_id: UUID) -> None:
            nonlocal told
            if not told:
                told = True
                task_status.started(job_id)

        def check(_bytes_scanned: int) -> None:
            if self._stop.is_set():
                text = "the service stopped while it read the file; ask for it again"
                raise RequestError(text, code="E_UPLOAD_INCOMPLETE")

        self._reading += 1
        try:
            view = await self._receiving.scan_file(path, options, queue=DEFAULT_QUEUE, on_progress=check, on_job=on_job)
            on_job(view.id)
        except IngestError as error:
            if not told:
                raise
            # Its job says the same; without a database nobody can, and the janitor ends it.
            level = log.warning if isinstance(error, UnavailableError) else log.info
            level("source_refused", code=error.code)
        except Exception:
            if not told:
                raise
            log.exception("source_crashed")
        finally:
            self._reading -= 1


def path_of(url: str) -> Path:
    """Return the path in a `file://` URL. Raises RequestError (E_SOURCE)."""
    try:
        parts = urlsplit(url)
        path = unquote_to_bytes(parts.path)
    except ValueError as error:
        raise RequestError("source is no URL", code="E_SOURCE") from error
    if parts.scheme == "s3":
        text = "source: objects of S3 cannot be read by this version; only file:///absolute/path"
        raise RequestError(text, code="E_SOURCE")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
        raise RequestError("source must be file:///absolute/path (? and # as %3F and %23)", code="E_SOURCE")
    if not path.startswith(b"/") or b"\0" in path:
        raise RequestError("source must name a file by its absolute path", code="E_SOURCE")
    return Path(os.fsdecode(path))
