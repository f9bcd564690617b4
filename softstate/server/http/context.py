"""State that the connections and routes of one node share: its services, counts, and the requests that are held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol, TypeAlias

import trio

from softstate.auth.identity import Identity
from softstate.auth.lasting import NOBODY
from softstate.errors import Behind, Overloaded, RequestError
from softstate.model import Page, Query
from softstate.server.auth.warden import Held
from softstate.server.edge.admission import Applicant, Kind
from softstate.server.edge.wire import Wire
from softstate.server.events.request import StreamRequest
from softstate.server.http.upgrade import Handshake
from softstate.server.http.woken_polls import WokenPolls
from softstate.server.http1 import KnownHeads, Reply
from softstate.server.observe.spans import tracing
from softstate.server.services import Services
from softstate.server.storage.asker import ASKER

HOLD_RETRY_MS = 5_000
"""Delay after which a client is told to try again if too many requests are held."""

BEHIND_RETRY_MS = 1_000
"""Delay after which a client is told to try again if a revision was not reached in time."""


class Idle(Protocol):
    """A connection that speaks HTTP."""

    def stop_waiting(self) -> None:
        """End it if it is a kept one without a request under way."""

    @property
    def held_bytes(self) -> int:
        """See `softstate.server.http.channel.HttpChannel.held_bytes`."""

    def shed_memory(self, error: Overloaded) -> None:
        """See `softstate.server.http.channel.HttpChannel.shed_memory`."""


Upgrade: TypeAlias = Callable[[Wire, Handshake, str, float], None]
"""Answers a handshake, and gives the wire another peer: wire, handshake, the name of the other end, and since when the
node has worked on it.

