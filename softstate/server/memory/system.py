"""Memory as the system tells it: of this process, and what this process may have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SHARE = 0.75
"""Part of the memory that nodes use by default; the rest is for the store's caches, other programs, and the kernel."""

NO_LIMIT_BYTES = 2**60
"""A cgroup that says more than this has no limit: the first version writes the largest multiple of a page."""


def default_max(nodes: int = 1) -> int:
    """Return the bytes that each of so many nodes on this machine uses at most by default, 0 if that is not known."""
    return int(available_bytes() * SHARE) // nodes


def resident_bytes() -> int:
    """Return this process's resident memory, 0 where the kernel does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def available_bytes(root: Path = Path("/")) -> int:
    """Return the memory of this machine, or the limit of a cgroup that this process is in, if that is less.

    Returns 0 where neither is known. `root` is where the system's files are.
    """
    limits = [limit for limit in (_machine(root), *_cgroups(root)) if 0 < limit < NO_LIMIT_BYTES]
    return min(limits, default=0)


def _machine(root: Path) -> int:
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, IndexError, ValueError):
        pass
    return 0


def _cgroups(root: Path) -> Iterator[int]:
    """Yield the limits of all cgroups around this process, of both versions of cgroups, as far as they can be seen."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            folder, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            folder, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # In a container the path may be that of the host, and the folder itself the container's.
        inner = PurePosixPath(path.lstrip("/"))
        for place in (inner, *inner.parents):
            yield _number(folder / place / name)


def _number(file: Path) -> int:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # "max" says that there is no limit
        return 0
