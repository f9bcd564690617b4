"""Checks of the state that nodes hold: S6, S10 and S11."""

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
    """Compares the leases of nodes with the modes of their clients. `pending` is the fullest outbox seen."""

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
        self._unseen = False
        self._live: dict[str, AgeSampled] = {}

    def started(self, event: NodeStarted) -> None:
        """Record the start of a node."""
        self._started = True
        self._up.add(event.node)

    def ended(self, event: NodeEnded) -> None:
        """Record the end of a node."""
        self._up.discard(event.node)
        self._samples.pop(event.node, None)
        self._last_end = event.at_s

    def client_ended(self, event: ClientEnded) -> None:
        """Record the end of a client: its lease must expire from now on."""
        self._gone[event.client] = event
        self._live.pop(event.client, None)

    def dropped(self, event: LeasesDropped) -> None:
        """Record amnesia."""
        for client in event.clients:
            self._dropped[client] = event

    def replaced(self, event: HistoryReplaced) -> None:
        """Record the loss of a history: nodes that see it end every session, once they can look at the store."""
        self._last_end = event.at_s
        self._unseen = self._faults.store_fails

    def faulted(self, event: FaultInjected) -> None:
        """Record a fault: earlier samples of a node that stands still say nothing; or the end of one of the store."""
        if event.kind == "freeze":
            self._samples.pop(event.detail, None)
        if self._unseen and not self._faults.store_fails:
            self._unseen, self._last_end = False, event.at_s

    def sampled(self, event: NodeSampled) -> None:
        """Check S10: outboxes are bounded, and the leases of clients that vanished expire in time.

        A message under way may still renew a lease, so its time counts from the end of the last fault too.
        """
        before = self._samples.get(event.node)
        if event.revoked > (before.revoked if before is not None else 0):
            self._last_revoked = event.at_s
        self._samples[event.node] = event
        self.pending = max(self.pending, event.pending)
        bounds = self._bounds
        if event.pending > bounds.pending_max or event.pending_bytes > bounds.pending_bytes_max:
            what = f"{event.pending} entries, {event.pending_bytes} bytes are pending in one outbox"
            self._findings.add("S10", event.at_s, event.node, what, event)
        lease_s = bounds.lease_s / min(1.0, self._faults.slowest(event.node))
        for lease in event.leases:
            gone = self._gone.get(lease.client)
            if gone is not None and event.at_s > max(gone.at_s, self._faults.last_at_s) + lease_s:
                what = f"the lease of {lease.client} is held for {event.at_s - gone.at_s:.3f} s after its end"
                self._findings.add("S10", event.at_s, event.node, what, gone, event)

    def client_sampled(self, event: AgeSampled) -> None:
        """Check S6: a node holds the lease of every live client.

        Exempt is the time while a node is frozen; a client that may not know yet that its node ended, forgot it,
        revoked it, or gave up every session with the history of its store (which takes a lease's time at most); the
        time while clocks are off by more than 1 %, jumped or stood still; and a client that once stopped reading, which
        may not learn that its lease was revoked for that.
        """
        self._live[event.client] = event
        at_s, lease_s = event.at_s, self._bounds.lease_s
        if (
            event.mode != "live"
            or at_s < max(self._last_end, self._last_revoked) + lease_s
            or self._faults.clocks_moved(at_s, 2 * lease_s)
        ):
            return
        if event.client in self._dropped and at_s < self._dropped[event.client].at_s + lease_s:
            return
        if self._faults.has_read_slowly(event.client) or not self._sampled_at(at_s) or self._holds(event.client):
            return
        last = list(self._samples.values())
        self._findings.add("S6", at_s, event.client, "live, and no node holds its lease", *last[-2:], event)

    def finish(self, at_s: float) -> None:
        """Check S11: every client that lost its lease has one again; and S10: ended clients left no connection."""
        bounds, healed = self._bounds, self._faults.healed_at_s
        for client, dropped in self._dropped.items():
            live = self._live.get(client)
            calm_s = at_s - max(dropped.at_s, self._last_end, healed if healed is not None else at_s)
            if live is None or live.mode != "live" or calm_s < bounds.cut_off_s or not self._sampled_at(live.at_s):
                continue
            if not self._holds(client):
                what = "its lease was forgotten, and it has not noticed by the end"
                self._findings.add("S11", at_s, client, what, dropped, live)
        if self._gone and not self._live:
            since = max(self._faults.last_at_s, *(gone.at_s for gone in self._gone.values()))
            left: list[TraceEvent] = [sample for sample in self._samples.values() if sample.connections]
            if left and at_s > since + 2 * bounds.lease_s:
                self._findings.add("S10", at_s, "nodes", "connections are left, and no client is", *left)

    def _sampled_at(self, at_s: float) -> bool:
        return self._started and all(node in self._samples and self._samples[node].at_s == at_s for node in self._up)

    def _holds(self, client: str) -> bool:
        return any(lease.client == client for sample in self._samples.values() for lease in sample.leases)
