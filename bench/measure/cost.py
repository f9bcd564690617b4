"""The cost of a process, as the operating system counts it.

CPU time comes from the process's own CPU clock (clock_getcpuclockid(3), whose id is computed here as glibc does): one
system call, in nanoseconds, of all threads, including those that have ended and, mostly, the slice that runs right now.
The files in /proc/PID/task/*/schedstat, the second choice, count neither of the last two.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

CPU_S_MIN = 1e-6
"""Lower bound of any cost: the slice that a process runs on another core may not be counted yet."""

_CPUCLOCK_SCHED = 2
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

RESIDENT_SOURCE = "Rss of /proc/PID/smaps_rollup" if Path("/proc/self/smaps_rollup").exists() else "statm"
"""Source of `resident_bytes`, for reports."""


def cpu_s(pid: int) -> float:
    """Return the CPU seconds, user and system, that a process has used so far. Raises `ProcessLookupError`.

    Loopback traffic is delivered inside the sender's system call, so the figure of the sender contains most of the
    work that the receiver's kernel would do on another machine, for all candidates alike.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED) / 1e9
    except OSError:
        return scheduled_s(pid)


def scheduled_s(pid: int) -> float:
    """Return the CPU seconds of the threads that live now, from schedstat. Raises `ProcessLookupError`."""
    total_ns = 0
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None
    for task in tasks:
        try:
            total_ns += int((task / "schedstat").read_text().split()[0])
        except (FileNotFoundError, ProcessLookupError):  # the thread has ended
            continue
    return total_ns / 1e9


def children_of(pid: int) -> list[int]:
    """Return the child processes of a process that it has not yet waited for."""
    lists = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    return [int(child) for found in lists for child in found.read_text().split()]


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process, shared pages included (`RESIDENT_SOURCE`).

    It does not contain the memory that the kernel holds for its sockets. Raises `ProcessLookupError`.
    """
    try:
        if RESIDENT_SOURCE == "statm":
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        return rollup_bytes(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except FileNotFoundError:
        raise ProcessLookupError(f"no process {pid}") from None


def rollup_bytes(text: str) -> int:
    """Return the `Rss` of a smaps_rollup file in bytes."""
    for line in text.splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no Rss in smaps_rollup")
