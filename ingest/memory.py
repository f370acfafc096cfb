"""The memory of the process: how much it has had, and how to keep it small.

Blocks and arrays of some MiB live for milliseconds. Memory that is new to the process each time, mapped or at the end
of a heap that was trimmed, costs a page fault for each 4 KiB: much of what an upload of 380 MB took. So the C
library's allocator is told to serve them from two heaps, and to keep some free memory at their ends; what is free in
between is given back now and then. Only the largest batches are mapped one by one: from the heaps a load would take a
seventh less of the processor, but 30 MB more, and more still with a writer for each of many processors. Left to
itself, glibc has a heap for each thread, which never shrink. Other C libraries have no such function and need none.
"""

from __future__ import annotations

import ctypes
import gc
import math
import re
import resource
import sys
from functools import cache
from pathlib import Path

import psutil

# From glibc's malloc.h.
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
M_ARENA_MAX = -8

# Blocks from this size on are mapped and unmapped one by one; setting it also stops glibc from raising it.
MAPPED_BYTES = 4 * 1024 * 1024
ARENAS = 2
# What may stay free at the end of a heap until `give_back`.
KEPT_BYTES = 16 * 1024 * 1024

# Beyond this the worker does not take on more at once: what is promised is 200 MB, whatever is loaded.
MOST_BYTES = 180_000_000
# How much of the memory that there is may be in use.
LARGEST_SHARE = 0.9


def limit_heaps() -> bool:
    """Apply the settings; False where the C library has none. Call it before the first thread is started."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = ((M_MMAP_THRESHOLD, MAPPED_BYTES), (M_TRIM_THRESHOLD, KEPT_BYTES), (M_ARENA_MAX, ARENAS))
    applied = [mallopt(parameter, value) for parameter, value in wanted]
    return all(applied)


def give_back() -> None:
    """Return free pages inside the heaps to the system; a few milliseconds. Does nothing where the C library cannot.

    glibc trims a heap only from its end, and what is freed in between stays: 13 MB more for each 400 MB loaded.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def peak_bytes() -> int:
    """Return the most memory that the process ever had resident.

    From the kernel's own count of this program: what getrusage says survives an exec on Linux, so a small program
    started by a large one would look large.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, others KiB


def is_tight() -> bool:
    """Tell whether the process has MOST_BYTES, or the system, or the control group that it is in, has little left."""
    system, resident = psutil.virtual_memory(), psutil.Process().memory_info().rss
    limit = min(MOST_BYTES, LARGEST_SHARE * _group_limit())
    return resident > limit or system.available < (1 - LARGEST_SHARE) * system.total


@cache
def _group_limit() -> float:
    """Return the memory that the control group may have, in bytes (cgroup v2; elsewhere, infinity)."""
    path = Path("/sys/fs/cgroup/memory.max")
    text = path.read_text().strip() if path.exists() else "max"
    return float(text) if text.isdecimal() else math.inf


def put_off_collecting() -> None:
    """Collect no garbage before `settle_down`: what a start brings in is to stay, and looking through it took time."""
    gc.disable()


def settle_down() -> None:
    """Spare what is there for good from every later collection of garbage; call it once, when all is set up.

    Modules, routes and documents are most objects of the process, and batches with rejects make many new ones: each
    full collection looked at all of them, which took a fifth of the time of a file with bad values. What is garbage by
    now, some hundred KB, is kept as well: to look for it took a tenth of the start.
    """
    gc.enable()
    gc.freeze()
