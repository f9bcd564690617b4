"""All histories that the store of a simulated world has had, built from the trace's events.

A commit is identified by epoch, lineage and revision: a restored backup brings back exactly the commits that it holds,
and later commits differ from lost ones with the same revisions. Nothing of the product is used here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from softstate.testing.trace import ChangeCommitted, HistoryReplaced, LineageCommitted

Identity: TypeAlias = tuple[str, str, int]
"""Epoch, lineage and revision: one commit, in all histories that contain it."""


def covers(name: str, topic: str) -> bool:
    """Return whether a subscription covers a topic."""
    if name == "/":
        return not topic.startswith("$")
    return name == topic or (name.endswith("/") and topic.startswith(name))


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One commit of a history."""

    event: ChangeCommitted
    identity: Identity

    @property
    def revision(self) -> int:
        """Its revision."""
        return self.event.revision


@final
@dataclass(slots=True)
class History:
    """The commits of the store from `began_s` on, until its history was replaced."""

    number: int
    epoch: str
    began_s: float
    why: str = "created"
    head: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)
    topics: dict[str, list[Entry]] = field(default_factory=dict)
    by_identity: dict[Identity, Entry] = field(default_factory=dict)
    base: int = 0
    """Its revision when it began."""

    def lineage_at(self, revision: int) -> str | None:
        """Return the lineage of a revision; None above the head and below the first row."""
        if revision > self.head:
            return None
        at = bisect_right(self.rows, revision, key=lambda row: row[0])
        return self.rows[at - 1][1] if at else None

    def has(self, position: Identity) -> bool:
        """Tell whether a position is on this history."""
        epoch, lineage, revision = position
        return self.epoch == epoch and self.lineage_at(revision) == lineage

    def add(self, entry: Entry) -> None:
        """Append a commit."""
        self.topics.setdefault(entry.event.topic, []).append(entry)
        self.by_identity[entry.identity] = entry
        self.head = max(self.head, entry.revision)

    def holds_commit(self, entry: Entry) -> bool:
        """Tell whether a commit is in this history.

        By itself: until a node notices that the store was rewound, it goes on in the old lineage, and another commit
        may get the identity of one that was lost.
        """
        found = self.by_identity.get(entry.identity)
        return found is not None and found.event is entry.event

    def at(self, topic: str, revision: int) -> Entry | None:
        """Return the newest commit of a topic at or below a revision."""
        entries = self.topics.get(topic, [])
        found = bisect_right(entries, revision, key=lambda entry: entry.revision)
        return entries[found - 1] if found else None

    def latest(self, topic: str) -> Entry | None:
        """Return the newest commit of a topic."""
        entries = self.topics.get(topic)
        return entries[-1] if entries else None

    def holds(self, topic: str, version: int, *, deleted: bool, value: Any = ...) -> bool:
        """Return whether this was the state of a topic at exactly that version.

        A deletion may also bear the revision of an answer that did not list the topic, or of the floor: it is true if
        there was nothing at that revision. Without a value, values are not compared.
        """
        entry = self.at(topic, version)
        if entry is not None and entry.revision == version and entry.event.deleted == deleted:
            return deleted or value is ... or bool(entry.event.value == value)
        return deleted and 0 < version <= self.head and (entry is None or entry.event.deleted)

    def became_wrong(self, topic: str, version: int, *, deleted: bool) -> float | None:
        """Return when this state of a topic was last current in this history; None: it is, minus infinity: never.

        Absent counts as deleted. A state that the history began with was current from then on.
        """
        wrong = math.inf
        for entry in reversed(self.topics.get(topic, [])):
            if entry.event.deleted if deleted else (entry.revision == version and not entry.event.deleted):
                return None if wrong == math.inf else wrong
            if entry.revision <= self.base:
                return -math.inf
            wrong = entry.event.at_s
        if not deleted:
            return -math.inf
        return None if wrong == math.inf else wrong


@final
class Histories:
    """All histories in order; the last one is the store's current history."""

    def __init__(self) -> None:
        self.all: list[History] = []
        self._commits: dict[Identity, ChangeCommitted] = {}

    @property
    def current(self) -> History:
        """The store's current history."""
        return self.all[-1]

    def __iter__(self) -> Iterator[History]:
        return iter(self.all)

    def opened(self, event: LineageCommitted) -> None:
        """Record a lineage row."""
        if not self.all:
            self.all.append(History(0, event.epoch, event.at_s))
        self.current.rows.append((event.revision, event.lineage))
        self.current.head = max(self.current.head, event.revision)

    def committed(self, event: ChangeCommitted) -> Entry:
        """Record a commit of the current history."""
        if not self.all:
            self.all.append(History(0, "", event.at_s))
        lineage = self.current.rows[-1][1] if self.current.rows else ""
        entry = Entry(event, (self.current.epoch, lineage, event.revision))
        self._commits[entry.identity] = event
        self.current.add(entry)
        return entry

    def replaced(self, event: HistoryReplaced) -> None:
        """Begin another history, with the earlier commits that it contains."""
        rows = [*self._forgotten_before(event), *event.rows]
        begun = History(len(self.all), event.epoch, event.at_s, event.why, event.revision, rows)
        begun.base = event.revision
        for identity, commit in sorted(self._commits.items(), key=lambda item: item[0][2]):
            epoch, lineage, revision = identity
            if epoch == event.epoch and revision <= event.revision and begun.lineage_at(revision) == lineage:
                begun.add(Entry(commit, identity))
        self.all.append(begun)

    def _forgotten_before(self, event: HistoryReplaced) -> list[tuple[int, str]]:
        """Return the lineage rows that compaction had taken from a backup: those below its first, in its history."""
        for history in reversed(self.all):
            if history.epoch == event.epoch and event.rows and event.rows[0] in history.rows:
                return [row for row in history.rows if row[0] < event.rows[0][0]]
        return []

    def holding(self, topic: str, version: int, *, deleted: bool, value: Any = ...) -> set[int]:
        """Return the numbers of the histories that hold a state of a topic."""
        return {h.number for h in self.all if h.holds(topic, version, deleted=deleted, value=value)}

    def wrong_since(self, topic: str, version: int, *, deleted: bool) -> float | None:
        """Return since when a state of a topic has not been current in any history; None if it still is."""
        later = math.inf
        for history in reversed(self.all):
            wrong = history.became_wrong(topic, version, deleted=deleted)
            if wrong is None:
                return None if later == math.inf else later
            if wrong > -math.inf:
                return wrong
            later = history.began_s
        return later

    def with_position(self, epoch: str, lineage: str, revision: int) -> History | None:
        """Return the newest history that a position is on."""
        return next((history for history in reversed(self.all) if history.has((epoch, lineage, revision))), None)

    def share(self, one: Identity, other: Identity) -> bool:
        """Tell whether two positions are on one history."""
        return any(history.has(one) and history.has(other) for history in self.all)

    def topics_under(self, names: Iterable[str]) -> list[str]:
        """List the topics of the current history that some names cover."""
        wanted = tuple(names)
        return [topic for topic in self.current.topics if any(covers(name, topic) for name in wanted)]
