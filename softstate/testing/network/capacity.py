"""How much a simulated host can do: one processor, which serves what reaches the host's program one after the other.

Without it a simulated program does all its work at the instant at which bytes arrive. With it, each connection that is
accepted and each read of bytes takes some time of the processor, in the order in which the program asks. Meanwhile
connections wait in the kernel's accept queue, bytes in its buffers, and clients give up. The processor does not see
that they have: it serves the dead like the living (`Processor.wasted_s`). Writing, timers, and the program's own
connections to others cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import trio

from softstate.testing.network.frame_tap import Kind

READS_OF_A_CONNECT = 3
"""Reads of a WebSocket that belong to its client's way back: upgrade, `hello`, `subscribe`."""

Work: TypeAlias = Literal["connect", "poll", "other"]
"""A use of the time of a processor."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """The backlog of a host's listeners, and the price of each piece of work, in seconds.

    `accept_s` is for a connection, `upgrade_s` for the first bytes of one that becomes a WebSocket, `request_s` for
    bytes of HTTP, and `message_s` for later bytes of a WebSocket.
    """

    backlog: int = 4_096
    accept_s: float = 0.0
    upgrade_s: float = 0.0
    request_s: float = 0.0
    message_s: float = 0.0

    @property
    def connect_s(self) -> float:
        """The price of a client's way back: upgrade, `hello` and `subscribe`."""
        return self.accept_s + self.upgrade_s + 2 * self.message_s

    @property
    def poll_s(self) -> float:
        """The price of a poll on a new connection."""
        return self.accept_s + self.request_s

    def of_read(self, kind: Kind, reads: int) -> tuple[Work, float]:
        """Return what it is to read some bytes from a client, and its price; `reads` were made before."""
        if kind != "websocket":
            return "poll", self.request_s
        work: Work = "connect" if reads < READS_OF_A_CONNECT else "other"
        return work, self.message_s if reads else self.upgrade_s


@final
class Processor:
    """The processor of one host. Work is served in the order in which `serve` is called, by any task.

    `busy_s` is the time spent, `wasted_s` that of it for peers that had closed their end before, and `accept_queue_max`
    the most connections that waited to be accepted. `told` is called as some work begins (True), and as it ends: a
    program measures how long it works, and in simulation it would find that it takes no time.
    """

    def __init__(self, capacity: Capacity) -> None:
        self.capacity = capacity
        self.busy_s = 0.0
        self.wasted_s = 0.0
        self.accept_queue_max = 0
        self.told: Callable[[Work, bool], None] = _untold
        self._free_at_s = 0.0

    async def serve(self, work: Work, cost_s: float, *, wasted: bool = False) -> None:
        """Return once the processor has spent `cost_s` on this, after all that was asked before.

        If cancelled, the time is spent all the same: a processor does not know who left.
        """
        self.busy_s += cost_s
        if wasted:
            self.wasted_s += cost_s
        told = self.told
        told(work, True)
        self._free_at_s = max(self._free_at_s, trio.current_time()) + cost_s
        try:
            await trio.sleep_until(self._free_at_s)
        finally:
            told(work, False)

    def restart(self) -> None:
        """Drop the work of a process that has ended."""
        self._free_at_s = 0.0
        self.told = _untold


def _untold(_work: Work, _begins: bool) -> None:
    """Stand for a program that has not started."""
