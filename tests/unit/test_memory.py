"""Memory that is free goes back to the system, but for some that stays for the next blocks."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import gc, resource, psutil
from ingest.memory import give_back, limit_heaps
assert limit_heaps()
rss = psutil.Process().memory_info().rss
blocks = [bytearray(2 << 20) for _ in range(32)]
small = [bytes(100) for _ in range(1000)]
grown = psutil.Process().memory_info().rss - rss
del blocks
gc.collect()
kept = psutil.Process().memory_info().rss - rss
give_back()
left = psutil.Process().memory_info().rss - rss
print(grown >> 20, kept >> 20, left >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' C libraries have no mallopt and need none")
def test_freed_blocks_leave_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    grown, kept, left = map(int, done.stdout.split())
    assert grown >= 60
    assert kept <= 20
    assert left <= 4
