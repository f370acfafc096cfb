"""Clients that send small files at the same time, each on a connection of its own that it keeps open."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from pathlib import Path
from urllib.parse import urlsplit

HEAD = "PUT {base}/upload/{name}?dataset=public.lineitem HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"


async def main(url: str, base: str, clients: int, paths: list[str]) -> None:
    """Send all files."""
    host = urlsplit(url).netloc
    files = [(Path(path).name, Path(path).read_bytes()) for path in paths]  # noqa: ASYNC240  # before the first is sent
    waiting = deque(
        HEAD.format(base=base, name=name, host=host, size=len(body)).encode() + body for name, body in files
    )
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(send(host, waiting))


async def send(host: str, waiting: deque[bytes]) -> None:
    """Send files until there are none left."""
    address, _, port = host.rpartition(":")
    reader, writer = await asyncio.open_connection(address, int(port))
    while waiting:
        writer.write(waiting.popleft())
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        body = await reader.readexactly(int(fields[b"content-length"]))
        if b" 202 " not in head.split(b"\r\n")[0]:
            raise SystemExit(f"{head!r} {body!r}")
    writer.close()
    await writer.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]))
