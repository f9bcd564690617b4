"""Every event that the log of a node can name, with its level and words: the one place from which documents are made.

Names are a closed list, which a test holds the code to: alerts and filters go by them. A spell of failures is one line
when it begins, and one when it ends. `python -m softstate.server.observe.log_events` writes the list as a table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One event. `debug` is shown with --verbose only; an `error` wants somebody to do something."""

    level: Level
    help: str


EVENTS: Mapping[str, LogEvent] = {
    # The process
    "node started": LogEvent("info", "A node listens (in JSON only: people see it on stdout)."),
    "node drains": LogEvent("info", "It shuts down: every client is told when to come back (error: after many bugs)."),
    "node ends": LogEvent("error", "It ends at once, with exit code 70, rather than certify what may be wrong."),
    "process ends": LogEvent("error", "A call of the store did not return in time at the end."),
    "worker ended": LogEvent("warning", "A worker ended, and is started again."),
    "worker serves again": LogEvent("info", "It listens."),
    "workers killed": LogEvent("error", "Workers did not drain in time."),
    "bug": LogEvent("error", "An error that nobody foresaw, with its traceback; one request or connection has ended."),
    # Clients
    "session begun": LogEvent("info", "A client has its lease (log_sessions)."),
    "session resumed": LogEvent("info", "A client has its lease again (log_sessions)."),
    "connection ended": LogEvent("info", "A WebSocket has ended, and why (log_sessions)."),
    "request answered": LogEvent("info", "A request over HTTP, or a handshake, was answered (access_log)."),
    "every session ended": LogEvent("error", "Every client begins again: the store has another history."),
    "no connection can be accepted": LogEvent("error", "The system has no descriptor or memory left for one."),
    "connections are accepted again": LogEvent("info", "The end of that."),
    "connected on the Unix socket": LogEvent("debug", "Whose process connected."),
    "fewer connections than connections_max": LogEvent("warning", "The limit of open files does not allow them."),
    "the limit of open files cannot be raised": LogEvent("warning", "The system refuses it."),
    "memory nearly full: no new sessions and names": LogEvent("warning", "90 % of memory_max are used."),
    "memory full: leases are revoked, the largest identities first": LogEvent("error", "100 % are used."),
    "memory full, and not of leases: what holds large messages is closed, nothing new taken": LogEvent(
        "error", "100 % are used, and little of it by leases."
    ),
    "memory in order again": LogEvent("info", "The end of that."),
    # Credentials
    "credentials refused": LogEvent("info", "A token was not good, and which check says so (audit)."),
    "denied": LogEvent("info", "A principal may not read or publish a name (audit)."),
    "limit hit": LogEvent("info", "A limit of a principal or an address was met (audit)."),
    "revoked": LogEvent("info", "Credentials were revoked, by their digest."),
    "revocations in force": LogEvent("info", "So many were found in the store."),
    "revocation not forgotten": LogEvent("debug", "A revocation that is over could not be deleted yet."),
    "tickets not forgotten": LogEvent("debug", "Tickets that are over could not be deleted yet."),
    "a token was presented, and this node checks no credentials: start it with --auth to do so": LogEvent(
        "warning", "Once for each node."
    ),
    "rules in force": LogEvent("info", "The policy was read."),
    "policy not changed": LogEvent("warning", "The policy file cannot be read: the rules before it stay."),
    "key not taken": LogEvent("warning", "A key of the policy is not fit."),
    "keys changed": LogEvent("info", "An issuer has other keys."),
    "keys not fetched": LogEvent("warning", "An issuer does not tell its keys; those known stay for a while."),
    "keys too old": LogEvent("error", "Its tokens are refused from now on."),
    "callout failed": LogEvent("warning", "The program that is asked about tokens does not answer."),
    "callout answers again": LogEvent("info", "The end of that."),
    "certificate in use": LogEvent("info", "The certificate of TLS was loaded."),
    "certificate not changed": LogEvent("warning", "A newer one is not fit: the one in use stays."),
    "certificate ends soon: renew it": LogEvent("warning", "In less than two weeks, or a third of its life."),
    "TLS handshake refused": LogEvent("info", "No TLS, or none that both sides agree on (audit)."),
    "TLS broken off": LogEvent("info", "A connection broke the rules of TLS (audit)."),
    # The store
    "store is down": LogEvent("warning", "The store does not answer, and why."),
    "store is still down, for another reason": LogEvent("warning", "The reason is another one than before."),
    "store is up again": LogEvent("info", "The end of that."),
    "publishes fail": LogEvent("error", "The first publish of a spell that could not be committed, and why."),
    "publishes succeed again": LogEvent("info", "The end of that."),
    "reads fail": LogEvent("error", "The first read of a spell that failed, and why."),
    "reads succeed again": LogEvent("info", "The end of that."),
    "store rewound": LogEvent("error", "The store has another history: a backup was restored, or it was wiped."),
    "store fault": LogEvent("warning", "A call met a fault, after which the store is looked at."),
    "store is reopened": LogEvent("warning", "It was replaced, or lost its history."),
    "store is reopened again": LogEvent("warning", "It was replaced once more."),
    "feed skipped": LogEvent("warning", "The store forgot changes before this node had passed them on."),
    "store needs attention": LogEvent("warning", "Its log, or its disk, is larger than it should be."),
    "acknowledged publishes may be lost": LogEvent("warning", "The store is not durable, and why."),
    "acknowledged publishes are durable again": LogEvent("info", "The end of that."),
    "compaction is postponed": LogEvent("warning", "Deletions and keys that are over could not be forgotten."),
    "the store is compacted again": LogEvent("info", "The end of that."),
    "record is unreadable": LogEvent("error", "The stored record of this topic is damaged: publish it again."),
    "more records are unreadable, and are not named here": LogEvent("error", "More than 100 are."),
    "record is readable again": LogEvent("info", "It was published again."),
    "store can be read but not written": LogEvent("warning", "etcd has no quorum, or an alarm."),
    "store opened, but nothing can be written: publishes fail until that has passed": LogEvent(
        "warning", "PostgreSQL only reads, or its disk is full."
    ),
    "store migrated": LogEvent("info", "PostgreSQL: the store has this release's layout."),
    "migrating the store": LogEvent("info", "etcd: it is carried over to this release's layout."),
    "store was migrated": LogEvent("info", "The end of that."),
    "old generation is left": LogEvent("warning", "etcd: rows that a restore replaced could not be deleted."),
    "rows of layout 1 are left": LogEvent("warning", "etcd: rows of the layout before could not be deleted."),
    "rows were lost, or put there by others": LogEvent("warning", "etcd: the counts of rows do not agree."),
    "direct publish refused": LogEvent("warning", "Another program put into the inbox what is no publish."),
    "direct publishes wait in the inbox": LogEvent("warning", "etcd: they could not be moved yet."),
    "inbox not moved": LogEvent("info", "PostgreSQL: the same."),
    "functions of the store replaced by newer ones": LogEvent("info", "PostgreSQL: those for direct publishing."),
    "functions of the store not replaced by newer ones": LogEvent("warning", "PostgreSQL: they belong to others."),
    "etcd asks for no password": LogEvent("warning", "Anybody who reaches etcd may change the store."),
    "etcd tells nothing of itself": LogEvent("debug", "Its status cannot be read."),
}
"""Every event, by its name."""


def table() -> str:
    """Write all events as a table of Markdown."""
    lines = ["| event | level | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {event.level} | {event.help} |" for name, event in EVENTS.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
