"""Counters in Prometheus's text format, made for each request: hot paths touch plain integers only.

There is no global registry, so several nodes may live in one process, as they do in tests and in the simulator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from softstate.server.http.server import HttpStatistics

PREFIX = "softstate_"

Kind: TypeAlias = Literal["counter", "gauge"]

COUNTS: Mapping[str, tuple[Kind, str]] = {
    "sessions": ("gauge", "Leases held, connected or not."),
    "attached": ("gauge", "Leases held by a connection that is open."),
    "detached": ("gauge", "Leases whose connection has ended, and that may be resumed."),
    "leases_given_up": ("counter", "Leases without a connection that made room for others."),
    "subscriptions": ("gauge", "Names of all leases together."),
    "names": ("gauge", "Different names held by at least one lease."),
    "connections": ("gauge", "Open connections, HTTP and WebSocket."),
    "websockets": ("gauge", "Open WebSocket connections, and streams."),
    "streams": ("gauge", "Open streams of events."),
    "congested": ("gauge", "Connections whose socket is full."),
    "pending": ("gauge", "Entries that wait in outboxes."),
    "revision": ("gauge", "Revision that the hub has reached."),
    "publishes_waiting": ("gauge", "Publishes that wait for a commit."),
    "memory_bytes": ("gauge", "Resident memory."),
    "memory_max_bytes": ("gauge", "Memory that the node may use, 0 if it is not watched."),
    "memory_used_bytes": (
        "gauge",
        "Memory that it uses: the larger of estimated and resident memory, less what is free.",
    ),
    "memory_revoked": ("counter", "Leases ended for want of memory."),
    "memory_shed": ("counter", "Connections closed for want of memory: they held large messages."),
    "store_up": ("gauge", "Whether the store answers."),
    "store_writable": ("gauge", "Whether the last publish that had to be committed was."),
    "store_durable": ("gauge", "Whether acknowledged publishes survive the crash of a machine."),
    "store_log_bytes": ("gauge", "Size of SQLite's write-ahead log."),
    "store_keys": ("gauge", "Idempotency keys that the store holds."),
    "store_publishers": ("gauge", "Publishers that the store remembers."),
    "changes": ("counter", "Changes that passed through the hub."),
    "deliveries": ("counter", "Changes offered to a connection."),
    "commits": ("counter", "Store calls that committed publishes."),
    "publishes": ("counter", "Publishes answered after a commit."),
    "publishes_repeated": ("counter", "Publishes that repeated an earlier one's key."),
    "reads": ("counter", "Queries answered."),
    "read_calls": ("counter", "Store reads that answered them."),
    "reads_waiting": ("gauge", "Queries that wait for the store."),
    "reads_shed": ("counter", "Queries refused because they would have been answered too late."),
    "reads_gone": ("counter", "Queries not made because their asker had gone."),
    "handshakes_waiting": ("gauge", "Handshakes that wait to be admitted."),
    "handshakes_shed": ("counter", "Handshakes refused because they would have been served too late."),
    "polls_waiting": ("gauge", "Polls that wait to be admitted."),
    "polls_shed": ("counter", "Polls refused because they would have been served too late."),
    "greeting": ("gauge", "Connections that were accepted, and have not got their first answer."),
    "accepting": ("gauge", "Whether new connections are accepted, or left to the system's queue."),
    "beats": ("counter", "Beats that were due to sessions."),
    "beat_ms": ("gauge", "Shortest time between two beats of a session."),
    "unreadable": ("gauge", "Topics met whose stored record is damaged, 100 at most: publish them again."),
    "polls_unchanged": ("counter", "Polls and subscribes that had nothing to learn, answered without the store."),
    "renewals": ("counter", "Lease renewals taken."),
    "head_reads": ("counter", "Head reads, for renewals and to know how old that is which the hub has passed on."),
    "store_reopened": ("counter", "Times that the store was opened again."),
    "revocations": ("gauge", "Subjects, tokens and keys whose credentials are revoked."),
    "tls_expires_seconds": ("gauge", "Time until the node's certificate ends."),
    "tls_handshakes": ("counter", "Handshakes of TLS that were completed."),
    "tls_refused": ("counter", "Handshakes of TLS that were refused: no TLS, or none that both sides agree on."),
    "bugs": ("counter", "Errors that nobody foresaw, each contained in one request or connection."),
    "store_rewinds": ("counter", "Times that its history was found to be another."),
}
"""Kind and description of the numbers that a node counts; one that is missing here is shown as a bare gauge."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. `name` goes without `PREFIX`, and for a counter without ``_total``.

    `samples` maps label values, in the order of `labels`, to numbers; a metric without labels has the sample ``()``.
    """

    name: str
    help: str
    kind: Kind
    samples: Mapping[tuple[str, ...], float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Collector:
    families: Iterable[Family]

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
            metric = make(PREFIX + family.name, family.help, labels=family.labels)
            for values, number in family.samples.items():
                metric.add_metric(values, number)
            yield metric


def render(families: Iterable[Family]) -> bytes:
    """Write families in text format 0.0.4."""
    return generate_latest(_Collector(families))


def families_of(
    counts: Mapping[str, float],
    repairs: Mapping[str, int],
    closes: Mapping[int, int],
    http: HttpStatistics,
    refusals: Mapping[str, int],
    limited: Mapping[str, int],
    memory: Mapping[str, int],
) -> list[Family]:
    """Return the metrics of a node.

    These are its plain `counts`, its `repairs` by name, its `closes` of WebSockets by code, its HTTP server's, and its
    `refusals` of credentials by the check that refused them, what was refused by the limit that was met, and `memory`
    by what holds it.
    """
    families = []
    for name, number in counts.items():
        kind, words = COUNTS.get(name, ("gauge", name))
        families.append(Family(name, words, kind, {(): number}))
    by_name: dict[tuple[str, ...], float] = {(name,): number for name, number in repairs.items()}
    by_code: dict[tuple[str, ...], float] = {(str(code),): number for code, number in closes.items()}
    by_why: dict[tuple[str, ...], float] = {(why,): number for why, number in refusals.items()}
    by_limit: dict[tuple[str, ...], float] = {(limit,): number for limit, number in limited.items()}
    by_holder: dict[tuple[str, ...], float] = {(what,): number for what, number in memory.items()}
    replies: dict[tuple[str, ...], float] = {
        (route, str(status)): number for (route, status), number in http.replies.items()
    }
    return [
        *families,
        Family("repairs", "Repairs by name.", "counter", by_name, ("what",)),
        Family("websocket_closes", "WebSockets that the node closed, by code.", "counter", by_code, ("code",)),
        Family("credentials_refused", "Credentials refused, by the check that did.", "counter", by_why, ("why",)),
        Family("limited", "Requests refused, by the limit that was met.", "counter", by_limit, ("limit",)),
        Family("memory_estimated_bytes", "Memory, by what holds it, as estimated.", "gauge", by_holder, ("of",)),
        Family("http_replies", "HTTP replies.", "counter", replies, ("route", "status")),
        Family("http_connections", "Open connections that speak HTTP.", "gauge", {(): http.connections}),
        Family("http_holds", "HTTP requests that wait for a change.", "gauge", {(): http.holds}),
        Family("upgrades", "WebSocket handshakes handed over.", "counter", {(): http.upgrades}),
    ]
