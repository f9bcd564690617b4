"""A reader of streams of events, sans-I/O: what a client needs that has nothing but the protocol (P-SSE).

`EventParser` cuts bytes into events as browsers do. `StreamReader` holds what they tell: values, the position to go on
from, and an age that is never too young, however long the bytes were held back on their way.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from softstate.model import Change
from softstate.names import covers

CLOCK_RATE_MIN = 0.99
"""The slowest that the clock of a client is taken to run."""

CLOCK_RATES_MIN = 0.98
"""The least that passes here while one second passes by a node's clock: both may be wrong by 1 %."""

LINE_END = b"\n"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event; `id` is that of the last event with one, as a browser tells it."""

    kind: str
    data: str
    id: str


class EventParser:
    """Cuts a stream into events (HTML Living Standard, section 9.2.6). `retry_ms` and `last_id` are as last told."""

    def __init__(self, last_id: str = "") -> None:
        self.retry_ms: int | None = None
        self.last_id = last_id
        self._rest = b""
        self._id = last_id
        self._kind = ""
        self._data: list[str] = []

    def feed(self, data: bytes) -> Iterator[StreamEvent]:
        """Take bytes, cut anywhere; yield the events that they complete. Nodes end lines with LF."""
        self._rest += data
        while (end := self._rest.find(LINE_END)) >= 0:
            line, self._rest = self._rest[:end].decode(), self._rest[end + 1 :]
            if line:
                self._take(line)
            elif self._data:
                self.last_id = self._id
                yield StreamEvent(self._kind or "message", "\n".join(self._data), self.last_id)
                self._kind, self._data = "", []
            else:
                self._kind = ""

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
            case "id":
                self._id = value
            case "retry" if value.isdigit():
                self.retry_ms = int(value)


@dataclass(slots=True)
class StreamReader:
    """A client of streams, one after the other. `now` is in seconds of a clock that runs in suspend.

    `values` are the newest states by topic, with their versions; those that were deleted since the last `sync` are
    among `deleted`. `news` are all changes, in order, and None for a reset; its owner may empty it. `ended` is the
    reason of the last `gone`, and `resets` counts how often the history was another one. The age is not that of
    topics that are `unreadable`.
    """

    names: tuple[str, ...]
    values: dict[str, tuple[int, Any]] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    news: list[Change | None] = field(default_factory=list)
    ended: str | None = None
    resets: int = 0
    denied: list[str] = field(default_factory=list)
    unreadable: set[str] = field(default_factory=set)
    events: list[StreamEvent] = field(default_factory=list)
    next_ms: int = 0
    _parser: EventParser = field(default_factory=EventParser)
    _asof: float = -math.inf
    _sent: float = 0.0
    _anchor_ms: int | None = None
    _listing: bool = True
    _listed: set[str] = field(default_factory=set)

    @property
    def last_id(self) -> str:
        """The position to go on from; empty if there is none."""
        return self._parser.last_id

    @property
    def retry_ms(self) -> int | None:
        """When to come back, once a stream has ended."""
        return self._parser.retry_ms

    def asked(self, now: float) -> None:
        """Begin another stream: its request is sent now."""
        self._parser = EventParser(self._parser.last_id)
        self._sent, self._anchor_ms, self.ended = now, None, None
        self._listing, self._listed = not self.last_id, set()

    def age_s(self, now: float) -> float:
        """Return how old the values are at most; infinity before the first `sync`."""
        return (now - self._asof) / CLOCK_RATE_MIN

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes of the body."""
        for event in self._parser.feed(data):
            self.events.append(event)
            told = json.loads(event.data)
            match event.kind:
                case "open":
                    self._anchor_ms = told["clock_ms"]
                case "message":
                    self._apply(told)
                case "sync":
                    self._synced(told, event.id, now)
                case "reset":
                    self.values.clear()
                    self.deleted.clear()
                    self.unreadable.clear()
                    self.news.append(None)
                    self.resets += 1
                    self._asof, self._listing, self._listed = -math.inf, True, set()
                case "gone":
                    self.ended = told["reason"]

    def _apply(self, change: dict[str, Any]) -> None:
        topic, version = change["topic"], change["version"]
        self._listed.add(topic)
        if version > max(self.values.get(topic, (0, None))[0], self.deleted.get(topic, 0)):
            if change.get("deleted"):
                if topic in self.values or topic in self.unreadable:
                    self._delete(topic, version)
                else:  # a stream that lists again repeats deletions
                    self.deleted[topic] = version
            elif "value" in change:
                self.deleted.pop(topic, None)
                self.unreadable.discard(topic)
                self.values[topic] = version, change["value"]
                self.news.append(Change(topic, version, change["value"]))
            else:
                self.unreadable.add(topic)

    def _delete(self, topic: str, version: int) -> None:
        self.values.pop(topic, None)
        self.unreadable.discard(topic)
        self.deleted[topic] = version
        self.news.append(Change(topic, version, deleted=True))

    def _synced(self, told: dict[str, Any], position: str, now: float) -> None:
        self.denied += told.get("denied", ())
        self.unreadable.update(told.get("unreadable", ()))
        swept = list(told.get("compacted", ()))
        if self._listing:
            swept += self.names
        for topic in [topic for topic in self.values if any(covers(name, topic) for name in swept)]:
            if topic not in self._listed and topic not in told.get("unreadable", ()):
                self._delete(topic, int(position.rpartition(".")[2]))
        self.deleted.clear()
        self._listing, self._listed = False, set()
        self.next_ms = told["next_ms"]
        if self._anchor_ms is None:
            return
        passed_s = (told["clock_ms"] - self._anchor_ms) / 1000
        asof = self._sent + (passed_s * CLOCK_RATES_MIN if passed_s > 0 else passed_s)
        if asof <= now:  # else a clock is broken
            self._asof = max(self._asof, asof)
