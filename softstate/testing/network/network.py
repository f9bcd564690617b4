"""A simulated network: named hosts, connections between them, and whatever may go wrong on the way.

One task moves everything, at virtual times drawn from one generator. Faults are set for one direction at a time and
take effect at once, also on what is under way. What is simulated is what TCP makes of a bad network (order is kept,
bytes stall or the connection dies), and, on WebSockets, what no TCP does: single messages lost, doubled or late.
Acknowledgements are not: a stalled direction does not slow the other one.
"""

from __future__ import annotations

import errno
import heapq
import math
from collections.abc import Awaitable, Callable
from random import Random
from typing import Literal, TypeAlias, final

import trio

from softstate.testing.network.frame_rules import FrameRule
from softstate.testing.network.frame_tap import Frame, Kind
from softstate.testing.network.pipe import Delay, Link
from softstate.testing.network.stream import SimConnection, SimListener, SimStream

OpenSimStream: TypeAlias = Callable[[str, int, bool], Awaitable[trio.abc.Stream]]
Overheard: TypeAlias = Callable[[SimConnection, Link, Frame], None]


@final
class SimNetwork:
    """Connects hosts by name. `run` must run for anything to move.

    `not_reading` are the hosts whose programs read nothing from their connections, `reading_pause_s` says how long
    others wait before each time they do. `listen_in` is called with every WebSocket frame as it is written.
    """

    def __init__(self, random: Random, *, listen_in: Overheard | None = None) -> None:
        self.random = random
        self.rules: list[FrameRule] = []
        self.not_reading: dict[str, None] = {}
        self.reading_pause_s: dict[str, float] = {}
        self.connections: dict[int, SimConnection] = {}
        self._listen_in = listen_in
        self._opened = 0
        self._listeners: dict[tuple[str, int], SimListener] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._dark: dict[str, None] = {}
        self._changed = trio.lowlevel.ParkingLot()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = 0
        self._timer = trio.CancelScope()

    # Time ------------------------------------------------------------------------------------------------------------

    def at(self, at_s: float, call: Callable[[], None]) -> None:
        """Call something at a time of Trio's clock; calls of one time are made in the order they were asked for."""
        self._numbers += 1
        heapq.heappush(self._due, (at_s, self._numbers, call))
        self._timer.deadline = min(self._timer.deadline, at_s)

    async def run(self) -> None:
        """Move everything, for ever."""
        while True:
            with trio.CancelScope(deadline=self._due[0][0] if self._due else math.inf) as self._timer:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()

    # Connecting ------------------------------------------------------------------------------------------------------

    def listen(self, host: str, port: int) -> SimListener:
        """Listen on a port of a host, for `trio.serve_listeners`. Raises OSError if somebody does already."""
        if (host, port) in self._listeners:
            raise OSError(errno.EADDRINUSE, f"{host}:{port} is in use")
        self._dark.pop(host, None)
        listener = self._listeners[host, port] = SimListener(self, host, port)
        self._changed.unpark_all()
        return listener

    def opener(self, host: str) -> OpenSimStream:
        """Return what opens streams from a host: the `open_stream` of `softstate.connect`."""

        async def open_stream(to: str, port: int, tls: bool) -> SimStream:
            assert not tls, "there is no TLS in simulation"
            return await self.open_stream(host, to, port)

        return open_stream

    async def open_stream(self, host: str, to: str, port: int) -> SimStream:
        """Open a connection; takes a round trip. Raises OSError if nobody listens; waits while nothing gets through."""
        there, back = self.link(host, to), self.link(to, host)
        await self._travel(there, to)
        listener = self._listeners.get((to, port))
        connection: SimConnection | None = None
        if listener is not None:
            self._opened += 1
            connection = SimConnection(self, self._opened, there, back)
            if not listener.offer(connection.node_end):
                await trio.sleep_forever()
            self.connections[connection.number] = connection
        try:
            await self._travel(back, to)
        except trio.Cancelled:
            if connection is not None:
                connection.client_end.close()
            raise
        if connection is None:
            raise OSError(errno.ECONNREFUSED, f"nobody listens at {to}:{port}")
        return connection.client_end

    async def _travel(self, link: Link, to: str) -> None:
        await trio.sleep(link.delay(self.random))
        while link.stalled or link.no_new or to in self._dark:
            await self._changed.park()

    def unlisten(self, address: tuple[str, int], listener: SimListener) -> None:
        """Take note that a listener was closed."""
        if self._listeners.get(address) is listener:
            del self._listeners[address]

    def forget(self, connection: SimConnection) -> None:
        """Take note that both ends of a connection are closed."""
        self.connections.pop(connection.number, None)

    def between(self, one: str, other: str) -> list[SimConnection]:
        """List the connections between two hosts, whoever opened them."""
        return [found for found in self.connections.values() if set(found.hosts) == {one, other}]

    def leave(self, host: str, *, silently: bool) -> None:
        """End a host's process: its connections and listeners. `silently`: its power; nothing answers for it."""
        if silently:
            self._dark[host] = None
        for listener in [listener for (name, _), listener in self._listeners.items() if name == host]:
            listener.close()
        for connection in [found for found in self.connections.values() if host in found.hosts]:
            connection.abandon(host, silently=silently)

    # Faults ----------------------------------------------------------------------------------------------------------

    def link(self, sender: str, receiver: str) -> Link:
        """Return one direction between two hosts."""
        if (sender, receiver) not in self._links:
            self._links[sender, receiver] = Link(sender, receiver)
        return self._links[sender, receiver]

    def links(self) -> list[Link]:
        """List the directions that were ever used or changed."""
        return list(self._links.values())

    def slow(self, sender: str, receiver: str, delay: Delay) -> None:
        """Draw the delays of one direction from another distribution."""
        self.link(sender, receiver).delay = delay

    def narrow(self, sender: str, receiver: str, window_bytes: int) -> None:
        """Let fewer bytes of one direction be under way: a small socket buffer, soon full."""
        self.link(sender, receiver).window_bytes = window_bytes

    def split(self, sender: str, receiver: str, chunk_bytes: int | None) -> None:
        """Cut the bytes of one direction into random pieces of at most so many; None: no longer."""
        self.link(sender, receiver).chunk_bytes = chunk_bytes

    def stall(self, sender: str, receiver: str) -> None:
        """Partition one direction: its bytes wait, and so does who connects."""
        self.link(sender, receiver).stalled = True

    def lose_held(self, sender: str, receiver: str) -> None:
        """Give up every connection between two hosts for good, without telling either: half-open on both sides."""
        for connection in self.between(sender, receiver):
            connection.lose()

    def answer_no_new(self, sender: str, receiver: str) -> None:
        """Let new connections in one direction go unanswered."""
        self.link(sender, receiver).no_new = True

    def block(self, client: str, node: str, kind: Kind, how: Literal["swallow", "reset"] = "swallow") -> None:
        """Block what asks for WebSocket, or what does not (``http``); the connections that there are as well."""
        self.link(client, node).blocked[kind] = how
        for connection in self.between(client, node):
            connection.check_blocked()

    def reset(self, one: str, other: str) -> None:
        """Reset every connection between two hosts."""
        for connection in self.between(one, other):
            connection.reset()

    def heal(self, sender: str, receiver: str) -> None:
        """Let one direction work as ever, but for its delays: what was held up arrives now. Lost things stay lost."""
        link = self.link(sender, receiver)
        link.stalled = link.no_new = False
        link.chunk_bytes = None
        link.blocked.clear()
        for connection in self.connections.values():
            for pipe in connection.pipes:
                if pipe.link is link:
                    pipe.release()
        self._changed.unpark_all()

    def read_again(self, host: str) -> None:
        """Let a host that read nothing, or slowly, read on."""
        self.not_reading.pop(host, None)
        self.reading_pause_s.pop(host, None)
        for connection in self.connections.values():
            for pipe in connection.pipes:
                pipe.wake_reader()

    # What pipes ask for ----------------------------------------------------------------------------------------------

    def rule_for(self, link: Link, frame: Frame) -> FrameRule | None:
        """Return the first rule that chooses a frame."""
        for rule in self.rules:
            if rule.chooses(link.sender, link.receiver, frame, self.random):
                if rule.hit is not None:
                    rule.hit(frame)
                return rule
        return None

    def overheard(self, connection: SimConnection, link: Link, frame: Frame) -> None:
        """Tell whoever listens in."""
        if self._listen_in is not None and frame.opcode is not None:
            self._listen_in(connection, link, frame)
