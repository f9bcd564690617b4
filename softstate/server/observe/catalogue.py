"""Every metric that a node shows, with its kind, labels and words: the one place from which documents are made.

`python -m softstate.server.observe.catalogue` writes them as a table of Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

PREFIX = "softstate_"
PROCESS = "process_"
"""The prefix of metrics that every program shows alike."""

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric. Its name goes without `PREFIX`, and for a counter without ``_total``.

    Those of the process have no such prefix.
    """

    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def full_name(name: str) -> str:
    """Return the name that scrapers see."""
    return base_name(name) + "_total" * (METRICS[name].kind == "counter")


def base_name(name: str) -> str:
    """Return that without ``_total``."""
    return name if name.startswith(PROCESS) else PREFIX + name


METRICS: Mapping[str, Described] = {
    "build_info": Described("gauge", "1, with the versions of the node.", ("version", "python", "store", "role")),
    "start_time_seconds": Described("gauge", "When the node started, in seconds since 1970."),
    "process_cpu_seconds": Described("counter", "Processor time of the process."),
    "process_open_fds": Described("gauge", "File descriptors that are open."),
    "process_max_fds": Described("gauge", "File descriptors that may be open."),
    "process_virtual_memory_bytes": Described("gauge", "Virtual memory of the process."),
    "process_resident_memory_bytes": Described("gauge", "Resident memory of the process."),
    "process_start_time_seconds": Described("gauge", "When the process started, in seconds since 1970."),
    "loop_lag_seconds": Described("histogram", "How late the node came to a task that was due, once a second."),
    "publish_duration_seconds": Described("histogram", "Time from taking a publish to its answer by the store."),
    "read_duration_seconds": Described("histogram", "Time from asking a query to its answer by the store."),
    "renewal_duration_seconds": Described("histogram", "Time from taking a renewal to its answer."),
    "commit_to_write_seconds": Described(
        "histogram", "Time from hearing of a commit until its changes are written to every socket that takes them."
    ),
    "publish_errors": Described("counter", "Publishes refused or failed, over both protocols.", ("code",)),
    "bytes_received": Described("counter", "Bytes received, without TLS."),
    "bytes_sent": Described("counter", "Bytes sent, without TLS."),
    "revocations": Described("counter", "Leases that ended before they were released, by reason.", ("reason",)),
    "sessions": Described("gauge", "Leases held, connected or not."),
    "attached": Described("gauge", "Leases held by a connection that is open."),
    "detached": Described("gauge", "Leases whose connection has ended, and that may be resumed."),
    "leases_given_up": Described("counter", "Leases without a connection that were ended for new sessions."),
    "subscriptions": Described("gauge", "Names of all leases together."),
    "names": Described("gauge", "Different names held by at least one lease."),
    "connections": Described("gauge", "Open connections, HTTP and WebSocket."),
    "websockets": Described("gauge", "Open WebSocket connections, and streams."),
    "streams": Described("gauge", "Open streams of events."),
    "congested": Described("gauge", "Connections whose socket is full."),
    "pending": Described("gauge", "Entries that wait in outboxes."),
    "revision": Described("gauge", "Revision that the hub has reached."),
    "publishes_waiting": Described("gauge", "Publishes that wait for a commit."),
    "memory_bytes": Described("gauge", "Resident memory: process_resident_memory_bytes, until the next release."),
    "memory_max_bytes": Described("gauge", "Memory that the node may use, 0 if it is not watched."),
    "memory_used_bytes": Described(
        "gauge", "Memory that it uses: the larger of estimated and resident memory, less what is free."
    ),
    "memory_revoked": Described("counter", "Leases ended for want of memory."),
    "memory_shed": Described("counter", "Connections closed for want of memory: they held large messages."),
    "store_up": Described("gauge", "Whether the store answers."),
    "store_lag_revisions": Described("gauge", "How far the node is behind the newest revision that it has heard of."),
    "store_writable": Described("gauge", "Whether the last publish that had to be committed was."),
    "store_durable": Described("gauge", "Whether acknowledged publishes survive the crash of a machine."),
    "store_log_bytes": Described("gauge", "Size of SQLite's write-ahead log."),
    "store_keys": Described("gauge", "Idempotency keys that the store holds."),
    "store_publishers": Described("gauge", "Publishers that the store remembers."),
    "changes": Described("counter", "Changes that passed through the hub."),
    "deliveries": Described("counter", "Changes offered to a connection."),
    "commits": Described("counter", "Store calls that committed publishes."),
    "publishes": Described("counter", "Publishes answered after a commit."),
    "publishes_repeated": Described("counter", "Publishes that repeated an earlier one's key."),
    "reads": Described("counter", "Queries answered."),
    "read_calls": Described("counter", "Store reads that answered them."),
    "reads_waiting": Described("gauge", "Queries that wait for the store."),
    "reads_shed": Described("counter", "Queries refused because they would have been answered too late."),
    "reads_gone": Described("counter", "Queries not made because their asker had gone."),
    "handshakes_waiting": Described("gauge", "Handshakes that wait to be admitted."),
    "handshakes_shed": Described("counter", "Handshakes refused because they would have been served too late."),
    "polls_waiting": Described("gauge", "Polls that wait to be admitted."),
    "polls_shed": Described("counter", "Polls refused because they would have been served too late."),
    "greeting": Described("gauge", "Connections that were accepted, and have not got their first answer."),
    "accepting": Described("gauge", "Whether new connections are accepted, or left to the system's queue."),
    "beats": Described("counter", "Beats that were due to sessions."),
    "beat_seconds": Described("gauge", "Shortest time between two beats of a session."),
    "unreadable": Described("gauge", "Topics met whose stored record is damaged, 100 at most: publish them again."),
    "polls_unchanged": Described(
        "counter", "Polls and subscribes that had nothing to learn, answered without the store."
    ),
    "renewals": Described("counter", "Lease renewals taken."),
    "head_reads": Described(
        "counter", "Head reads, for renewals and to know how old that is which the hub has passed on."
    ),
    "store_reopened": Described("counter", "Times that the store was opened again."),
    "revocations_in_force": Described("gauge", "Subjects, tokens and keys whose credentials are revoked."),
    "tls_expires_seconds": Described("gauge", "Time until the node's certificate ends."),
    "tls_handshakes": Described("counter", "Handshakes of TLS that were completed."),
    "tls_refused": Described(
        "counter", "Handshakes of TLS that were refused: no TLS, or none that both sides agree on."
    ),
    "bugs": Described("counter", "Errors that nobody foresaw, each contained in one request or connection."),
    "store_rewinds": Described("counter", "Times that its history was found to be another."),
    "repairs": Described("counter", "Repairs by name.", ("what",)),
    "websocket_closes": Described("counter", "WebSockets that the node closed, by code.", ("code",)),
    "credentials_refused": Described("counter", "Credentials refused, by the check that did.", ("why",)),
    "limited": Described("counter", "Requests refused, by the limit that was met.", ("limit",)),
    "memory_estimated_bytes": Described("gauge", "Memory, by what holds it, as estimated.", ("of",)),
    "http_replies": Described("counter", "HTTP replies.", ("route", "status")),
    "http_connections": Described("gauge", "Open connections that speak HTTP."),
    "http_holds": Described("gauge", "HTTP requests that wait for a change."),
    "upgrades": Described("counter", "WebSocket handshakes handed over."),
    "worker_up": Described("gauge", "Whether a worker answered this scrape (with --workers).", ("worker",)),
    "client_age_seconds": Described(
        "histogram", "How old what clients know is, as they say: each client counts once every 5 s."
    ),
    "client_age_bound_seconds": Described(
        "gauge", "Age that a client reaches at most, without beats, until it takes its node for silent."
    ),
    "client_mode": Described("gauge", "Clients by the mode that they say they are in.", ("mode",)),
}
"""Every metric, in the order in which they are shown."""


def table() -> str:
    """Write all metrics as a table of Markdown."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for name, metric in METRICS.items():
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{full_name(name)}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