Should it raise before it has done so, the handshake is answered 500.
"""


class OpensStreams(Protocol):
    """Opens streams of events; see `softstate.server.events.streams.Streams`."""

    def open(self, wire: Wire, asked: StreamRequest, head: bytes, name: str, since: float) -> Overloaded | None:
        """Give the wire a stream as its peer, whose reply begins with `head`; or return an error, having done nothing.

        `name` is that of the other end, and since `since` the node has worked on it.
        """

    def draw(self) -> float:
        """Draw a number between 0 and 1, to spread those that are refused a stream."""


class NoStreams:
    """Opens no stream: for servers without sessions."""

    def open(self, *_asked: object) -> Overloaded:
        """Return the refusal."""
        return Overloaded("this server has no streams", retry_ms=HOLD_RETRY_MS)

    def draw(self) -> float:
        """Spread nobody."""
        return 0.0


class Admits(Protocol):
    """Decides whose turn it is; see `softstate.server.edge.admission.Admission`."""

    def ask(self, kind: Kind, applicant: Applicant, since: float, now: float) -> None:
        """Have a request served, or refused, which may be before this returns."""

    def leave(self, kind: Kind, applicant: Applicant) -> None:
        """Drop a request."""

    def retry_s(self, kind: Kind) -> float:
        """Draw when one that is refused now is to come back."""


Settle: TypeAlias = Callable[[Reply | RequestError], None]
"""Takes the answer to a request."""


class HttpContext:
    """The parts of a node that its connections and routes use, what they count, and the requests that are held.

    `left` is called when a connection was answered first, or does not speak HTTP any more; the others are as
    `HttpServer` gets them.
    """

    def __init__(
        self,
        services: Services,
        upgrade: Upgrade,
        admission: Admits,
        date: Callable[[], str] | None,
        left: Callable[[], None],
        streams: OpensStreams,
    ) -> None:
        self.upgrade = upgrade
        self.streams = streams
        self.admission = admission
        self.date = date or str
        self.left = left
        self.replies: Counter[tuple[str, int]] = Counter()
        """Replies by route and status."""
        self.upgrades = 0
        self.peers: dict[Idle, None] = {}
        """The connections that speak HTTP now."""
        self.greeting = 0
        """The connections whose first answer has not been given."""
        self.services = services
        self.config = services.config
        self.heads = KnownHeads(self.config.headers_max)
        self.gate = services.gate
        self.per_address = services.per_address
        self.reads = services.access.reads
        self.unchanged = services.access.unchanged
        self.writes = services.access.writes
        self.hub = services.hub
        self.turns = services.turns
        self.tracing = tracing()
        self.woken = WokenPolls(services.turns, services.bulkhead)
        """The polls that were held, and are to be answered now."""
        self._holds: dict[Held, Identity] = {}

    @property
    def holds(self) -> int:
        """The number of requests that are held."""
        return len(self._holds)

    @property
    def heard(self) -> bool:
        """Whether an answer under credentials need not wait for what may have been revoked (P-AUTH-9)."""
        return self.gate.open or self.services.access.heads.heard

    async def hear(self) -> None:
        """Return once `heard`. Raises `Unavailable` or `Overloaded`."""
        if not self.heard:
            await self.services.access.heads.hear()

    def held(self) -> list[tuple[Held, Identity]]:
        """Return the requests that are held, and whose they are."""
        return list(self._holds.items())

    def takes_hold(self, names: int) -> bool:
        """Tell whether a poll of so many names may be held beside those that are (`holds_max`, `held_names_max`)."""
        held_names = self.hub.recent.watches.names
        return self.holds < self.config.holds_max and held_names + names <= self.config.held_names_max

    def enter_hold(self, held: Held, identity: Identity) -> None:
        """Count a request as held, until `leave_hold`."""
        self._holds[held] = identity

    def leave_hold(self, held: Held) -> None:
        """Count a request out that was held."""
        del self._holds[held]

    async def hold(self, until_s: float, wait: Callable[[], Awaitable[None]], identity: Identity = NOBODY) -> bool:
        """Hold a request until `wait` returns; tell whether it did, rather than being ended (P-HTTP-16).

        It ends at `until_s` of Trio's clock, when the node drains, when the peer hangs up, or when the credentials of
        its identity are revoked; on a node that drains already it does not begin. Raises `Overloaded` when
        ``holds_max`` requests are held.
        """
        if self.services.draining:
            return False
        if self.holds >= self.config.holds_max:
            raise Overloaded(
                f"{self.holds} requests are held here already, the limit (holds_max) is {self.config.holds_max}:"
                " ask without waiting, or later",
                retry_ms=HOLD_RETRY_MS,
            )
        with trio.CancelScope(deadline=until_s) as scope:
            self._holds[scope] = identity
            try:
                async with trio.open_nursery() as watching:
                    watching.start_soon(self._end_when_gone, scope)
                    await wait()
                    watching.cancel_scope.cancel()
            finally:
                del self._holds[scope]
        return not scope.cancelled_caught

    async def _end_when_gone(self, scope: trio.CancelScope) -> None:
        await ASKER.get().hang_up()
        scope.cancel()

    def drain(self) -> None:
        """End every hold, so that held requests are answered now, and every connection without a request."""
        for held in tuple(self._holds):
            held.cancel()
        for peer in tuple(self.peers):
            peer.stop_waiting()

    async def read(self, query: Query, at_least: int = 0) -> Page:
        """Read at a position of at least a revision, waiting up to the node's ``timeout_ms`` for it (P-HTTP-6).

        Raises `Behind` when it is not reached in time, and the errors of `StoreReads.read`.
        """
        page = await self.reads.read(query)
        if page.position.revision >= at_least:
            return page
        await self.hold(trio.current_time() + self.config.timeout_ms / 1000, partial(self.hub.reached, at_least))
        page = await self.reads.read(query)
        if page.position.revision >= at_least:
            return page
        raise Behind(
            f"this node is at revision {page.position.revision}, below {at_least}: wait, or ask another node",
            retry_ms=BEHIND_RETRY_MS,
            position=page.position,
        )
