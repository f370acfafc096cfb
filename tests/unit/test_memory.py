"""Memory that is free goes back to the system, but for some that stays for the next blocks."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import gc, sys, psutil
from ingest.memory import give_back, limit_heaps
assert limit_heaps()
rss = psutil.Process().memory_info().rss
blocks = [bytearray(int(sys.argv[1]) << 20) for _ in range(32)]
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
@pytest.mark.parametrize(("block_mib", "most_kept"), [(2, 20), (8, 8)])
def test_freed_blocks_leave_the_process(block_mib: int, most_kept: int) -> None:
    """The largest, as batches are, at once; of the others some stay until they are given back."""
    script = [sys.executable, "-c", SCRIPT, str(block_mib)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    grown, kept, left = map(int, done.stdout.split())
    assert grown >= 30 * block_mib
    assert kept <= most_kept
    assert left <= 4
