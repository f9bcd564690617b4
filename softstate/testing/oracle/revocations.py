"""Checks of revocations through the store: S12 by revision, of messages as they are written; and S15 of welcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from softstate.testing.oracle.faults import FaultRecord
from softstate.testing.oracle.history import Entry, Histories
from softstate.testing.oracle.permissions import CONGESTED_S
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import MessageWritten, RevocationNamed, TokenIssued

HEARD_S = 5.0
"""For how long a node may answer from the store though its hub is not level with it."""

Change: TypeAlias = dict[str, Any]


@final
@dataclass(slots=True)
class _Connection:
    """One connection: the tokens that it has presented (over HTTP, with the request under way).

    `replayed` is the revision up to which its pushes are an answer from the store: a session was resumed.
    """

    tokens: list[str] = field(default_factory=list)
    hello_at: float = -math.inf
    replayed: int = 0


@final
@dataclass(frozen=True, slots=True)
class _Revoked:
    """A revocation in force. `since` is its commit, or the beginning of the history that was put in place with it."""

    entry: Entry
    since: float
    restored: bool


@final
class RevocationChecks:
    """Follows the topics that revoke tokens, and which tokens a connection presents.

    A revocation is in force from its commit, at revision V, until another commit of its topic, or until the store holds
    a history without it. All the while a connection all of whose tokens are revoked is written no change that was
    committed behind V (S12):

    - no push, whenever and by whichever node: a hub ends the leases before it offers anything behind V;
    - no page of an answer (of a subscribe, poll or request, or the replay of a resumed session) by a node that has told
      anybody of its hub's position at V or above, in a `renewed` or a beat;
    - no page by any node later than `HEARD_S` after the commit, by the node's clock.

    Both times have an allowance of `slack_s`, and of `CONGESTED_S` if the receiver was ever hindered from reading: an
    answer is judged when it is queued. A node that has just stood still is not held to them. A revocation that came
    back with a backup is new to nodes that have not noticed that: its pushes are held to the bound of pages. A change
    is behind V if the present history has it there, and no other history has one of this topic and version.

    S15: no welcome answers a hello that was written after the node had told of a position at V or above.
    """

    def __init__(self, histories: Histories, faults: FaultRecord, bounds: Bounds, findings: Findings) -> None:
        self.judged = 0
        """Messages that were looked at: every token of their connection was revoked."""
        self._histories = histories
        self._faults = faults
        self._bounds = bounds
        self._findings = findings
        self._named: dict[str, dict[str, RevocationNamed]] = {}
        self._tokens: dict[str, TokenIssued] = {}
        self._connections: dict[int, _Connection] = {}
        self._passed: dict[tuple[str, int, int], float] = {}

    def named(self, event: RevocationNamed) -> None:
        """Record what a topic revokes."""
        self._named.setdefault(event.subject, {})[event.topic] = event

    def issued(self, event: TokenIssued) -> None:
        """Record a token."""
        self._tokens[event.token] = event

    def written(self, event: MessageWritten) -> None:
        """Check a message."""
        message = event.message
        match event.op:
            case "hello":
                connection = self._connections.setdefault(event.connection, _Connection())
                connection.tokens, connection.hello_at = _presented(message), event.at_s
            case "request":
                connection = self._connections.setdefault(event.connection, _Connection())
                connection.tokens = _presented(message)
            case "auth" | "renew" | "subscribe" if event.connection in self._connections:
                self._connections[event.connection].tokens += _presented(message)
            case "welcome" if event.connection in self._connections:
                connection = self._connections[event.connection]
                if self._named:
                    connection.replayed = message["position"]["revision"] if message.get("resumed") else 0
                    self._check_welcome(event, connection)
            case "renewed" | "beat" if self._named and message.get("store", "ok") == "ok" and message.get("position"):
                self._note_position(event, message["position"])
            case "notify" if self._named and event.connection in self._connections:
                connection = self._connections[event.connection]
                self._check(event, connection, (message,), pushed=message["version"] > connection.replayed)
            case "subscribed" | "polled" | "answer" if self._named and event.connection in self._connections:
                self._check(event, self._connections[event.connection], message.get("changes", ()), pushed=False)

    # Inside ----------------------------------------------------------------------------------------------------------

    def _note_position(self, event: MessageWritten, position: dict[str, Any]) -> None:
        history, revision = self._histories.current, position["revision"]
        if not history.has((position["epoch"], position["lineage"], revision)):
            return
        for topic in (topic for named in self._named.values() for topic in named):
            entry = history.latest(topic)
            if entry is not None and entry.revision <= revision:
                self._passed.setdefault((event.sender, history.number, entry.revision), event.at_s)

    def _check(
        self, event: MessageWritten, connection: _Connection, changes: Iterable[Change], *, pushed: bool
    ) -> None:
        revoked = self._revoked(connection)
        if revoked is None:
            return
        self.judged += 1
        behind = next((change for change in changes if self._is_behind(change, revoked.entry.revision)), None)
        if behind is None:
            return
        if pushed and not revoked.restored:
            how = "pushed"
        elif event.at_s > self._told_until(event, revoked):
            how = "pushed" if pushed else "answered"
        else:
            return
        version, revision = behind["version"], revoked.entry.revision
        what = f"{behind['topic']} at {version} was {how}, behind the revocation of its tokens at {revision}"
        token = self._tokens[connection.tokens[-1]]
        self._findings.add("S12", event.at_s, token.subject, what, token, revoked.entry.event, event)

    def _check_welcome(self, event: MessageWritten, connection: _Connection) -> None:
        revoked = self._revoked(connection)
        if revoked is None:
            return
        passed_at = self._passed_at(event.sender, revoked)
        if connection.hello_at > passed_at + self._bounds.slack_s:
            what = "welcomed with a token that is revoked"
            token = self._tokens[connection.tokens[-1]]
            self._findings.add("S15", event.at_s, token.subject, what, token, revoked.entry.event, event)

    def _told_until(self, event: MessageWritten, revoked: _Revoked) -> float:
        """Return until when a node may write pages behind a revocation."""
        node, bounds = event.sender, self._bounds
        if self._faults.just_woken(node, event.at_s, CONGESTED_S):
            return math.inf
        until = min(revoked.since + HEARD_S / self._faults.slowest(node), self._passed_at(node, revoked))
        return until + bounds.slack_s + (CONGESTED_S if self._faults.hindered(event.receiver) else 0.0)

    def _passed_at(self, node: str, revoked: _Revoked) -> float:
        return self._passed.get((node, self._histories.current.number, revoked.entry.revision), math.inf)

    def _revoked(self, connection: _Connection) -> _Revoked | None:
        """Return the newest of the revocations of a connection's tokens, None unless each of them is revoked."""
        found = [self._revocation_of(token) for token in connection.tokens]
        known = [revoked for revoked in found if revoked is not None]
        if not known or len(known) < len(found):
            return None
        return max(known, key=lambda revoked: revoked.entry.revision)

    def _revocation_of(self, text: str) -> _Revoked | None:
        token, history = self._tokens.get(text), self._histories.current
        if token is None:
            return None
        found: list[_Revoked] = []
        for named in self._named.get(token.subject, {}).values():
            entry = history.latest(named.topic)
            if entry is None or entry.event.deleted or named.token not in (None, text):
                continue
            value = entry.event.value if isinstance(entry.event.value, dict) else {}
            if token.at_s < value.get("before", math.inf):
                since = max(entry.event.at_s, history.began_s)
                found.append(_Revoked(entry, since, restored=entry.revision <= history.base))
        return min(found, key=lambda revoked: revoked.entry.revision, default=None)

    def _is_behind(self, change: Change, revision: int) -> bool:
        topic, version = change["topic"], change["version"]
        if version <= revision:
            return False
        held = {
            entry.identity
            for history in self._histories
            if (entry := history.at(topic, version)) is not None and entry.revision == version
        }
        entry = self._histories.current.at(topic, version)
        return entry is not None and held == {entry.identity} and entry.revision == version


def _presented(message: dict[str, Any]) -> list[str]:
    return [message["token"]] if message.get("token") is not None else []
