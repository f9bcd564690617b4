"""Checks of WebSocket messages: S7, the watermark of a matching `renewed`, and that of a `beat`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from softstate.testing.oracle.history import Histories, History, Identity, covers
from softstate.testing.oracle.verdict import Findings
from softstate.testing.trace import MessageWritten

Scope: TypeAlias = dict[str, "_Subscription"]


@final
@dataclass(frozen=True, slots=True)
class _Subscription:
    """One name of a lease: the revision that the client had, and up to which it was answered (None: not yet).

    `serial` numbers the `subscribe` that asked for it. `certified` is the position that was certified last on this
    connection; None: none was, and beats do not tell of it.
    """

    base: int
    serial: int
    answered: int | None = None
    certified: Identity | None = None


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
    """Follows every WebSocket connection of which messages are recorded. `renewals` and `beats` count those checked.

    A message that is lost was still written: noticing the loss is not part of S7. Exempt are names that the client
    subscribed to again, or gave up, between `renew` and `renewed`; and deletions that the answer covered (a client that
    lists from 0 sweeps).

    A beat answers no request: it tells of the names that a complete `subscribed`, or a matching `renewed`, certified on
    this connection before it was written (a session that was resumed has none at first), and that the client has not
    given up, or subscribed to again, when it is written. It tells of none once the lease was revoked, and of none
    without a `position`. One of a history that is over is held to the changes of that history. One at a position that a
    certificate has passed, in the same history, adds nothing to it: what was newest there need not be written after an
    answer that is newer.
    """

    def __init__(self, histories: Histories, findings: Findings) -> None:
        self.renewals = 0
        self.beats = 0
        self._histories = histories
        self._findings = findings
        self._connections: dict[int, _Connection] = {}
        self._sessions: dict[str, Scope] = {}
        self._serial = 0
        self._ops: dict[str, Callable[[_Connection, MessageWritten, dict[str, Any]], None]] = {
            "hello": self._hello, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe,
            "renew": self._renew, "welcome": self._welcome, "subscribed": self._subscribed,
            "notify": self._notify, "renewed": self._renewed, "beat": self._beat, "revoked": self._revoked,
            "denied": self._denied,
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

    def _denied(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        for name in message["names"]:
            for scope in (connection.scope, *connection.renewals.values()):
                scope.pop(name, None)

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
        serials, at = connection.asked.get(message["id"], set()), _identity(message["position"])
        for name, held in connection.scope.items():
            if held.serial in serials:
                connection.scope[name] = _Subscription(held.base, held.serial, at[-1], at)

    def _notify(self, connection: _Connection, _event: MessageWritten, message: dict[str, Any]) -> None:
        self._write(connection, (message,))

    def _revoked(self, connection: _Connection, _event: MessageWritten, _message: dict[str, Any]) -> None:
        connection.scope.clear()
        connection.renewals.clear()

    def _renewed(self, connection: _Connection, event: MessageWritten, message: dict[str, Any]) -> None:
        scope = connection.renewals.pop(message["id"], None)
        if scope is None or not message.get("match") or message.get("store", "ok") != "ok":
            return
        self.renewals += 1
        certified = {
            name: now
            for name, held in scope.items()
            if (now := connection.scope.get(name)) is not None and now.serial == held.serial
        }
        self._certify(connection, event, certified)

    def _beat(self, connection: _Connection, event: MessageWritten, message: dict[str, Any]) -> None:
        if not message.get("position"):
            return
        at = _identity(message["position"])
        told = {name: held for name, held in connection.scope.items() if held.certified is not None}
        self.beats += bool(told)
        self._certify(connection, event, {name: held for name, held in told.items() if not self._passed(held, at)})

    def _passed(self, held: _Subscription, at: Identity) -> bool:
        """Tell whether a certificate of a name has passed a position."""
        last = held.certified
        return last is not None and last[-1] >= at[-1] and self._histories.share(last, at)

    def _certify(self, connection: _Connection, event: MessageWritten, certified: Scope) -> None:
        at = _identity(event.message["position"])
        history = self._histories.with_position(*at)
        if history is None:
            what = f"position {at} was never on any history"
            self._findings.add("S7", event.at_s, f"{event.sender}→{event.receiver}", what, event)
            return
        for name, held in certified.items():
            self._check(connection, event, history, name, held)
            connection.scope[name] = _Subscription(max(held.base, at[-1]), held.serial, at[-1], at)

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
            what = f"{event.op} at {revision} claims that {topic} at {entry.revision} was written, which it was not"
            self._findings.add("S7", event.at_s, f"{event.sender}→{event.receiver}", what, entry.event, event)

    def _write(self, connection: _Connection, changes: Any) -> None:
        for change in changes:
            topic, version = change["topic"], change["version"]
            connection.written[topic] = max(connection.written.get(topic, 0), version)


def _identity(position: dict[str, Any]) -> Identity:
    return position["epoch"], position["lineage"], position["revision"]
