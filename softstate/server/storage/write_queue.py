"""The queue of publishes: those of batches, and those that come singly, take turns.

A batch has up to a thousand changes (`batch_max`). In one line with them, each other publish would wait for all batches
ahead of it; and twenty clients with a batch each would fill the line, so that everybody else is refused. Only the order
of what one connection sends is promised (P-PUB-2), and a connection has either a batch under way or single publishes.
So each kind has a line, and a commit takes half of its changes from either while both are long (fair queueing: Nagle,
RFC 970, 1985).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar, final

from softstate.server.storage.batcher import Fifo, Ticket

T = TypeVar("T")
R = TypeVar("R")

BULK_PART = 0.75
"""Part of the publishes that may wait which batches may fill."""


@final
class WriteQueue(Generic[T, R]):
    """Publishes that wait for a commit. Implements `softstate.server.storage.batcher.Queue`."""

    def __init__(self) -> None:
        self._single: Fifo[T, R] = Fifo()
        self._bulk: Fifo[T, R] = Fifo()
        self._odd = False

    def __len__(self) -> int:
        """See `Queue.__len__`."""
        return len(self._single) + len(self._bulk)

    def append(self, ticket: Ticket[T, R]) -> None:
        """See `Queue.append`."""
        (self._bulk if ticket.bulk else self._single).append(ticket)

    def put_back(self, tickets: Sequence[Ticket[T, R]]) -> None:
        """See `Queue.put_back`."""
        self._single.put_back([ticket for ticket in tickets if not ticket.bulk])
        self._bulk.put_back([ticket for ticket in tickets if ticket.bulk])

    def take(self, count_max: int, now: float) -> tuple[list[Ticket[T, R]], tuple[()]]:
        """See `Queue.take`. None is refused; of two long lines, each gives half."""
        self._odd = not self._odd  # of calls for one, every second is each line's
        half = (count_max + self._odd) // 2
        bulk = min(len(self._bulk), max(half, count_max - len(self._single)))
        return self._single.take(count_max - bulk, now)[0] + self._bulk.take(bulk, now)[0], ()

    def drain(self) -> list[Ticket[T, R]]:
        """See `Queue.drain`."""
        return self._single.drain() + self._bulk.drain()
