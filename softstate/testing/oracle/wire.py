"""What connections say: S7, the watermark of a matching `renewed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from softstate.testing.oracle.history import Histories, History, covers
from softstate.testing.oracle.verdict import Findings
from softstate.testing.trace import Spoken

Scope: TypeAlias = dict[str, "_Name"]


@final
@dataclass(frozen=True, slots=True)
class _Name:
    """One subscription: what its holder had, and up to where it was answered (None: not yet).

    `serial` tells apart what one `subscribe` asked for from what another did.
    """

    base: int
    serial: int
    answered: int | None = None


@final
@dataclass(slots=True)
class _Talk:
    """One connection. `scope` belongs to the session, which may move to another connection."""

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

    A message that is lost was written all the same: what a node must do about that is not S7. Exempt are names that
    the client asked for anew, or gave up, between `renew` and `renewed`; and deletions that the answer covered (who
    lists from 0 sweeps).
    """

    def __init__(self, histories: Histories, findings: Findings) -> None:
        self.renewals = 0
        self._histories = histories
        self._findings = findings
        self._talks: dict[int, _Talk] = {}
        self._sessions: dict[str, Scope] = {}
        self._serial = 0
        self._ops: dict[str, Callable[[_Talk, Spoken, dict[str, Any]], None]] = {
            "hello": self._hello, "subscribe": self._subscribe, "unsubscribe": self._unsubscribe,
            "renew": self._renew, "welcome": self._welcome, "subscribed": self._subscribed,
            "notify": self._notify, "renewed": self._renewed, "revoked": self._revoked,
        }  # fmt: skip

    def spoken(self, event: Spoken) -> None:
        """Take a message."""
        if event.op in self._ops:
            talk = self._talks.setdefault(event.connection, _Talk())
            self._ops[event.op](talk, event, event.message)

    # What clients say ------------------------------------------------------------------------------------------------

    def _hello(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        talk.resuming, talk.since = message.get("session"), message.get("since", 0)

    def _subscribe(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        if message.get("replace"):
            talk.scope.clear()
        self._serial += 1
        for name, base in {**message.get("topics", {}), **message.get("prefixes", {})}.items():
            talk.scope[name] = _Name(base, self._serial)
        talk.asked.setdefault(message["id"], set()).add(self._serial)

    def _unsubscribe(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        for name in (*message.get("topics", ()), *message.get("prefixes", ())):
            talk.scope.pop(name, None)

    def _renew(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        talk.renewals[message["id"]] = dict(talk.scope)

    # What nodes say --------------------------------------------------------------------------------------------------

    def _welcome(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        session = message["session"]
        if message.get("resumed") and talk.resuming in self._sessions:
            self._serial += 1
            held = self._sessions[talk.resuming or ""]
            talk.scope = {name: _Name(talk.since, self._serial, talk.since) for name in held}
        self._sessions[session] = talk.scope

    def _subscribed(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        self._write(talk, message.get("changes", ()))
        for name in message.get("denied", ()):
            talk.scope.pop(name, None)
        if message.get("more"):
            return
        serials, revision = talk.asked.get(message["id"], set()), message["position"]["revision"]
        for name, held in talk.scope.items():
            if held.serial in serials:
                talk.scope[name] = _Name(held.base, held.serial, revision)

    def _notify(self, talk: _Talk, _event: Spoken, message: dict[str, Any]) -> None:
        self._write(talk, (message,))

    def _revoked(self, talk: _Talk, _event: Spoken, _message: dict[str, Any]) -> None:
        talk.scope.clear()
        talk.renewals.clear()

    def _renewed(self, talk: _Talk, event: Spoken, message: dict[str, Any]) -> None:
        scope = talk.renewals.pop(message["id"], None)
        if scope is None or not message.get("match") or message.get("store", "ok") != "ok":
            return
        position = message["position"]
        history = self._histories.with_position(position["epoch"], position["lineage"], position["revision"])
        if history is None:
            told = f"position {position} was never on any history"
            self._findings.add("S7", event.at, f"{event.sender}→{event.receiver}", told, event)
            return
        self.renewals += 1
        for name, held in scope.items():
            now = talk.scope.get(name)
            if now is not None and now.serial == held.serial:
                self._check(talk, event, history, name, now)
                talk.scope[name] = _Name(max(now.base, position["revision"]), now.serial, position["revision"])

    def _check(self, talk: _Talk, event: Spoken, history: History, name: str, held: _Name) -> None:
        revision = event.message["position"]["revision"]
        for topic in history.topics:
            entry = history.at(topic, revision) if covers(name, topic) else None
            if entry is None or entry.revision <= max(held.base, talk.written.get(topic, 0)):
                continue
            if entry.event.deleted and entry.revision <= (held.answered or 0):
                continue
            told = f"renewed at {revision} says that {topic} at {entry.revision} was written, which it was not"
            self._findings.add("S7", event.at, f"{event.sender}→{event.receiver}", told, entry.event, event)

    def _write(self, talk: _Talk, changes: Any) -> None:
        for change in changes:
            topic, version = change["topic"], change["version"]
            talk.written[topic] = max(talk.written.get(topic, 0), version)
