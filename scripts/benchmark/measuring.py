"""What a turn costs: seconds, processor time and memory, those of the loader and those of the database apart."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import psutil

from tests.processes import clean_environment

# Looking at every backend costs a millisecond or two.
LOOK_S = 0.25
# The kernel keeps the peak of a process itself, so a look is only late by what comes after the last one.
LOOK_AT_PEAKS_S = 0.05

# A service keeps the connections that it has opened meanwhile; those of a program end with it.
ENDING_S = 0.5

# What a program that failed has said last.
SHOWN_CHARACTERS = 500


class BenchmarkError(Exception):
    """A contender failed, or did not load what it was given: its time would say nothing."""


class TooLong(BenchmarkError):
    """The time that was allowed is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one turn took. `facts` are further figures of the benchmark."""

    seconds: float
    cpu_s: float = 0.0
    peak_rss_mb: Mapping[str, float] = field(default_factory=dict)  # by process of the loader
    database_cpu_s: float = 0.0
    database_peak_mb: float = 0.0  # without shared buffers, all backends together
    facts: Mapping[str, float] = field(default_factory=dict)
    series: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)  # for plots: x and y


@dataclass(slots=True)
class Use:
    """What was used while somebody watched; complete when the watch has ended."""

    database_cpu_s: float = 0.0
    database_peak_mb: float = 0.0
    peaks_mb: dict[int, float] = field(default_factory=dict)

    def look_at_peaks(self) -> None:
        """Note how much memory the processes have had so far."""
        for pid in list(self.peaks_mb):
            self.peaks_mb[pid] = max(self.peaks_mb[pid], peak_rss_mb(pid))


@contextmanager
def watched(postmaster: psutil.Process, *pids: int) -> Iterator[Use]:
    """Measure the server, and the peak memory of processes, while the context lasts; `peaks_mb` may grow."""
    use, ended, began_s = Use(peaks_mb=dict.fromkeys(pids, 0.0)), threading.Event(), cpu_of_server(postmaster)
    backends = len(descendants(postmaster))

    def look() -> None:
        next_look = 0.0
        while not ended.wait(LOOK_AT_PEAKS_S):
            use.look_at_peaks()
            if time.monotonic() >= next_look:
                next_look = time.monotonic() + LOOK_S
                private = sum(map(private_mb, descendants(postmaster)))
                use.database_peak_mb = max(use.database_peak_mb, private)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield use
    finally:
        ended.set()
        looking.join()
        use.look_at_peaks()
        _await_ends(postmaster, backends)
        use.database_cpu_s = cpu_of_server(postmaster) - began_s


def _await_ends(postmaster: psutil.Process, backends: int) -> None:
    """Wait a moment for backends whose clients have gone: what they used is known when they have ended."""
    deadline = time.monotonic() + ENDING_S
    while len(descendants(postmaster)) > backends and time.monotonic() < deadline:
        time.sleep(LOOK_AT_PEAKS_S)


def cpu_of_server(postmaster: psutil.Process) -> float:
    """Return processor seconds of the server since its start, of backends that have ended too."""
    own = postmaster.cpu_times()
    return float(sum(own[:4])) + sum(map(cpu_of, descendants(postmaster)))


def cpu_of(process: psutil.Process) -> float:
    """Return processor seconds of one process; 0 when it has gone."""
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.Error:
        return 0.0


def private_mb(process: psutil.Process) -> float:
    """Return a process's memory that no other process has too, in MB; 0 when it has gone."""
    try:
        memory = process.memory_info()
    except psutil.Error:
        return 0.0
    return float(memory.rss - getattr(memory, "shared", 0)) / 1e6


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return a process's children; none when it has gone."""
    try:
        return process.children()
    except psutil.Error:
        return []


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that a process has had, in MB; where the system does not say, what it has now."""
    # Not what wait4 tells: there a child begins with the peak of the process that started it.
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    except OSError:
        pass
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0


def touch_memory(size: int) -> None:
    """Have the system own `size` bytes of memory that it has just used, and has free.

    A virtual machine may give memory that was free for a second back to its host, and gets it back at a tenth of the
    speed: who comes right after somebody who has freed a lot would win. So everybody comes right after this.
    """
    piece = bytes(1 << 20)
    with tempfile.TemporaryFile() as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)


def run_programs(postmaster: psutil.Process, *programs: Sequence[str]) -> Cost:
    """Run programs at the same time; returns what they and the server used. Raises BenchmarkError when one fails."""
    with ExitStack() as held, watched(postmaster) as use:
        began = time.perf_counter()
        running = [(program, *_start(program, held)) for program in programs]
        use.peaks_mb |= {process.pid: 0.0 for _, process, _ in running}
        ended = [_end(*one) for one in running]
        seconds = time.perf_counter() - began
    names = {process.pid: _name(program, number) for number, (program, process, _) in enumerate(running, 1)}
    return replace(cost(use, seconds, names), cpu_s=sum(one.ru_utime + one.ru_stime for one in ended))


def cost(use: Use, seconds: float, names: Mapping[int, str], *, cpu_s: float = 0.0) -> Cost:
    """Return what was used as a turn's cost, the processes called by their names."""
    return Cost(
        seconds=seconds,
        cpu_s=cpu_s,
        peak_rss_mb={names[pid]: peak for pid, peak in use.peaks_mb.items()},
        database_cpu_s=use.database_cpu_s,
        database_peak_mb=use.database_peak_mb,
    )


def _name(program: Sequence[str], number: int) -> str:
    return f"{Path(program[0]).name} {number}"


def _start(program: Sequence[str], held: ExitStack) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    said = held.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # `held` is its context
    process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=clean_environment())
    return process, said


def _end(program: Sequence[str], process: subprocess.Popen[bytes], said: IO[bytes]) -> resource.struct_rusage:
    # wait4 and not Popen's own wait: it alone tells what this process used, and not all that have ended so far.
    _, status, use = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said.seek(0)
        text = said.read().decode(errors="replace")
        raise BenchmarkError(f"{Path(program[0]).name} ended with {process.returncode}: {text[-SHOWN_CHARACTERS:]}")
    return use
