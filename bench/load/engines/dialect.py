"""What a program says to a store engine itself, with nothing of softstate: durable writes, and hearing of them.

A `Writer` has one write under way and knows when it is acknowledged, that is, as durable as the engine is configured to
make it. With `tell`, the write also notifies a `Listener`, by what the engine has for that, in the same transaction.
Each engine has a module of its own: `engine_redis`, `engine_postgres`, `engine_etcd`. Everything that is written lies
below a `mark` of this run's own, so that `Dialect.clear` can remove it.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from bench.load.process import LoadFailed

ANSWER_S_MAX = 30.0
RECEIVE_BYTES = 64 * 1024
TOPICS_MAX = 256
"""How many keys are ever written, with and without `tell`."""


class Writer(ABC):
    """A connection that writes; `fd` can be read when something has come."""

    fd: int

    @abstractmethod
    def write(self, topic: int, value: bytes, *, tell: bool) -> None:
        """Begin a write; the one before must be acknowledged."""

    @abstractmethod
    def acknowledged(self) -> bool:
        """Take what has come, and tell whether the write is done. Raises `LoadFailed` if it was refused."""


class Listener(ABC):
    """A connection that hears of what is written with `tell`."""

    fd: int

    @abstractmethod
    def heard(self) -> list[bytes]:
        """Take what has come, and return the values in it. Raises `LoadFailed`."""


class Dialect(ABC):
    """How to talk to one engine. The constructor prepares what writers need."""

    @abstractmethod
    def writer(self) -> Writer:
        """Connect a writer."""

    @abstractmethod
    def listener(self) -> Listener:
        """Connect a listener, which hears of everything that is written from now on."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything that was written."""


class Line:
    """A socket and what has come over it that is not used up."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=ANSWER_S_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def receive(self) -> bytes:
        """Wait for more and return everything that is not used up."""
        more = self.socket.recv(RECEIVE_BYTES)
        if not more:
            raise LoadFailed(f"the engine closed the connection after {self.rest[:80]!r}")
        self.rest += more
        return self.rest
