"""The numbers that a node shows, as `/v1/status` for people and `/metrics` for machines, gathered from its parts."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Protocol, final

import trio

from softstate.lease import LeaseTable
from softstate.server.auth.gate import NodeGate
from softstate.server.bulkhead import RETRY_S, Bulkhead
from softstate.server.certificates import CertificateKeeper
from softstate.server.config import ServerConfig
from softstate.server.edge.admission import Admission
from softstate.server.edge.pump import Pump
from softstate.server.events.streams import Streams
from softstate.server.fanout.hub import Hub
from softstate.server.fanout.outbox import Outbox
from softstate.server.http.server import HttpServer
from softstate.server.measure.histogram import Histogram
from softstate.server.memory.watch import MemoryWatch
from softstate.server.observe.build import own_version
from softstate.server.observe.metrics import Labelled, Number, by_label, process_numbers, render
from softstate.server.observe.status import client_counts, lease_counts, outbox_counts, store_counts
from softstate.server.storage.access import StoreAccess
from softstate.server.terms import CurrentTerms
from softstate.server.websocket.beats import Beats
from softstate.session.load_advice import POLL_LATE, renew_ms
from softstate.store import Store
from softstate.store.base import LASTING

LOOK_S = 1.0
"""How often the lag of the loop is measured."""

SAMPLE_S = 5.0
"""How often each client counts in the histogram of ages."""


class Numbered(Protocol):
    """One node, as its numbers see it."""

    config: ServerConfig
    node_id: str
    started_at: float
    now: Callable[[], float]
    store: Store
    leases: LeaseTable
    hub: Hub
    access: StoreAccess
    admission: Admission
    pump: Pump
    http: HttpServer
    streams: Streams
    beats: Beats
    memory: MemoryWatch
    bulkhead: Bulkhead
    gate: NodeGate
    certificate: CertificateKeeper | None
    terms: CurrentTerms
    revoked: Counter[str]
    repairs: Counter[str]
    closes: Counter[int]

    @property
    def connections(self) -> int:
        """The number of connections that are open."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the node is shutting down."""
        ...


@final
class Numbers:
    """Gathers them for each request.

    `outboxes` are those of all WebSockets, `resident` tells the process's memory, `wall` the time of day.
    """

    def __init__(
        self,
        node: Numbered,
        outboxes: Callable[[], Collection[Outbox]],
        resident: Callable[[], int],
        wall: Callable[[], float],
    ) -> None:
        self.loop_lag = Histogram()
        """How much later than asked for the loop of this node came to a task."""
        self._started_at = wall()
        self._node = node
        self._outboxes = outboxes
        self._resident = resident

    async def run(self) -> None:
        """Measure the lag of the loop, and count the ages of clients, again and again, until cancelled."""
        sampled_at = trio.current_time()
        while True:
            with self._node.bulkhead.contain("numbers"):
                due = trio.current_time() + LOOK_S
                await trio.sleep_until(due)
                self.loop_lag.observe(trio.current_time() - due)
                if due - sampled_at >= SAMPLE_S - LOOK_S / 2:
                    sampled_at = due
                    self._node.terms.reports.sample(self._node.now())
                continue
            await trio.sleep(RETRY_S)

    def counts(self) -> dict[str, int]:
        """Count everything that costs no read of the store."""
        node = self._node
        return {
            **lease_counts(node.leases.statistics()),
            "connections": node.connections,
            **outbox_counts(self._outboxes()),
            **node.hub.statistics(),
            **node.access.statistics(),
            **node.admission.statistics(),
            "greeting": node.http.greeting,
            "streams": node.streams.count,
            "beats": node.beats.due,
            "accepting": int(node.pump.accepting),
            **node.store.gauges(),
            "store_durable": int(node.store.durability in LASTING),
            "memory_bytes": self._resident(),
            **node.memory.statistics(),
            "bugs": node.bulkhead.bugs,
            "revocations_in_force": len(node.gate.authority.revocations),
            **(node.certificate.statistics() if node.certificate is not None else {}),
        }

    async def status(self) -> dict[str, Any]:
        """Count everything, the store's contents included; `topics` and the like are null while the store is down."""
        node = self._node
        return {
            "node": node.node_id,
            "role": node.config.role,
            "store": node.store.name,
            "durability": str(node.store.durability),
            "store_warnings": list(node.store.warnings),
            "store_state": "down" if node.access.follower.down else "ok",
            "position": str(node.hub.position),
            "draining": node.draining,
            "uptime_s": round(node.now() - node.started_at, 3),
            "ttl_ms": node.config.ttl_ms,
            "handshakes_per_s": round(node.terms.handshakes.per_s, 1),
            "polls_per_s": round(node.terms.polls.per_s, 1),
            "beat_ms": node.beats.shortest_ms,
            "polling": node.terms.expected_polls.count(trio.current_time()),
            "clients": client_counts(node.terms.reports, node.now()),
            **await store_counts(node.access.contents),
            **self.counts(),
            "repairs": dict(sorted(node.repairs.items())),
            "limited": dict(sorted(node.gate.limited.items())),
            "memory": {"state": str(node.memory.pressure.fill), **node.memory.parts},
        }

    def metrics(self) -> bytes:
        """Write the counters in Prometheus's text format."""
        node = self._node
        http, reports, config = node.http.statistics(), node.terms.reports, node.config
        numbers: dict[str, Number] = {
            **self.counts(),
            "beat_seconds": node.beats.shortest_ms / 1000,
            "bytes_received": node.pump.traffic.received,
            "bytes_sent": node.pump.traffic.sent,
            "start_time_seconds": self._started_at,
            "loop_lag_seconds": self.loop_lag,
            "publish_duration_seconds": node.access.writes.batcher.durations,
            "read_duration_seconds": node.access.reads.pages.durations,
            "renewal_duration_seconds": node.access.heads.durations,
            "commit_to_write_seconds": node.hub.passing,
            **process_numbers(),
            "http_connections": http.connections,
            "http_holds": http.holds,
            "upgrades": http.upgrades,
            "client_age_seconds": reports.sampled,
            "client_age_bound_seconds": (renew_ms(config.ttl_ms) * POLL_LATE + config.timeout_ms) / 1000,
        }
        told_by_connections = {reason: node.repairs[reason] for reason in ("expired", "slow_consumer")}
        kind = node.store.name.partition(":")[0]
        labelled: dict[str, Labelled] = {
            "build_info": {(own_version(), platform.python_version(), kind, node.config.role): 1},
            "revocations": by_label(node.revoked + Counter(told_by_connections)),
            "publish_errors": by_label(node.access.writes.errors),
            "repairs": by_label(node.repairs),
            "websocket_closes": by_label(node.closes),
            "credentials_refused": by_label(node.gate.refusals),
            "limited": by_label(node.gate.limited),
            "memory_estimated_bytes": by_label(node.memory.parts),
            "http_replies": {(route, str(status)): count for (route, status), count in http.replies.items()},
            "client_mode": by_label(reports.modes(node.now())),
        }
        return render(numbers, labelled)
