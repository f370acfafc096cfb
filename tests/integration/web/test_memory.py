"""An upload costs the same memory whatever its size, also when the sink is slower than the sender."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MB = 1_000_000
SIZE = 200 * MB


@pytest.mark.parametrize("form", [False, True], ids=["raw", "multipart"])
def test_memory_stays_flat_behind_a_slow_sink(tmp_path: Path, form: bool) -> None:
    """200 MB into a sink of 100 MB/s: the process grows by a few MB."""
    path = tmp_path / "f.csv"
    path.write_bytes(b"0123456789,0123456789\n" * (SIZE // 22))
    module = __name__.rsplit(".", 1)[0] + ".slow_sink"
    server = subprocess.Popen(
        [sys.executable, "-m", module, "100"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert server.stdout is not None
    try:
        port, before = (int(word) for word in server.stdout.readline().split())
        url = f"http://127.0.0.1:{port}/api/v1/csv/upload"
        how = ["-F", f"f=@{path}", f"{url}?dataset=t"] if form else ["-T", str(path), f"{url}/f.csv?dataset=t"]
        subprocess.run(["curl", "-sSf", "-o", os.devnull, *how], check=True, timeout=60)
        rest, _ = server.communicate("", timeout=20)
    finally:
        server.kill()
        server.wait()
    log, last = rest.strip().rsplit("\n", 1)
    after, size = (int(word) for word in last.split())
    assert "status=202" in log or '"status": 202' in log
    assert size == path.stat().st_size
    assert after - before < 16 * MB
