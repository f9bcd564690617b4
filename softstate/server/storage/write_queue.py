"""The queue of publishes, in which those of batches leave place for those that come singly.

A batch has up to a thousand changes (`batch_max`). In one line with them, a single publish would wait for all batches
ahead of it; and twenty clients with a batch each would fill the line, so that everybody else is refused. Only the order
of what one connection sends is promised (P-PUB-2), and a connection has either a batch under way or single publishes.
So each kind has a line, and a commit takes from both (fair queueing: Nagle, RFC 970, 1985). A single publish waits for
two commits, the present one and its own; so while any come, and for `BESIDE_S` after, a commit takes few changes of
batches, and is short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Generic, TypeVar, final

from softstate.server.storage.batcher import Fifo, Ticket, too_many

T = TypeVar("T")
R = TypeVar("R")

BULK_BESIDE = 64
"""Changes of batches that a commit takes while single publishes come. A commit of 512 takes 15 to 55 ms beside twenty
clients with batches (`bench turns`, bodies over HTTP)."""

BESIDE_S = 1.0
"""Time for which another single publish is expected after one."""


@final
class WriteQueue(Generic[T, R]):
    """Publishes that wait for a commit. Implements `softstate.server.storage.batcher.Queue`.

    Once `bulk_max` publishes wait, no more changes of batches are taken.
    """

    def __init__(self, bulk_max: int) -> None:
        self._bulk_max = bulk_max
        self._single: Fifo[T, R] = Fifo()
        self._bulk: Fifo[T, R] = Fifo()
        self._beside_until = -math.inf

    def __len__(self) -> int:
        """See `Queue.__len__`."""
        return len(self._single) + len(self._bulk)

    def append(self, ticket: Ticket[T, R]) -> None:
        """See `Queue.append`."""
        if not ticket.bulk:
            self._single.append(ticket)
        elif len(self) < self._bulk_max:
            self._bulk.append(ticket)
        else:
            raise too_many(self._bulk_max, "publishes")

    def put_back(self, tickets: Sequence[Ticket[T, R]]) -> None:
        """See `Queue.put_back`."""
        self._single.put_back([ticket for ticket in tickets if not ticket.bulk])
        self._bulk.put_back([ticket for ticket in tickets if ticket.bulk])

    def take(self, count_max: int, now: float) -> tuple[list[Ticket[T, R]], tuple[()]]:
        """See `Queue.take`. None is refused."""
        most = count_max
        if self._single:
            self._beside_until = now + BESIDE_S
            most = count_max // 2
        if now < self._beside_until:
            most = min(most, BULK_BESIDE)
        bulk, _ = self._bulk.take(most, now)
        single, _ = self._single.take(count_max - len(bulk), now)
        return single + bulk, ()

    def drain(self) -> list[Ticket[T, R]]:
        """See `Queue.drain`."""
        return self._single.drain() + self._bulk.drain()
