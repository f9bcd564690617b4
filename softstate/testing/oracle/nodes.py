"""What nodes may hold: S6, S10 and S11."""

from __future__ import annotations

from typing import final

from softstate.testing.oracle.faults import FaultRecord
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import (
    AgeSampled,
    ClientEnded,
    FaultInjected,
    HistoryReplaced,
    LeasesDropped,
    NodeEnded,
    NodeSampled,
    NodeStarted,
    TraceEvent,
)


@final
class NodeChecks:
    """Compares what nodes hold with what their clients believe. `pending` is the fullest outbox seen."""

    def __init__(self, faults: FaultRecord, bounds: Bounds, findings: Findings) -> None:
        self.pending = 0
        self._faults = faults
        self._bounds = bounds
        self._findings = findings
        self._started = False
        self._up: set[str] = set()
        self._samples: dict[str, NodeSampled] = {}
        self._gone: dict[str, ClientEnded] = {}
        self._dropped: dict[str, LeasesDropped] = {}
        self._last_end = -float("inf")
        self._last_revoked = -float("inf")
        self._live: dict[str, AgeSampled] = {}

    def started(self, event: NodeStarted) -> None:
        """Take a node's start."""
        self._started = True
        self._up.add(event.node)

    def ended(self, event: NodeEnded) -> None:
        """Take a node's end."""
        self._up.discard(event.node)
        self._samples.pop(event.node, None)
        self._last_end = event.at

    def client_ended(self, event: ClientEnded) -> None:
        """Take a client's end: its lease has to go now."""
        self._gone[event.client] = event
        self._live.pop(event.client, None)

    def dropped(self, event: LeasesDropped) -> None:
        """Take amnesia."""
        for client in event.clients:
            self._dropped[client] = event

    def replaced(self, event: HistoryReplaced) -> None:
        """Take the loss of a history: nodes that see it end every session."""
        self._last_end = event.at

    def faulted(self, event: FaultInjected) -> None:
        """Take a fault: samples of before it say nothing."""
        if event.kind in ("freeze", "suspend"):
            self._samples.pop(event.detail, None)

    def sampled(self, event: NodeSampled) -> None:
        """Check S10: what waits is bounded, and the leases of clients that vanished are gone in time.

        A lease may be renewed by what was under way, so its time counts from the last fault that was taken back too.
        """
        before = self._samples.get(event.node)
        if event.revoked > (before.revoked if before is not None else 0):
            self._last_revoked = event.at
        self._samples[event.node] = event
        self.pending = max(self.pending, event.pending)
        bounds = self._bounds
        if event.pending > bounds.pending_max or event.pending_bytes > bounds.pending_bytes_max:
            told = f"{event.pending} entries, {event.pending_bytes} bytes wait in one outbox"
            self._findings.add("S10", event.at, event.node, told, event)
        lease_s = bounds.lease_s / min(1.0, self._faults.slowest(event.node))
        for lease in event.leases:
            gone = self._gone.get(lease.client)
            if gone is not None and event.at > max(gone.at, self._faults.last_at) + lease_s:
                told = f"the lease of {lease.client} is held for {event.at - gone.at:.3f} s after its end"
                self._findings.add("S10", event.at, event.node, told, gone, event)

    def client_sampled(self, event: AgeSampled) -> None:
        """Check S6: a client that believes in a lease is right.

        Nothing can be said while a node is frozen; nor of a client that may not have heard yet that its node ended,
        forgot it, revoked it, or gave up every session with the history of its store, which takes a lease's time at
        most; nor while clocks are off by more than 1 %, jumped or stood still; nor of a client that ever stopped
        reading, which may not hear that its lease was revoked for that.
        """
        self._live[event.client] = event
        at, memory_s = event.at, self._bounds.lease_s
        if (
            event.mode != "live"
            or at < max(self._last_end, self._last_revoked) + memory_s
            or self._faults.clocks_moved(at, 2 * memory_s)
        ):
            return
        if event.client in self._dropped and at < self._dropped[event.client].at + memory_s:
            return
        if self._faults.reads_badly(event.client) or not self._sampled_at(at) or self._holds(event.client):
            return
        last = list(self._samples.values())
        self._findings.add("S6", at, event.client, "live, and no node holds its lease", *last[-2:], event)

    def finish(self, at: float) -> None:
        """Check S11: whoever lost its lease has one again; and S10: no connection is left of those that ended."""
        bounds, healed = self._bounds, self._faults.healed_at
        for client, dropped in self._dropped.items():
            live = self._live.get(client)
            calm_s = at - max(dropped.at, self._last_end, healed if healed is not None else at)
            if live is None or live.mode != "live" or calm_s < bounds.cut_off_s or not self._sampled_at(live.at):
                continue
            if not self._holds(client):
                told = "its lease was forgotten, and it does not know to this day"
                self._findings.add("S11", at, client, told, dropped, live)
        if self._gone and not self._live:
            since = max(self._faults.last_at, *(gone.at for gone in self._gone.values()))
            left: list[TraceEvent] = [sample for sample in self._samples.values() if sample.connections]
            if left and at > since + 2 * bounds.lease_s:
                self._findings.add("S10", at, "nodes", "connections are left, and no client is", *left)

    def _sampled_at(self, at: float) -> bool:
        return self._started and all(node in self._samples and self._samples[node].at == at for node in self._up)

    def _holds(self, client: str) -> bool:
        return any(lease.client == client for sample in self._samples.values() for lease in sample.leases)
