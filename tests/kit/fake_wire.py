"""A wire whose other end is a test: what it lets arrive, and what it lets the peer write."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

from softstate.server.edge.wire import Peer
from softstate.server.measure.traffic import Traffic
from tests.kit.fake_socket import FakeSocket


class FakeWire(FakeSocket):
    """Implements `softstate.server.edge.wire.Wire`. Its peer is told at once; `turns` counts calls of `again`."""

    secure = False
    certificate = None

    def __init__(self, free_bytes: float = math.inf) -> None:
        super().__init__(free_bytes)
        self.traffic = Traffic()
        self.incoming = b""
        self.reading = True
        self.ended = self.was_shut = self.closed = False
        self.asked: list[int] = []
        self.turns = 0
        self._again = False
        self.peer: Peer | None = None

    def attach(self, peer: Peer) -> None:
        self.peer = peer
        self.writable = peer.writable

    def receive(self, max_bytes: int) -> bytes:
        self.asked.append(max_bytes)
        if not self.incoming and not self.ended:
            raise BlockingIOError
        data, self.incoming = self.incoming[:max_bytes], self.incoming[max_bytes:]
        return data

    def want_read(self, wanted: bool) -> None:
        self.reading = wanted

    def again(self) -> None:
        self._again = True

    def is_open(self) -> bool:
        return not self.closed

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        raise AssertionError("no task is needed here")

    def hung_up(self) -> bool:
        return self.ended

    def shut(self) -> None:
        self.was_shut = True

    def close(self) -> None:
        self.closed = True

    def arrive(self, data: bytes) -> None:
        """Let bytes arrive; have them read as far as the peer wants."""
        self.incoming += data
        self.go_on()

    def end(self) -> None:
        """Let the other end send no more."""
        self.ended = True
        self.go_on()

    def go_on(self) -> None:
        """Tell the peer for as long as it wants to read and there is something."""
        assert self.peer is not None
        while not self.closed and (self._again or (self.reading and (self.incoming or self.ended))):
            self.turns += self._again
            self._again = False
            self.peer.readable()
