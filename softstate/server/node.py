"""One node: puts the parts of the server together, and starts, drains and stops them."""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import structlog
import trio

from softstate.addresses import network_of
from softstate.auth.limits import RateLimits
from softstate.auth.open_authority import EVERYBODY_MAY_ALL, Authority
from softstate.errors import NodeFailed, Overloaded
from softstate.lease import Lease, LeaseTable, Sink
from softstate.model import Durability
from softstate.position import Position
from softstate.server.auth.gate import NodeGate
from softstate.server.auth.ticket_sweep import forget_tickets
from softstate.server.auth.warden import Warden
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.certificates import CertificateKeeper
from softstate.server.config import ServerConfig
from softstate.server.edge.admission import Admission, Kind
from softstate.server.edge.patience import Patience
from softstate.server.edge.per_address import PerAddress
from softstate.server.edge.pump import Pump
from softstate.server.edge.stream_wire import RawSocket, StreamWire
from softstate.server.edge.tls import TlsWire
from softstate.server.edge.waits import waits_told
from softstate.server.edge.wire import Wire
from softstate.server.events.streams import Streams
from softstate.server.explain import Explainer
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import Outbox, OutboxBounds
from softstate.server.fanout.turns import Turns
from softstate.server.http.peer import HttpPeer
from softstate.server.http.server import SHARED_DATE, HttpServer
from softstate.server.http.upgrade import Handshake
from softstate.server.listeners import accept_all, close
from softstate.server.memory.system import resident_bytes
from softstate.server.memory.watch import Holder, MemoryWatch
from softstate.server.numbers import Numbers
from softstate.server.siblings import Siblings
from softstate.server.storage.access import StoreAccess
from softstate.server.storage.asker import ASKER, Asker
from softstate.server.terms import CurrentTerms
from softstate.server.watched_poll import WatchedPoll
from softstate.server.websocket.beats import Beats
from softstate.server.websocket.connection import Connection
from softstate.server.websocket.parts import Parts
from softstate.session import MeasuredRequest
from softstate.store import Store
from softstate.wire.messages import Poll, Reason

CONNECTIONS_RETRY_MS = 1_000
"""Delay after which a client is told to try again if there are too many connections."""

REFUSED_MAX = 32
"""Connections above ``connections_max`` that may be told so at a time; any more are closed at once."""

log = structlog.get_logger("softstate.node")

TOLD_PER_TURN = 32
"""Connections that are told in one turn of the loop that their leases or sessions are over: 40 to 120 us each."""


def _gate(
    config: ServerConfig,
    authority: Authority,
    now: Callable[[], float],
    wall: Callable[[], float],
    jitter: random.Random | None,
) -> NodeGate:
    limits = RateLimits(
        config.publishes_per_s, config.publish_bytes_per_s, config.polls_per_s, config.tickets_per_identity_max
    )
    return NodeGate(
        authority, now, wall,
        hashed=config.log_subjects == "hashed", limits=limits, limit_anonymous=config.limit_anonymous,
        auth_failures_per_s=config.auth_failures_per_s,
        ask_address=bool(config.connections_per_address_max) or config.log_sessions,
        jitter=jitter,
    )  # fmt: skip


