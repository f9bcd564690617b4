"""The socket below a connection, as the connection sees it: nothing here waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from softstate.auth.presented import Certificate
from softstate.server.measure.traffic import Traffic


class Peer(Protocol):
    """A connection on a wire, as the edge sees it. None of these waits; one that raises has met a bug (S18)."""

    def readable(self) -> None:
        """Receive what there is, which may be nothing, and act; go on with what was put off."""

    def writable(self) -> None:
        """Go on writing what was pending."""

    def end(self) -> None:
        """End: the peer has gone, or is to be left. Idempotent."""

    def fail(self) -> None:
        """End: a bug was met here."""


class Wire(Protocol):
    """One socket: of the system, or simulated. Its peer is told when there is something to do."""

    peer: Peer | None
    """The connection on it. Another may take its place, as at an upgrade: then reading is asked for, and no writing."""

    @property
    def secure(self) -> bool:
        """Whether TLS protects it as far as this node."""

    @property
    def certificate(self) -> Certificate | None:
        """The certificate that the other end has presented in the handshake of TLS."""

    @property
    def traffic(self) -> Traffic:
        """The counts to which its user adds what it reads and writes."""

    @property
    def try_send(self) -> Callable[[bytes | memoryview], int]:
        """Write what can be written without waiting; return how many bytes were taken.

        Returns 0 or raises `BlockingIOError` if none was. Raises another `OSError` when the connection is gone.
        """

    def receive(self, max_bytes: int) -> bytes:
        """Return what was received, without waiting; nothing at the end, or when the connection is gone.

        Raises `BlockingIOError` when nothing was received.
        """

    def want_read(self, wanted: bool) -> None:
        """Ask to be told when there is something to `receive`, or not to be. From the beginning it is asked for."""

    def again(self) -> None:
        """Ask to be told once more in a later turn of the loop, though nothing may have been received."""

    def want_write(self, wanted: bool) -> None:
        """Ask to be told when `try_send` may take something, or the connection is gone; or not to be."""

    def start_soon(self, task: Callable[[], Awaitable[None]]) -> None:
        """Start a task that ends with this wire at the latest, for what a peer cannot do without waiting."""

    def hung_up(self) -> bool:
        """Tell whether the other end has ended its side, or was lost, without reading, or this wire is closed.

        It may cost a system call.
        """

    def shut(self) -> None:
        """Send the end: nothing will be written any more. What is received is still fed."""

    def close(self) -> None:
        """Close at once. Nothing is told any more. Idempotent."""
