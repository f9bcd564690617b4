"""A simulated network: named hosts, connections between them, and faults on the way.

One task moves all bytes, at virtual times drawn from one generator. Faults are set for one direction at a time, and
take effect at once, also on bytes that are under way. The simulation shows a bad network as TCP does (order is kept;
bytes stall, or the connection dies). On WebSockets it also does what TCP never does: it loses, doubles or delays single
messages. TCP's acknowledgements are not simulated: a stalled direction does not slow the other one.
"""

from __future__ import annotations

import errno
import heapq
import math
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Literal, TypeAlias, final

import trio

from softstate.testing.network.capacity import Capacity, Processor
from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Frame, Kind
from softstate.testing.network.route import Delay, Medium, Route
from softstate.testing.network.stream import SimConnection, SimListener, SimStream

OpenSimStream: TypeAlias = Callable[[str, int, bool], Awaitable[trio.abc.Stream]]
OnFrame: TypeAlias = Callable[[int, Route, Frame], None]
"""Called with the number of a connection, and a frame that was written to it in the direction of a route."""


SYN_AGAIN_S = 1.0
"""Seconds until a host that got no answer asks for a connection again; later attempts wait twice as long each."""


@final
class SimNetwork:
    """Connects hosts by name. Nothing moves unless `run` runs.

    `not_reading` are the hosts whose programs read nothing from their connections; `reading_pause_s` is how long
    others wait before each read; `processors` are those of hosts that can do only so much (`limit`). `on_frame` is
    called with all that is written: WebSocket frames, and what is outside of them.
    """

    def __init__(self, random: Random, *, on_frame: OnFrame | None = None) -> None:
        self.random = random
        self.rules: list[FrameRule] = []
        self.not_reading: dict[str, None] = {}
        self.reading_pause_s: dict[str, float] = {}
        self.processors: dict[str, Processor] = {}
        self.connections: dict[int, SimConnection] = {}
        self._medium = Medium(
            random, self.at, self._rule_for, on_frame or _ignore, self.not_reading, self.reading_pause_s,
            self.processors,
        )  # fmt: skip
        self._opened = 0
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._routes: dict[tuple[str, str], Route] = {}
        self._powered_off: dict[str, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._timer = trio.CancelScope()

    # Time ------------------------------------------------------------------------------------------------------------

    def at(self, at_s: float, call: Callable[[], None]) -> None:
        """Call something at a time of Trio's clock. Calls for the same time are made in the order of their requests."""
        self._numbers += 1
        heapq.heappush(self._due, (at_s, self._numbers, call))
        self._timer.deadline = min(self._timer.deadline, at_s)

    async def run(self) -> None:
        """Move bytes until cancelled."""
        while True:
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    # Connecting ------------------------------------------------------------------------------------------------------

    def limit(self, host: str, capacity: Capacity) -> Processor:
        """Give a host a processor, before it listens: from then on its program can do only so much."""
        self.processors[host] = Processor(capacity)
        return self.processors[host]

    def listen(self, host: str, port: int) -> SimListener:
        """Listen on a port of a host, for `trio.serve_listeners`. Raises OSError if the port is in use."""
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        self._powered_off.pop(host, None)
        closed = partial(self._unlisten, (host, port))
        listener = self._listeners[host, port] = SimListener(closed, self.processors.get(host))
        self._changed.unpark_all()
        return listener

    def opener(self, host: str) -> OpenSimStream:
        """Return a function that opens streams from a host: the `open_stream` of `softstate.connect`."""

        async def open_stream(to: str, port: int, tls: bool) -> SimStream:
            assert not tls, "there is no TLS in simulation"
            return await self.open_stream(host, to, port)

        return open_stream

    async def open_stream(self, host: str, to: str, port: int) -> SimStream:
        """Open a connection; takes a round trip. Raises OSError if nothing listens; waits during a stall.

        While too many wait to be accepted it is tried again, after `SYN_AGAIN_S`, twice as long, and so on, as TCP does
        (RFC 6298 section 2.1, 5.5).
        """
        forth, back = self.route(host, to), self.route(to, host)
        connection: SimConnection | None = None
        again_s = SYN_AGAIN_S
        while True:
            await self._travel(forth, to)
            listener = self._listeners.get((to, port))
            if listener is None:
                break
            self._opened += 1
            closed = partial(self._forget, self._opened)
            connection = SimConnection(self._medium, self._opened, forth, back, closed)
            if listener.offer(connection.node_end):
                self.connections[connection.number] = connection
                break
            connection = None
            await trio.sleep(again_s)
            again_s *= 2
        try:
            await self._travel(back, to)
        except trio.Cancelled:
            if connection is not None:
                connection.client_end.close()
            raise
        if connection is None:
            raise OSError(errno.ECONNREFUSED, f"nothing listens at {to}:{port}")
        return connection.client_end

    async def _travel(self, route: Route, to: str) -> None:
        await trio.sleep(route.delay(self.random))
        while route.stalled or route.ignore_new or to in self._powered_off:
            await self._changed.park()

    def _unlisten(self, address: tuple[str, int], listener: SimListener) -> None:
        if self._listeners.get(address) is listener:
            del self._listeners[address]

    def _forget(self, number: int) -> None:
        self.connections.pop(number, None)

    def between(self, one: str, other: str) -> list[SimConnection]:
        """List the connections between two hosts, in either direction."""
        return [found for found in self.connections.values() if set(found.hosts) == {one, other}]

    def end_process(self, host: str, *, silently: bool) -> None:
        """End the connections and listeners of a host's process. `silently`: its power fails, so nothing answers."""
        if silently:
            self._powered_off[host] = None
        if host in self.processors:
            self.processors[host].restart()
        for listener in [listener for (name, _), listener in self._listeners.items() if name == host]:
            listener.close()
        for connection in [found for found in self.connections.values() if host in found.hosts]:
            connection.abandon(host, silently=silently)

    # Faults ----------------------------------------------------------------------------------------------------------

    def route(self, sender: str, receiver: str) -> Route:
        """Return the route from one host to another."""
        if (sender, receiver) not in self._routes:
            self._routes[sender, receiver] = Route(sender, receiver)
        return self._routes[sender, receiver]

    def routes(self) -> list[Route]:
        """List the routes that were used or changed so far."""
        return list(self._routes.values())

    def set_delay(self, sender: str, receiver: str, delay: Delay) -> None:
        """Draw the delays of one direction from another distribution."""
        self.route(sender, receiver).delay = delay

    def set_window(self, sender: str, receiver: str, window_bytes: int) -> None:
        """Limit the bytes of one direction that are under way, as small socket buffers do."""
        self.route(sender, receiver).window_bytes = window_bytes

    def split(self, sender: str, receiver: str, chunk_bytes: int | None) -> None:
        """Cut the bytes of one direction into random pieces of at most `chunk_bytes`; None: no longer."""
        self.route(sender, receiver).chunk_bytes = chunk_bytes

    def stall(self, sender: str, receiver: str) -> None:
        """Partition one direction: its bytes wait, and so do attempts to connect."""
        self.route(sender, receiver).stalled = True

    def half_open(self, sender: str, receiver: str) -> None:
        """Lose every connection between two hosts for good without telling either: half-open on both sides."""
        for connection in self.between(sender, receiver):
            connection.lose()

    def ignore_new(self, sender: str, receiver: str) -> None:
        """Leave new connections in one direction unanswered."""
        self.route(sender, receiver).ignore_new = True

    def block(self, client: str, node: str, kind: Kind, how: Literal["swallow", "reset"] = "swallow") -> None:
        """Block connections of a kind (``websocket`` or ``http``), existing ones included."""
        self.route(client, node).blocked[kind] = how
        for connection in self.between(client, node):
            connection.check_blocked()

    def reset(self, one: str, other: str) -> None:
        """Reset every connection between two hosts."""
        for connection in self.between(one, other):
            connection.reset()

    def heal(self, sender: str, receiver: str) -> None:
        """End the faults of one direction, except its delays: stalled bytes arrive now. Lost connections stay lost."""
        route = self.route(sender, receiver)
        route.stalled = route.ignore_new = False
        route.chunk_bytes = None
        route.blocked.clear()
        for connection in self.connections.values():
            for pipe in connection.pipes:
                if pipe.route is route:
                    pipe.release()
        self._changed.unpark_all()

    def resume_reading(self, host: str) -> None:
        """Let a host that read nothing, or slowly, read at once again."""
        self.not_reading.pop(host, None)
        self.reading_pause_s.pop(host, None)
        for connection in self.connections.values():
            for pipe in connection.pipes:
                pipe.wake_reader()

    # For pipes -------------------------------------------------------------------------------------------------------

    def _rule_for(self, route: Route, frame: Frame) -> FrameRule | None:
        for rule in self.rules:
            if rule.chooses(route.sender, route.receiver, frame, self.random):
                if rule.hit is not None:
                    rule.hit(frame)
                return rule
        return None


def _ignore(_connection: int, _route: Route, _frame: Frame) -> None:
    pass