class Node:
    """One server process and its soft state. Implements `softstate.server.services.Services`."""

    def __init__(
        self,
        config: ServerConfig,
        store: Store,
        position: Position,
        *,
        tokens: Callable[[], str] | None = None,
        jitter: random.Random | None = None,
        now: Callable[[], float] = trio.current_time,
        bulkhead: Bulkhead | None = None,
        date: Callable[[], str] | None = SHARED_DATE,
        authority: Authority = EVERYBODY_MAY_ALL,
        wall: Callable[[], float] = time.time,
        resident: Callable[[], int] = resident_bytes,
        certificate: CertificateKeeper | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        self.config = config.check()
        self.store = store
        self._tokens = tokens or partial(secrets.token_urlsafe, 16)
        self.node_id = self._tokens()
        self.addresses: list[str] = []
        self.now = now
        """The clock of every lease, in seconds; one that runs in suspend, wherever the host may be suspended."""
        self.gate = _gate(config, authority, now, wall, jitter)
        self.per_address = PerAddress(config.connections_per_address_max)
        self.started_at = now()
        self._draining = trio.Event()
        self.leases = LeaseTable(
            now(),
            sessions_max=config.sessions_max,
            subscriptions_max=config.subscriptions_max,
            sessions_per_identity_max=config.sessions_per_identity_max,
            subscriptions_per_identity_max=config.subscriptions_per_identity_max,
        )
        self.leases.principals.limited = self._limited
        self._wall = wall
        self.bulkhead = bulkhead or Bulkhead()
        self.bulkhead.limit(config.bugs_per_minute_max, self._draining.set)
        self.sockets: dict[Connection, None] = {}
        """The WebSocket connections that are open."""
        self.warden = Warden(self.gate, self.leases, self._revoke, lambda: self.http.held())  # noqa: PLW0108 - it is made later
        if not self.gate.open:
            authority.on_lost = self.warden.lost
        self.hub = Hub(
            self.leases, position, self.bulkhead, self._revoke, self.sockets.keys(), now, config.known_topics_max,
            heed=None if self.gate.open else self.warden.heed,
        )  # fmt: skip
        self.turns = Turns(config.turn_names_max, self.bulkhead)
        self.access = StoreAccess(
            config, store, self.hub, now, self.bulkhead, rewound=self._rewound, skipped=self._skipped
        )
        self.access.writes.check = self.warden.check_room
        self.access.follower.learn = partial(self.warden.learn, store)
        self.certificate, self.siblings = certificate, siblings
        self.reloads: list[Callable[[], None]] = [] if certificate is None else [certificate.reload]
        """Have files read again soon that are read while the node runs."""
        self.terms = CurrentTerms(self.node_id, config, store, self.leases, now)
        """The terms that clients are told now."""
        self.handshakes, self.polls = self.terms.handshakes, self.terms.polls
        self.expected_polls = self.terms.expected_polls
        self.repairs, self.revoked = Counter[str](), Counter[str]()
        """Repairs by name; leases revoked, by reason, but for those whose connection found the reason."""
        self.closes: Counter[int] = Counter()
        # Leases that are over, and whose connections are still to be told so.
        self._untold: deque[tuple[Lease, Reason, int]] = deque()
        self._sweep_rest = trio.CancelScope()
        self.memory = MemoryWatch(
            config.memory_max, self.leases, lambda: self.connections, self._outboxes, self._revoke, self._limited,
            resident, tls=certificate is not None, holders=self._holders,
        )  # fmt: skip
        self._jitter = jitter or random.SystemRandom()
        self._connection_ended = trio.Event()
        self.patience = Patience(self.bulkhead)
        self.admission = Admission(
            self.bulkhead, {Kind.UPGRADE: self.handshakes, Kind.POLL: self.polls}, config.timeout_ms / 1000,
            self._draw_spread_s,
        )  # fmt: skip
        self.pump = Pump(self.bulkhead, self.hub.flush, self.begin, self.admission, self._is_full)
        heads, follower = self.access.heads, self.access.follower
        self.beats = Beats(heads.level, heads, self.bulkhead, now, lambda: follower.down, config.beat_share)
        self._parts = Parts(
            config=config,
            leases=self.leases,
            hub=self.hub,
            access=self.access,
            turns=self.turns,
            patience=self.patience,
            bounds=OutboxBounds(config.pending_max, config.pending_bytes_max, config.congested_s_max),
            bulkhead=self.bulkhead,
            terms=self.terms,
            tokens=self._tokens,
            repairs=self.repairs,
            closes=self.closes,
            now=now,
            handshakes=self.handshakes,
            polls=self.polls,
            beats=self.beats,
            gate=self.gate,
            reports=self.terms.reports,
        )
        self.streams = Streams(self._parts, self.per_address, self.sockets, self._connection_over, self._jitter)
        self.http = HttpServer(self, self._upgrade, self.admission, date, self._note_end, self.streams)
        self.numbers = Numbers(self, self._outboxes, resident, wall)

    # Services -------------------------------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Whether the node is shutting down."""
        return self._draining.is_set()

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        return len(self.sockets) + self.http.open_connections

    @property
    def ready(self) -> bool:
        """Whether clients should be sent here."""
        return self.lagging is None and not self.draining

    @property
    def lagging(self) -> str | None:
        """The reason why clients should be sent to another node, though it does not drain; None if there is none."""
        return self.access.lagging

    @property
    def unready(self) -> str | None:
        """The reason why the store cannot be used from here; None if there is none."""
        return self.access.unready

    @property
    def durability(self) -> Durability:
        """The failures that an acknowledged publish survives, as of now."""
        return self.store.durability

    @property
    def store_name(self) -> str:
        """The name of the store for people; it holds no password."""
        return self.store.name

    @property
    def explainer(self) -> Explainer:
        """Explanations for people."""
        return Explainer(self.node_id, self._parts, self.sockets.keys())

    async def topic_count(self) -> int:
        """Count the topics that have a value."""
        return (await self.store.info()).topics

    def counts(self) -> dict[str, int]:
        """Count everything that costs no read of the store."""
        return self.numbers.counts()

    async def status(self) -> dict[str, Any]:
        """Count everything, the store's contents included; `topics` and the like are null while the store is down."""
        return await self.numbers.status()

    def metrics(self) -> bytes:
        """Write the metrics of this node alone in Prometheus's text format."""
        return self.numbers.metrics()

    async def scrape(self) -> bytes:
        """See `Services.scrape`."""
        return self.metrics() if self.siblings is None else await self.siblings.gather(self.metrics())

    def _outboxes(self) -> list[Outbox]:
        return [socket.outbox for socket in self.sockets if socket.outbox is not None]

    def _holders(self) -> list[Holder]:
        return [*self.sockets, *self.http.peers]

    def _limited(self, limit: str, lease: Lease | None = None) -> None:
        self.gate.note_limited(limit, None if lease is None else lease.identity)

    def _draw_spread_s(self) -> float:
        return self._jitter.uniform(0, self.terms().recover.spread_ms / 1000)

    def _is_full(self) -> bool:
        """Tell whether no more connections are to be accepted now."""
        return self.http.greeting >= self.config.greeting_max or self.admission.full

    def watch_poll(self, *, again: bool) -> WatchedPoll:
        """Begin to measure a poll over HTTP; with `again`, expect its connection to poll again."""
        return WatchedPoll(self.terms, ASKER.get() if again else None)

    def next_poll_ms(self, asker: Asker, wait_ms: int | None = None, said: Poll | None = None) -> int:
        """See `CurrentTerms.next_poll_ms`."""
        return self.terms.next_poll_ms(asker, wait_ms, said)

    # Running --------------------------------------------------------------------------------------------------------

    async def run(
        self, listeners: Sequence[trio.abc.Listener[Any]], *, started: Callable[[], None] = lambda: None
    ) -> None:
        """Serve until drained. If cancelled, drop everything at once, which is always safe.

        Raises `NodeFailed` after bugs that a node must not outlive, or should not (`softstate.server.bulkhead`).
        """
        sockets = [listener.socket for listener in listeners if isinstance(listener, trio.SocketListener)]
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_at_once, nursery.cancel_scope)
                await self.start(nursery)
                rates = (self.handshakes, self.polls) if sockets else ()
                async with trio.open_nursery() as accepting:
                    started()
                    for each in sockets:
                        self.pump.listen(each)
                    for listener in listeners:
                        if not isinstance(listener, trio.SocketListener):
                            accepting.start_soon(accept_all, listener, self.serve_stream, nursery, self.bulkhead)
                    with waits_told(rates):
                        await self._draining.wait()
                    accepting.cancel_scope.cancel()
                self.pump.accept_no_more()
                close(sockets)
                await self._wind_down()
                nursery.cancel_scope.cancel()
        finally:
            close(sockets)
        if self.bulkhead.fatal is not None:
            raise NodeFailed(
                f"the node ended because {self.bulkhead.fatal}: its log has the errors; start it again, and report them"
            )

    async def start(self, nursery: trio.Nursery) -> None:
        """Start all tasks except the listeners in `nursery`."""
        await self.access.follower.learn_first()
        self.access.start(nursery)
        if self.certificate is not None:
            self.certificate.tls.failed = self.gate.note_tls_failed
        if not self.gate.open:
            publish, reads = self.access.writes.publish, self.access.reads
            self.gate.authority.on_changed = self.warden.rules_changed
            if (names := self.gate.authority.names) is not None:
                names.held, names.lost = self.warden.held_by, self.warden.lost_names
            nursery.start_soon(self.warden.judge, lambda: tuple(self.sockets), self.bulkhead)
            nursery.start_soon(self.warden.forget, publish, self._wall, self.bulkhead)
            nursery.start_soon(forget_tickets, reads.read, publish, self._wall, self.bulkhead)
        nursery.start_soon(self._sweep)
        if self.config.memory_max:
            nursery.start_soon(self.memory.run, self.bulkhead)
        nursery.start_soon(self.numbers.run)
        if self.siblings is not None:
            nursery.start_soon(self.siblings.run, self.metrics, self.bulkhead)
        nursery.start_soon(self.patience.run)
        nursery.start_soon(self.pump.run)
        nursery.start_soon(self.beats.run)
        await trio.lowlevel.checkpoint()

    def reload(self) -> None:
        """Have policy, keys and certificate read again soon, as far as they are files; bad ones change nothing."""
        for each in self.reloads:
            each()

    async def drain(self) -> None:
        """Begin to shut down: no new sessions, every client told to come back later, publishes in flight finished."""
        self._draining.set()
        await trio.lowlevel.checkpoint()

    async def _end_at_once(self, everything: trio.CancelScope) -> None:
        await self.bulkhead.wait_ending()
        everything.cancel()

    async def _wind_down(self) -> None:
        with self.bulkhead.contain("drain"):
            log.info("node drains", connections=self.connections, within_s=self.config.drain_s)
            self.http.drain()
        self.bulkhead.each("connection", Connection.drain, tuple(self.sockets), failed=Connection.fail)
        with trio.move_on_after(self.config.drain_s):
            while self.connections:
                self._connection_ended = trio.Event()
                await self._connection_ended.wait()

    async def serve_stream(self, stream: RawSocket) -> None:
        """Serve a connection that is no socket of the system, as in simulation, until it ends."""
        wire = StreamWire(stream, str(stream), self.bulkhead, self.pump.traffic)
        with self.bulkhead.contain("connection", wire.close, peer=str(stream)):
            self.begin(wire, str(stream), 0.0)
        await wire.drive()

    def begin(self, wire: Wire, name: str, waited_s: float) -> None:
        """Serve a new connection, which has waited to be accepted, unless there are too many."""
        config = self.config
        if self.connections >= config.connections_max + REFUSED_MAX:
            wire.close()  # those that are told already may take seconds to leave: this one gets no answer
            return
        full = self.connections >= config.connections_max
        if self.certificate is not None:
            wire = TlsWire(wire, self.certificate.tls, name)
        peer = self.http.open(wire, name, waited_s)
        if full:
            message = f"too many connections, the limit (connections_max) is {config.connections_max}"
            peer.refuse(Overloaded(message, retry_ms=CONNECTIONS_RETRY_MS))
        elif self.per_address.most and (error := peer.count_in()) is not None:
            peer.refuse(error, 429)
        else:
            # Its request is mostly here: to wait until the pump tells of it would cost 40 us more (a prototype).
            self.bulkhead.each("connection", HttpPeer.readable, (peer,), failed=HttpPeer.fail)

    def _upgrade(self, wire: Wire, handshake: Handshake, name: str, since: float) -> None:
        """Have a WebSocket connection take the place of one that speaks HTTP, from the answer to its handshake on."""
        measured = MeasuredRequest(self.handshakes, since)
        connection = Connection(
            self._parts, handshake.codec, wire, measured, self._connection_over, presented=handshake.presented
        )
        self.per_address.enter(network_of(handshake.presented.address))  # the peer before it is counted out
        wire.peer = connection
        with self.bulkhead.contain("handshake", connection.end, peer=name):
            connection.begin(handshake.answer)
        if connection.outbox is not None:
            self.sockets[connection] = None
            with self.bulkhead.contain("connection", connection.fail, peer=name):
                connection.received(handshake.behind)

    def _connection_over(self, connection: Connection) -> None:
        self.sockets.pop(connection, None)
        self.per_address.leave(network_of(connection.machine.presented.address))
        self._note_end()

    def _note_end(self) -> None:
        self._connection_ended.set()
        self.pump.look()

    # Leases that end, and histories that are lost -------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            with self.bulkhead.contain("sweep"):
                await self._sweep_once()
                continue
            await trio.sleep(RETRY_S)

    async def _sweep_once(self) -> None:
        if not self._untold:
            with trio.CancelScope() as self._sweep_rest:
                await trio.sleep(self.leases.next_expire_s(self.now()))
        if self.leases.reapable:
            await self.turns.spend(self.turns.names_max)
            self.leases.reap(self.turns.names_max)
        expired = self.leases.expire(self.now())
        if expired:  # a repair that is counted with 0 would be shown
            self.repairs["expired"] += len(expired)
            self._untold.extend((lease, "expired", 0) for lease in expired)
        while self._untold:
            self._tell_some()
            await trio.lowlevel.checkpoint()

    def _tell_some(self) -> None:
        """Tell as many connections as one turn may that their leases are over."""
        some = [self._untold.popleft() for _ in range(min(TOLD_PER_TURN, len(self._untold)))]
        # A lease whose connection has begun another in between has no sink any more.
        sinks, reasons, retries = zip(*((lease.sink, *told) for lease, *told in some), strict=True)
        self.bulkhead.each("connection", _tell, sinks, reasons, retries, failed=_fail)

    async def _rewound(self, position: Position) -> None:
        """End every session, so many in a turn. Until all have ended, the store answers none (P-REW-9)."""
        self.leases.clear()
        sinks = tuple(self.sockets)
        for at in range(0, len(sinks), TOLD_PER_TURN):
            if at:
                await trio.lowlevel.checkpoint()
            self.bulkhead.each("connection", _leave, sinks[at : at + TOLD_PER_TURN], failed=_fail)
        log.error("every session ended", position=str(position))

    def _skipped(self) -> None:
        self.repairs["skipped"] += 1
        self._revoke(None)

    def _revoke(self, leases: Iterable[Lease] | None, reason: Reason = "overloaded", retry_ms: int = 0) -> None:
        """Revoke leases that were not given what they are owed, or whose credentials were revoked; None for all.

        They are over at once, so that none is certified; the sweep tells their connections.
        """
        cleared = self.leases.clear(leases)
        self.revoked[reason] += len(cleared)
        self._untold.extend((lease, reason, retry_ms) for lease in cleared)
        self._sweep_rest.cancel()


def _tell(sink: Sink | None, reason: Reason, retry_ms: int) -> None:
    if sink is not None:
        sink.revoked(reason, retry_ms)


def _leave(sink: Sink) -> None:
    sink.leave("rewound")


def _fail(sink: Sink) -> None:
    sink.fail()
