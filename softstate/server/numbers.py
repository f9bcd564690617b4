"""The numbers that a node shows, as `/v1/status` for people and `/metrics` for machines, gathered from its parts."""

from __future__ import annotations

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
from softstate.server.memory.watch import MemoryWatch
from softstate.server.observe.metrics import Labelled, Number, by_label, render
from softstate.server.observe.status import client_counts, lease_counts, outbox_counts, store_counts
from softstate.server.storage.access import StoreAccess
from softstate.server.terms import CurrentTerms
from softstate.server.websocket.beats import Beats
from softstate.store import Store
from softstate.store.base import LASTING

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
    """Gathers them for each request. `outboxes` are those of all WebSockets, `resident` tells the process's memory."""

    def __init__(self, node: Numbered, outboxes: Callable[[], Collection[Outbox]], resident: Callable[[], int]) -> None:
        self._node = node
        self._outboxes = outboxes
        self._resident = resident

    async def run(self) -> None:
        """Count the ages of clients again and again, until cancelled."""
        while True:
            with self._node.bulkhead.contain("numbers"):
                await trio.sleep(SAMPLE_S)
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
            "beat_ms": node.beats.shortest_ms,
            "accepting": int(node.pump.accepting),
            **node.store.gauges(),
            "store_durable": int(node.store.durability in LASTING),
            "memory_bytes": self._resident(),
            **node.memory.statistics(),
            "bugs": node.bulkhead.bugs,
            "revocations": len(node.gate.authority.revocations),
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
        http, reports = node.http.statistics(), node.terms.reports
        numbers: dict[str, Number] = {
            **self.counts(),
            "http_connections": http.connections,
            "http_holds": http.holds,
            "upgrades": http.upgrades,
            "client_age_seconds": reports.sampled,
        }
        labelled: dict[str, Labelled] = {
            "repairs": by_label(node.repairs),
            "websocket_closes": by_label(node.closes),
            "credentials_refused": by_label(node.gate.refusals),
            "limited": by_label(node.gate.limited),
            "memory_estimated_bytes": by_label(node.memory.parts),
            "http_replies": {(route, str(status)): count for (route, status), count in http.replies.items()},
            "client_mode": by_label(reports.modes(node.now())),
        }
        return render(numbers, labelled)
