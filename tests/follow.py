"""Reads a stream many times at once: `python -m tests.follow URL NUMBER`; fails unless all of them see the end."""

from __future__ import annotations

import selectors
import socket
import sys
from urllib.parse import urlsplit

# What is kept of each stream: more than its last event.
KEPT_BYTES = 8192
SILENCE_S = 60.0


class Reader:
    """One connection, and the end of what came over it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "", parts.port or 80))
        self.socket.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        self.told = b""

    def read(self) -> bool:
        """Take what there is; False at the end."""
        data = self.socket.recv(65536)
        self.told = (self.told + data)[-KEPT_BYTES:]
        return bool(data)


def follow(url: str, number: int) -> None:
    """Read a stream `number` times. By hand, in one loop: what readers cost the service is not what they cost here."""
    readers = [Reader(url) for _ in range(number)]
    all(reader.read() for reader in readers)
    print(f"{number} read", flush=True)  # for whoever waits for all of them
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        while selector.get_map():
            ready = selector.select(SILENCE_S)
            assert ready, "the streams are silent"
            for key, _ in ready:
                if not key.data.read():
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
    unfinished = sum(b"event: completed" not in reader.told for reader in readers)
    assert unfinished == 0, f"{unfinished} readers did not see the end"


if __name__ == "__main__":
    follow(sys.argv[1], int(sys.argv[2]))
