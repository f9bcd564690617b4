"""Revocations at one node, and the sessions at another one that they end.

``python -m bench.load.revoking``, driven over `bench.load.process`. There is one thread: it waits for the
acknowledgement at the one node, then reads what came at the other. So a time counts from when the acknowledgement was
read, and is nearly nothing if the other node was sooner.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

from bench.load.frames import client_frame, take_frames
from bench.load.process import LoadFailed, serve
from bench.load.protocols import Softstate, Step, value_of
from softstate.wire import CBOR, messages

TOPIC = "bench/revoked"
ANSWER_S_MAX = 30.0
RECEIVE_BYTES = 65_536
BEHIND = 4
"""Values that are published behind a revocation, in the same write."""


class Stream:
    """A connection to a node after its exchanges, whose messages are decoded."""

    def __init__(self, port: int, steps: Sequence[Step], patience_s: float = ANSWER_S_MAX) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=patience_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""
        self._came: list[bytes] = []
        for step in steps:
            self._socket.sendall(step.send)
            data = b""
            while not step.complete(data):
                data += self._receive()

    def send(self, *asked: messages.Message) -> None:
        """Send messages in one write."""
        self._socket.sendall(b"".join(client_frame(CBOR.encode(message)) for message in asked))

    def next(self) -> messages.Message:
        """Wait for the next message."""
        while not self._came:
            self._came, self._rest = take_frames(self._rest + self._receive())
        return CBOR.server_message(self._came.pop(0))

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _receive(self) -> bytes:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise LoadFailed("a node closed a connection")
        return data


class Revoking:
    """An administrator at one node, a subscriber that goes on at another. Each public method is a command."""

    def __init__(self) -> None:
        self._publisher: Stream
        self._innocent: Stream
        self._other_port = 0
        self._number = 0

    def open(self, port: int, other_port: int, token: str) -> dict[str, Any]:
        """Connect to both nodes; the token is the administrator's."""
        protocol = Softstate(token)
        self._publisher = Stream(port, protocol.publisher())
        self._innocent = Stream(other_port, protocol.subscriber([TOPIC]))
        self._other_port = other_port
        return {}

    def revoke(self, subjects: Sequence[tuple[str, str]], patience_s: float = ANSWER_S_MAX) -> dict[str, Any]:
        """Revoke subjects, one after the other; each is a token and the topic that revokes it.

        Returns the times from the acknowledgement of a value, and of the revocation, until they came to the subscriber,
        and how many values it received that were committed behind its revocation. `patience_s` is how long it waits for
        any message.
        """
        values_s, revocations_s, behind = [], [], 0
        for token, revocation in subjects:
            victim = Stream(self._other_port, Softstate(token).subscriber([TOPIC]), patience_s)
            values_s.append(self._publish_one(victim))
            waited_s, received = self._revoke_one(victim, revocation)
            revocations_s.append(waited_s)
            behind += received
            victim.close()
        return {"values_s": values_s, "revocations_s": revocations_s, "received_behind": behind}

    def _publish_one(self, victim: Stream) -> float:
        self._publisher.send(self._value())
        (version,) = self._acknowledged(1)
        acknowledged = time.monotonic()
        while not (isinstance(message := victim.next(), messages.Notify) and message.version == version):
            pass
        return time.monotonic() - acknowledged

    def _revoke_one(self, victim: Stream, topic: str) -> tuple[float, int]:
        """Revoke, and publish in the same write and once more behind it; return the time, and what was received."""
        self._number += 1
        self._publisher.send(messages.Publish(self._number, topic, {}), *(self._value() for _ in range(BEHIND)))
        (revoked,) = self._acknowledged(1)
        acknowledged = time.monotonic()
        versions = []
        while not isinstance(message := victim.next(), messages.Revoked):
            versions += [message.version] if isinstance(message, messages.Notify) else []
        waited_s = time.monotonic() - acknowledged
        if message.reason != "denied":
            raise LoadFailed(f"unexpected message: {message}")
        self._acknowledged(BEHIND)
        self._publisher.send(self._value())
        (last,) = self._acknowledged(1)
        while not (isinstance(said := self._innocent.next(), messages.Notify) and said.version == last):
            pass
        # The other node has passed on all; what it answers to this comes behind all that it has sent the victim.
        victim.send(messages.Renew(1, "", 0))
        while not isinstance(message := victim.next(), messages.Error):
            versions += [message.version] if isinstance(message, messages.Notify) else []
        if message.why != "revoked":
            raise LoadFailed(f"unexpected answer to revoked credentials: {message}")
        return waited_s, sum(version > revoked for version in versions)

    def _value(self) -> messages.Publish:
        self._number += 1
        return messages.Publish(self._number, TOPIC, value_of(self._number))

    def _acknowledged(self, count: int) -> list[int]:
        """Wait for the answers to as many publishes; return their versions."""
        versions = []
        for _ in range(count):
            message = self._publisher.next()
            if not isinstance(message, messages.Published):
                raise LoadFailed(f"a publish was refused: {message}")
            versions.append(message.version)
        return versions


def main() -> None:
    """Serve commands until the parent ends."""
    revoking = Revoking()
    serve({"open": revoking.open, "revoke": revoking.revoke})


if __name__ == "__main__":
    main()
