"""The streams of one node: opened in the place of the connection that asked for one, and counted."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from random import Random
from typing import final

from softstate.addresses import network_of
from softstate.errors import Overloaded
from softstate.server.edge.per_address import PerAddress
from softstate.server.edge.wire import Wire
from softstate.server.events.request import StreamRequest, StreamTimes
from softstate.server.events.stream import EventStream
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.parts import Parts
from softstate.session import MeasuredRequest

RETRY_MS = 5_000
"""Delay after which a client is told to try again if there are too many streams."""

LIFE_JITTER = 0.2
"""The life of a stream varies by this fraction, so that streams that began together do not end together."""


@final
class Streams:
    """Opens streams. `sockets` are all sessions of the node that have a connection; `over` is told when one ends.

    `jitter` draws what differs from stream to stream.
    """

    def __init__(
        self,
        parts: Parts,
        per_address: PerAddress,
        sockets: MutableMapping[Connection, None],
        over: Callable[[Connection], None],
        jitter: Random,
    ) -> None:
        self.count = 0
        """Streams that are open; they are among the sockets."""
        self._parts = parts
        self._per_address = per_address
        self._sockets = sockets
        self._over = over
        self._jitter = jitter
        self._times = StreamTimes(parts.config.sync_ms / 1000, jitter.uniform)

    def open(self, wire: Wire, asked: StreamRequest, head: bytes, name: str, since: float) -> Overloaded | None:
        """Have a stream take the place of a connection that speaks HTTP, from the head of its reply on.

        Returns an error, having done nothing, if there are too many.
        """
        config, bulkhead = self._parts.config, self._parts.bulkhead
        if self.count >= config.streams_max:
            message = f"{self.count} streams are open here already, the limit (streams_max) is {config.streams_max}"
            return Overloaded(message, retry_ms=RETRY_MS)
        life_s = config.stream_s * self._times.uniform(1 - LIFE_JITTER, 1 + LIFE_JITTER)
        measured = MeasuredRequest(self._parts.handshakes, since)
        stream = EventStream(self._parts, wire, measured, self._ended, asked, self._times, life_s)
        self.count += 1
        self._per_address.enter(network_of(asked.presented.address))  # the peer before it is counted out
        wire.peer = stream
        with bulkhead.contain("stream", stream.end, peer=name):
            stream.begin(head)
        if stream.outbox is not None:
            self._sockets[stream] = None
            with bulkhead.contain("connection", stream.fail, peer=name):
                stream.greet()
        return None

    def draw(self) -> float:
        """Draw a number between 0 and 1, to spread those that are refused a stream."""
        return self._jitter.random()

    def _ended(self, stream: Connection) -> None:
        self.count -= 1
        self._over(stream)
