"""The HTTP server: every accepted connection begins here, and stays here unless it becomes a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import final

from softstate.auth.identity import Identity
from softstate.server.auth.warden import Held
from softstate.server.edge.wire import Wire
from softstate.server.http.context import Admits, HttpContext, Idle, NoStreams, OpensStreams, Upgrade
from softstate.server.http.date import SharedDate
from softstate.server.http.peer import HttpPeer
from softstate.server.http.shedding import Shedding
from softstate.server.services import Services

NO_STREAMS = NoStreams()

SHARED_DATE = SharedDate()
"""The wall clock of this process, for the ``Date`` of replies."""


@final
@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """Counts since the start: `replies` by (route, status), and `upgrades`; and counts of now.

    `connections` are those that speak HTTP at the moment, `holds` their requests that wait for a change.
    """

    replies: Mapping[tuple[str, int], int]
    upgrades: int
    connections: int
    holds: int


def _nothing() -> None:
    """Take no note."""


@final
class HttpServer:
    """Serves the connections of one node.

    `upgrade` is given every valid handshake that `admission` admits. The node enforces the limit of connections, by
    having those beyond it `HttpPeer.refuse`. `date` writes the ``Date`` of replies; None stands for a server without a
    clock, which sends none (RFC 9110 section 6.6.1). `left` is called when a connection ends, does not speak HTTP any
    more, or got its first answer. `streams` opens streams of events in its place.
    """

    def __init__(
        self,
        services: Services,
        upgrade: Upgrade,
        admission: Admits,
        date: Callable[[], str] | None = SHARED_DATE,
        left: Callable[[], None] = _nothing,
        streams: OpensStreams = NO_STREAMS,
    ) -> None:
        self._context = HttpContext(services, upgrade, admission, date, left, streams)
        self._shedding = Shedding()

    def statistics(self) -> HttpStatistics:
        """Count replies and upgrades since the start, and connections and held requests now."""
        context = self._context
        return HttpStatistics(dict(context.replies), context.upgrades, len(context.peers), context.holds)

    @property
    def peers(self) -> Collection[Idle]:
        """The connections that speak HTTP now."""
        return self._context.peers.keys()

    @property
    def open_connections(self) -> int:
        """The number of connections that speak HTTP now."""
        return len(self._context.peers)

    @property
    def greeting(self) -> int:
        """The number of connections whose first answer has not been given."""
        return self._context.greeting

    def held(self) -> list[tuple[Held, Identity]]:
        """Return the requests that are held, and whose they are."""
        return self._context.held()

    def drain(self) -> None:
        """Answer held requests now, and close idle connections; call it once ``services.draining`` is true.

        Every other connection is closed by its next reply.
        """
        self._context.drain()

    def open(self, wire: Wire, name: str, waited_s: float = 0.0) -> HttpPeer:
        """Serve a new connection; `name` is the address of its other end. It has waited for that."""
        peer = HttpPeer(self._context, self._shedding, wire, name, waited_s)
        wire.peer = peer
        return peer
