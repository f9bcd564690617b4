"""Checks of WebSocket messages: S7, the watermark of a matching `renewed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from softstate.testing.oracle.history import Histories, History, covers
from softstate.testing.oracle.verdict import Findings
from softstate.testing.trace import MessageWritten

Scope: TypeAlias = dict[str, "_Subscription"]


@final
@dataclass(frozen=True, slots=True)
class _Subscription:
    """One name of a lease: the revision that the client had, and up to which it was answered (None: not yet).

    `serial` numbers the `subscribe` that asked for it.
    """

    base: int
    serial: int
    answered: int | None = None


@final
@dataclass(slots=True)
class _Connection:
    """One WebSocket connection. `scope`, the session's names, may move to another connection."""

    scope: Scope = field(default_factory=dict)
    resuming: str | None = None
    since: int = 0
    written: dict[str, int] = field(default_factory=dict)
    asked: dict[Any, set[int]] = field(default_factory=dict)
    """The serials of the names that a subscribe asked for, by its id."""
    renewals: dict[Any, Scope] = field(default_factory=dict)
    """The set as it was when a renewal was written, by its id."""


@final
class WireChecks:
    """Follows every WebSocket connection of which messages are recorded. `renewals` counts those that were checked.

    A message that is lost was still written: noticing the loss is not part of S7. Exempt are names that the client
    subscribed to again, or gave up, between `renew` and `renewed`; and deletions that the answer covered (a client that
    lists from 0 sweeps).
    """

    def __init__(self, histories: Histories, findings: Findings) -> None:
        self.renewals = 0
        self._histories = histories
        self._findings = findings
        self._connections: dict[int, _Connection] = {}
        self._sessions: dict[str, Scope] = {}
        self._serial = 0
        self._ops: dict[str, Callable[[_Connection, MessageWritten, dict[str, Any]], None]] = {
            "hello": self._hello, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe,
            "renew": self._renew, "welcome": self._welcome, "subscribed": self._subscribed,
            "notify": self._notify, "renewed": self._renewed, "revoked": self._revoked,
        }  # fmt: skip

    def written(self, event: MessageWritten) -> None:
        """Record a message, and check it."""
        if event.op in self._ops:
            connection = self._connections.setdefault(event.connection, _Connection())
            self._ops[event.op](connection, event, event.message)

    # Of clients -----------------------------------------------------------------------------------------------------

    def _hello(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        connection.resuming, connection.since = message.get("session"), message.get("since", 0)

    def _subscribe(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        if message.get("replace"):
            connection.scope.clear()
        self._serial += 1
        for name, base in {**message.get("topics", {}), **message.get("prefixes", {})}.items():
            connection.scope[name] = _Subscription(base, self._serial)
        connection.asked.setdefault(message["id"], set()).add(self._serial)

    def _unsubscribe(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        for name in (*message.get("topics", ()), *message.get("prefixes", ())):
            connection.scope.pop(name, None)

    def _renew(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        connection.renewals[message["id"]] = dict(connection.scope)

    # Of nodes -------------------------------------------------------------------------------------------------------

    def _welcome(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        session = message["session"]
        if message.get("resumed") and connection.resuming in self._sessions:
            self._serial += 1
            held = self._sessions[connection.resuming or ""]
            connection.scope = {name: _Subscription(connection.since, self._serial, connection.since) for name in held}
            for renewal in connection.renewals:  # written behind hello: its set is the one that was resumed
                connection.renewals[renewal] = dict(connection.scope)
        self._sessions[session] = connection.scope

    def _subscribed(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        self._write(connection, message.get("changes", ()))
        for topic in message.get("unreadable", ()):
            # Named instead of written: its client knows that it lacks it.
            self._write(connection, [{"topic": topic, "version": message["position"]["revision"]}])
        for name in message.get("denied", ()):
            connection.scope.pop(name, None)
        if message.get("more"):
            return
        serials, revision = connection.asked.get(message["id"], set()), message["position"]["revision"]
        for name, held in connection.scope.items():
            if held.serial in serials:
                connection.scope[name] = _Subscription(held.base, held.serial, revision)

    def _notify(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        self._write(connection, (message,))

    def _revoked(self, connection: _Connection, _event: MessageWritten, _message: dict[str, Any]) -> None:
        connection.scope.clear()
        connection.renewals.clear()

    def _renewed(self, connection: _Connection, event: MessageWritten, message: dict[str, Any]) -> None:
        scope = connection.renewals.pop(message["id"], None)
        if scope is None or not message.get("match") or message.get("store", "ok") != "ok":
            return
        position = message["position"]
        history = self._histories.with_position(position["epoch"], position["lineage"], position["revision"])
        if history is None:
            what = f"position {position} was never on any history"
            self._findings.add("S7", event.at_s, f"{event.sender}→{event.receiver}", what, event)
            return
        self.renewals += 1
        for name, held in scope.items():
            now = connection.scope.get(name)
            if now is not None and now.serial == held.serial:
                self._check(connection, event, history, name, now)
                connection.scope[name] = _Subscription(
                    max(now.base, position["revision"]), now.serial, position["revision"]
                )

    def _check(
        self, connection: _Connection, event: MessageWritten, history: History, name: str, held: _Subscription
    ) -> None:
        revision = event.message["position"]["revision"]
        for topic in history.topics:
            entry = history.at(topic, revision) if covers(name, topic) else None
            if entry is None or entry.revision <= max(held.base, connection.written.get(topic, 0)):
                continue
            if entry.event.deleted and entry.revision <= (held.answered or 0):
                continue
            what = f"renewed at {revision} claims that {topic} at {entry.revision} was written, which it was not"
            self._findings.add("S7", event.at_s, f"{event.sender}→{event.receiver}", what, entry.event, event)

    def _write(self, connection: _Connection, changes: Any) -> None:
        for change in changes:
            topic, version = change["topic"], change["version"]
            connection.written[topic] = max(connection.written.get(topic, 0), version)
