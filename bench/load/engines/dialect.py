"""The interface to a store engine without softstate: durable writes, and notifications of them.

A `Writer` has one write under way and tells when it is acknowledged, that is, as durable as the engine is configured to
make it. With `tell`, the write also notifies a `Listener` in the same transaction, by the engine's own means. Each
engine has a module: `redis`, `postgres`, `etcd`. All names begin with a `mark` of this run, so that `Dialect.clear` can
remove them.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from bench.load.process import LoadFailed

ANSWER_S_MAX = 30.0
RECEIVE_BYTES = 64 * 1024
TOPICS_MAX = 256
"""Keys that are written at most, with and without `tell`."""


class Writer(ABC):
    """A connection that writes; `fd` is readable when data has come."""

    fd: int

    @abstractmethod
    def write(self, topic: int, value: bytes, *, tell: bool) -> None:
        """Begin a write; the write before must be acknowledged."""

    @abstractmethod
    def acknowledged(self) -> bool:
        """Receive, and return whether the write is acknowledged. Raises `LoadFailed` if it was refused."""


class Listener(ABC):
    """A connection that is notified of writes with `tell`."""

    fd: int

    @abstractmethod
    def values(self) -> list[bytes]:
        """Receive, and return the values in complete notifications. Raises `LoadFailed`."""


class Dialect(ABC):
    """The protocol of one engine. The constructor creates what writers need."""

    @abstractmethod
    def writer(self) -> Writer:
        """Connect a writer."""

    @abstractmethod
    def listener(self) -> Listener:
        """Connect a listener, which is notified of all writes from now on."""

    @abstractmethod
    def clear(self) -> None:
        """Remove all that was written."""


class Line:
    """A socket, and the data received that was not consumed."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=ANSWER_S_MAX)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def receive(self) -> bytes:
        """Wait for data; return all data that was not consumed. Raises `LoadFailed`."""
        more = self.socket.recv(RECEIVE_BYTES)
        if not more:
            raise LoadFailed(f"the engine closed the connection after {self.rest[:80]!r}")
        self.rest += more
        return self.rest
