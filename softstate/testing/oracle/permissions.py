"""Checks of permissions: S12 to S16, of messages as they are written, and of changes as applications get them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

from softstate.testing.oracle.faults import FaultRecord
from softstate.testing.oracle.history import covers
from softstate.testing.oracle.verdict import Bounds, Findings
from softstate.testing.trace import (
    ChangeDelivered,
    ClientEnded,
    KeyReplaced,
    MessageWritten,
    RightsChanged,
    TokenIssued,
)

CONGESTED_S = 10.0
"""For how long a node may have what it has queued to write."""


@final
@dataclass(slots=True)
class _Connection:
    """One WebSocket connection: the client behind it, and the tokens that it has presented.

    `asked` are the requests that have names judged, by their ids, with the time at which they were written; `judged_at`
    is that of the last one that was answered. `lost` are the names that `denied` has taken away, with its time, and
    that the client has not asked for since.
    """

    client: str = ""
    asked: dict[Any, float] = field(default_factory=dict)
    judged_at: float = -math.inf
    lost: dict[str, float] = field(default_factory=dict)
    tokens: list[str] = field(default_factory=list)
    resuming: str | None = None


@final
class PermissionChecks:
    """Follows rights and tokens; a world whose nodes check no credentials has none, and nothing is checked.

    S12, S13: each topic that a node writes is covered by one name that its subject may read, or could when it wrote the
    last renewal, subscribe or `auth` that was answered, or within the last lease: a client that does not renew has none
    any more then. Nothing is pushed of names that `denied` has taken away; nor once the last token has ended that the
    connection has presented, but for what waits to be written, and for wall clocks that are wrong. S14: no client
    stops. S15: no welcome answers a token that is not good. S16: a session is resumed by the subject that opened it.
    """

    def __init__(self, faults: FaultRecord, bounds: Bounds, findings: Findings) -> None:
        self.judged = 0
        """Topics that were checked."""
        self._faults = faults
        self._bounds = bounds
        self._findings = findings
        self._rights: dict[str, list[RightsChanged]] = {}
        self._tokens: dict[str, TokenIssued] = {}
        self._dead: dict[str, float] = {}
        self._connections: dict[int, _Connection] = {}
        self._sessions: dict[str, str] = {}

    def rights_changed(self, event: RightsChanged) -> None:
        """Record what a subject may read from now on."""
        self._rights.setdefault(event.subject, []).append(event)

    def issued(self, event: TokenIssued) -> None:
        """Record a token."""
        self._tokens[event.token] = event

    def key_replaced(self, event: KeyReplaced) -> None:
        """Record that tokens are dead."""
        for token in event.tokens:
            self._dead.setdefault(token, event.at_s)

    def ended(self, event: ClientEnded) -> None:
        """Check S14: providers of simulated worlds give a good token in the end."""
        if self._rights and event.how == "stopped":
            self._findings.add(
                "S14", event.at_s, event.client, "it has stopped, though it could get good tokens", event
            )

    def delivered(self, event: ChangeDelivered) -> None:
        """Check S13 of a change that an application was given, by whichever path: it may have travelled for long."""
        if self._rights and not self._could(event.client, event.topic, -math.inf):
            what = f"{event.topic} was delivered, which it could never read"
            self._findings.add("S13", event.at_s, event.client, what, event)

    def written(self, event: MessageWritten) -> None:
        """Check a message."""
        if not self._rights:
            return
        connection = self._connections.setdefault(event.connection, _Connection())
        message = event.message
        match event.op:
            case "hello":
                connection.client, connection.resuming = event.sender, message.get("session")
                connection.tokens = [message["token"]] if "token" in message else []
            case "auth" | "renew" | "subscribe":
                connection.asked[message["id"]] = event.at_s
                connection.tokens += [message["token"]] if "token" in message else []
                for name in (*message.get("topics", ()), *message.get("prefixes", ())):
                    connection.lost.pop(name, None)
            case "welcome":
                self._check_welcome(connection, event, message)
            case "denied":
                connection.lost |= dict.fromkeys(message["names"], event.at_s)
            case "notify":
                self._check_push(connection, event, message["topic"])
                self._check_credentials(connection, event)
            case "subscribed" | "polled":
                self._check_topics(event, [change["topic"] for change in message.get("changes", ())])
        if event.op in ("renewed", "subscribed", "authenticated") and not message.get("more"):
            connection.judged_at = max(connection.judged_at, connection.asked.pop(message["id"], -math.inf))

    # Inside ----------------------------------------------------------------------------------------------------------

    def _check_welcome(self, connection: _Connection, event: MessageWritten, message: dict[str, Any]) -> None:
        token = self._tokens.get(connection.tokens[-1]) if connection.tokens else None
        late = event.at_s - self._written_within_s - self._faults.wall_error_s
        dead_at = self._dead.get(token.token, math.inf) + self._bounds.keys_s if token is not None else 0.0
        if token is None or token.ends_at < late or dead_at < late:
            self._findings.add("S15", event.at_s, event.receiver, "welcomed without a token that is good", token, event)
            return
        resuming = connection.resuming
        if message.get("resumed") and self._sessions.get(resuming or "", token.subject) != token.subject:
            what = f"it resumed a session of {self._sessions[resuming or '']}"
            self._findings.add("S16", event.at_s, token.subject, what, event)
        self._sessions[message["session"]] = token.subject

    def _check_push(self, connection: _Connection, event: MessageWritten, topic: str) -> None:
        self._check_topics(event, [topic], connection.judged_at)
        lost_at = min((at_s for name, at_s in connection.lost.items() if covers(name, topic)), default=math.inf)
        # Another name may have covered it when these were judged, a moment before.
        if lost_at < math.inf and not self._could(event.receiver, topic, lost_at - 2 * self._bounds.slack_s):
            what = f"{topic} was pushed behind the `denied` that took it away"
            self._findings.add("S12", event.at_s, event.receiver, what, event)

    def _check_topics(self, event: MessageWritten, topics: Iterable[str], judged_at: float = -math.inf) -> None:
        since = max(event.at_s - self._bounds.lease_s - self._written_within_s, judged_at)
        for topic in topics:
            self.judged += 1
            if not self._could(event.receiver, topic, since):
                promise = "S12" if self._could(event.receiver, topic, -math.inf) else "S13"
                what = f"{topic} was written, which it may not read"
                self._findings.add(promise, event.at_s, event.receiver, what, self._rights[event.receiver][-1], event)

    def _check_credentials(self, connection: _Connection, event: MessageWritten) -> None:
        tokens = [self._tokens[text] for text in connection.tokens if text in self._tokens]
        ends_at = max((token.ends_at for token in tokens), default=-math.inf)
        late = event.at_s - self._written_within_s - self._faults.wall_error_s
        if ends_at < late and not self._faults.clocks_moved(event.at_s, self._bounds.lease_s):
            what = f"pushed {event.at_s - ends_at:.3f} s after its token had ended"
            self._findings.add("S12", event.at_s, event.receiver, what, tokens[-1] if tokens else None, event)

    @property
    def _written_within_s(self) -> float:
        return CONGESTED_S + 2 * self._bounds.slack_s

    def _could(self, subject: str, topic: str, since: float) -> bool:
        """Tell whether a subject could read a topic at some time since, as far as nodes knew."""
        changes, since = self._rights.get(subject, []), since - self._bounds.rules_s
        ends = [*(change.at_s for change in changes[1:]), math.inf]
        return any(
            end >= since and any(covers(name, topic) for name in change.names)
            for change, end in zip(changes, ends, strict=True)
        )
