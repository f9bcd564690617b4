"""The kernel's accept queue: connections that are established, and that no process has accepted yet (Linux)."""

from __future__ import annotations

from pathlib import Path

SOURCE = Path("/proc/net/tcp")
"""A line for each socket of IPv4; listening ones come first (proc(5), and `tcp4_seq_show` in the kernel)."""
LISTEN = "0A"


def accept_queue(port: int) -> int | None:
    """Return how many connections wait to be accepted at a port; None if nothing listens there, or not on Linux.

    Only the listening sockets are read, which come first, so that it costs little beside thousands of connections.
    """
    waiting: int | None = None
    try:
        with SOURCE.open() as lines:
            next(lines)  # the titles
            for line in lines:
                _, local, _, state, queues, *_ = line.split()
                if state != LISTEN:
                    break
                if int(local.rpartition(":")[2], 16) == port:
                    waiting = (waiting or 0) + int(queues.rpartition(":")[2], 16)
    except OSError:
        return None
    return waiting
