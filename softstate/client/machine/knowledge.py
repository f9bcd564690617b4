"""The client's knowledge and its greatest age: versions, certificates, the position, resets and sweeps.

A *certificate* is an answer that lets the client state its age: it covers every change up to a revision, and its age
counts from the moment the request was sent. The rules are clauses of PROTOCOL.md, cited where they are kept; each came
from a counterexample of a small model. Every request takes a serial number from one counter, and so does every event
that makes the answers to earlier requests worth less.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field

from softstate.client.machine.certificate import Certificate
from softstate.client.machine.known_topics import KnownTopics
from softstate.model import Change
from softstate.names import is_prefix, reaching
from softstate.position import Position
from softstate.wire.messages import AGE_MS_NEVER
from softstate.wire.subscription_digest import MASK, digest_text, name_hash

IDLE_PAGES_MAX = 1_000
"""Pages in a row without a newer change after which an answer counts as one without an end.

A node looks at 50,000 names and records for a page (P-SUB-16): so it may pass over fifty million that are no news.
"""

CLOCK_RATE_MIN = 0.99
"""The slowest that a client's clock is taken to run: its age is never below real staleness while that holds (S5)."""


@dataclass(slots=True)
class Question:
    """A subscribe or a poll in flight: the names and versions it sent, and what its pages have listed so far."""

    serial: int
    sent: float
    since: dict[str, int]
    """The number sent for each name: a version for a topic, a certified revision for a prefix, 0 for nothing."""
    base: Position | None
    """The client's position as this path knows it: carried by the request, or moved by its pages."""
    lease: int = 0
    """The lease that the answer joins; 0 for a poll, which joins none."""
    listed: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    """Topics whose records are damaged, as its pages have said so far."""
    newest: int = 0
    """The highest version that its pages have listed."""
    idle_pages: int = 0
    """The last pages in a row that brought nothing newer."""
    idle_since: float = math.inf
    """When the first of them came."""

    @property
    def endless(self) -> bool:
        """Whether its pages have brought nothing for so long that more of them would hardly bring anything."""
        return self.idle_pages > IDLE_PAGES_MAX

    def note_page(self, now: float, newest: int, *, damage: bool) -> None:
        """Take note of a page: the highest version in it, and whether it told of further damage."""
        if newest > self.newest or damage:
            self.idle_pages, self.idle_since = 0, math.inf
        else:
            self.idle_pages += 1
            self.idle_since = min(self.idle_since, now)
        self.newest = max(self.newest, newest)

    @property
    def topics(self) -> dict[str, int]:
        """The topics among the names, with the versions sent."""
        return {name: since for name, since in self.since.items() if not is_prefix(name)}

    @property
    def prefixes(self) -> dict[str, int]:
        """The prefixes among the names, with the revisions sent."""
        return {name: since for name, since in self.since.items() if is_prefix(name)}


class Knowledge:
    """The client's knowledge. Holds one entry per name wanted and one per topic known; forgets what nothing covers."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Certificate] = {}
        self.position: Position | None = None
        self.lease = 0
        self.dropped = 0
        self.resets = 0
        """Resets since the whole set last had an age."""
        self._known = KnownTopics()
        self._tombstones: dict[str, int] = {}
        # Topics deleted by a sweep bear the answer's revision, which is above what the store holds for them: sent to
        # a node as a version, it would look like a rewound store (P-SUB-11).
        self._swept: set[str] = set()
        # The revision of the answer that called a topic unreadable last, and the serial of its request: answers may be
        # read in another order than their requests were sent, so only what is later in both takes it back. Third and
        # fourth, the revision of the first such answer, and what was certified already when it came: all changes
        # between them were known, also if the tombstone has been forgotten since.
        self._unreadable: dict[str, tuple[int, int, int, int]] = {}
        self._serial = 0
        self._reset_serial = 0
        self._digest = 0

    # The set -----------------------------------------------------------------------------------------------------

    def add(self, names: Iterable[str]) -> list[str]:
        """Take names into the set, uncertified; return those that were not in it."""
        added = []
        for name in names:
            if name not in self.subscriptions:
                self.subscriptions[name] = Certificate(name, self._serial)
                self._digest = (self._digest + name_hash(name)) & MASK
                added.append(name)
        return added

    def remove(self, names: Iterable[str]) -> list[str]:
        """Take names out of the set and forget what no other name covers; return those that were in it."""
        removed = []
        for name in names:
            if self.subscriptions.pop(name, None) is not None:
                self._digest = (self._digest - name_hash(name)) & MASK
                removed.append(name)
        for name in removed:
            if any(prefix in self.subscriptions for prefix in reaching(name.rstrip("/")) if prefix != name):
                continue  # a wider prefix still covers it
            for topic in self._below(name, but=self.subscriptions):
                self._forget(topic)
        if removed:
            for topic in [topic for topic in self._unreadable if not self._covering(topic)]:
                del self._unreadable[topic]
        return removed

    @property
    def digest(self) -> tuple[str, int]:
        """The digest and the count of the set, as `renew` carries them."""
        return digest_text(self._digest), len(self.subscriptions)

    def age_s(self, now: float, names: Iterable[str] | None = None) -> float:
        """Return the greatest age among `names` (None: all): infinite while one of them is uncertified (P-KNOW-8).

        It is what has passed on this clock, divided by `CLOCK_RATE_MIN`, since the clock may be that slow.
        """
        return self.elapsed_s(now, names) / CLOCK_RATE_MIN

    def elapsed_s(self, now: float, names: Iterable[str] | None = None) -> float:
        """Return how long ago, on this clock, the oldest certificate among `names` was asked for.

        Unreadable topics are left out, and have no age themselves: it is infinite if there are no other names.
        """
        oldest = now
        left_out = counted = False
        for name in self.subscriptions if names is None else names:
            if name in self._unreadable:
                left_out = True
                continue
            counted = True
            held = self.subscriptions.get(name)
            oldest = min(oldest, -math.inf if held is None else held.asof)
        return math.inf if left_out and not counted else now - oldest

    def told_age_ms(self, now: float) -> int | None:
        """Return the greatest age as nodes are told it (P-REN-13): rounded up; None without names."""
        if not self.subscriptions:
            return None
        age_s = self.age_s(now)
        return AGE_MS_NEVER if age_s * 1000 >= AGE_MS_NEVER else math.ceil(age_s * 1000)

    def unreadable(self, names: Iterable[str] | None = None) -> list[str]:
        """Return the topics covered by `names` (None: all) that are unreadable, as far as is known."""
        if names is None:
            return list(self._unreadable)
        wanted = set(names)
        return [topic for topic in self._unreadable if not wanted.isdisjoint((topic, *reaching(topic)))]

    def lowest_revision(self) -> int | None:
        """Return the lowest certified revision of the set; None while one has none, or it is empty (P-RES-4)."""
        lowest: int | None = None
        for held in self.subscriptions.values():
            if held.revision is None or held.lists:
                return None
            lowest = held.revision if lowest is None else min(lowest, held.revision)
        return lowest

    def known(self, name: str) -> list[Change]:
        """Return the newest known state of every topic that `name` covers. After a reset, old values have version 0."""
        return [self._known.states[topic] for topic in self._below(name)]

    # Requests ----------------------------------------------------------------------------------------------------

    def next_serial(self) -> int:
        """Return the number of a request that is sent now."""
        self._serial += 1
        return self._serial

    def ask(self, names: Iterable[str], now: float, lease: int = 0) -> Question:
        """Make a request about `names` (all in the set), with what is known of them already."""
        since = {}
        for name in names:
            if is_prefix(name):
                held = self.subscriptions[name]
                since[name] = 0 if held.lists else held.revision or 0
            else:
                known = self._known.states.get(name)
                since[name] = 0 if known is None or name in self._swept else known.version
        return Question(self.next_serial(), now, since, self.position, lease)

    def begin_lease(self) -> int:
        """Begin another lease, or none: no renewal certifies what an earlier one held. Return its number."""
        self.lease += 1
        return self.lease

    def resume(self, serial: int) -> None:
        """Put the whole set under the present lease: the request `serial` resumed it, and the replay follows.

        The replay begins at the lowest certified revision, so it also brings what was in doubt before.
        """
        for held in self.subscriptions.values():
            held.resumed(serial, self.lease)

    # Answers -----------------------------------------------------------------------------------------------------

    def usable(self, latest: Position | None, base: Position | None) -> bool:
        """Tell whether what a path brings may be used: it and the client are surely in one history (P-REW-7).

        `latest` is the newest position the path named; `base` the client's position that the path's request carried
        or that the path itself last moved.
        """
        if self.position == base:
            return True
        return latest is not None and self.position is not None and latest.same_lineage(self.position)

    def move(self, position: Position) -> bool:
        """Move the client's position forward, never back (P-REW-2); tell whether it moved."""
        if self.position is not None and position.revision <= self.position.revision:
            return False
        self.position = position
        return True

    def apply(self, change: Change) -> bool:
        """Take a change over if it is news (P-KNOW-1, P-KNOW-2); tell whether it was."""
        damage = self._unreadable.get(change.topic)
        return self._apply(change, self._covering(change.topic), damage is not None and change.version > damage[0])

    def apply_page(self, question: Question, changes: Iterable[Change], revision: int = 0) -> list[Change]:
        """Apply one page of an answer, read at `revision`, which may turn out cut off (P-KNOW-9); return the news."""
        if question.serial <= self._reset_serial:
            return []
        fresh = []
        above: dict[str, list[Certificate]] = {}  # the topics of a page have few prefixes between them
        for change in changes:
            topic = change.topic
            question.listed.add(topic)
            parent = topic[: topic.rfind("/") + 1]
            covering = above.get(parent)
            if covering is None:
                covering = above[parent] = self._above(topic)
            if topic in self.subscriptions:
                covering = [*covering, self.subscriptions[topic]]
            if self._apply(change, covering, self._later(question, topic, revision)):
                fresh.append(change)
        return fresh

    def apply_unreadable(self, question: Question, topics: Iterable[str], revision: int) -> list[str]:
        """Note which topics a page calls unreadable, as of `revision`; return those that were not so before.

        They count as listed, so that no sweep takes them for deleted.
        """
        if question.serial <= self._reset_serial:
            return []
        fresh = []
        for topic in topics:
            question.listed.add(topic)
            known = self._known.states.get(topic)
            if _is_none(topic) or not self._covering(topic) or (known is not None and known.version > revision):
                continue  # published again since
            question.unreadable.add(topic)
            if topic not in self._unreadable:
                fresh.append(topic)
            known_to = max(held.revision or 0 for held in self._covering(topic))
            before = self._unreadable.get(topic, (0, 0, revision, known_to))
            self._unreadable[topic] = (max(revision, before[0]), max(question.serial, before[1]), *before[2:])
        return fresh

    def finish(self, question: Question, revision: int, lag_s: float, compacted: Sequence[str] = ()) -> list[Change]:
        """Take a complete answer, all of whose pages were applied, as a certificate (P-KNOW-3); return what it sweeps.

        `revision` is that of the last page. Names denied must have been removed before.
        """
        if question.serial <= self._reset_serial:
            return []
        certified = []
        for name in question.since:
            held = self.subscriptions.get(name)
            if held and held.answered(question.serial, question.lease, revision, question.sent - lag_s):
                certified.append(name)
        if self.resets and all(held.asof > -math.inf for held in self.subscriptions.values()):
            self.resets = 0
        whole = [name for name in certified if question.since[name] == 0 or name in compacted]
        self._heal(question, whole, revision)
        swept = self._sweep(question, whole, revision)
        self._forget_tombstones()
        return swept

    def renewed(self, serial: int, sent: float, revision: int, lag_s: float) -> None:
        """Take a matching `renewed` as a certificate for the set as it was when `renew` was sent (P-KNOW-4)."""
        if serial <= self._reset_serial:
            return
        for held in self.subscriptions.values():
            held.renewed(serial, self.lease, revision, sent - lag_s)
        self._forget_tombstones()

    def beaten(self, revision: int, asof: float) -> None:
        """Take a beat as a certificate for what the present lease is known to hold (P-BEAT-5)."""
        lease, moved = self.lease, False
        for held in self.subscriptions.values():
            if held.beaten(lease, revision, asof):
                moved = True
        if moved:
            self._forget_tombstones()

    def held_before(self, name: str, serial: int) -> bool:
        """Tell whether a name has been in the set since before request `serial`."""
        held = self.subscriptions.get(name)
        return held is not None and held.added < serial

    def unchanged_since(self, serial: int) -> bool:
        """Tell whether no name has come into the set since request `serial` was sent."""
        return all(held.added < serial for held in self.subscriptions.values())

    def unanswered(self, serial: int) -> bool:
        """Tell whether a name that was asked for before `serial` is not known to be in the present lease."""
        return any(held.lease != self.lease and held.added < serial for held in self.subscriptions.values())

    def doubt(self, topic: str) -> list[str]:
        """Note that a change of `topic` may be missing (P-KNOW-7): block and return the names that cover it."""
        covering = self._covering(topic)
        for held in covering:
            held.doubted(self._serial)
        return [held.name for held in covering]

    def relist(self, names: Iterable[str]) -> None:
        """Give up the certificates of `names`: the history between is gone, so that they must be listed from 0."""
        for name in names:
            if (held := self.subscriptions.get(name)) is not None:
                held.compacted(self._serial)

    def reset(self, position: Position) -> None:
        """Begin in another history at `position` (P-REW-5): values stay readable, as of no version and no age."""
        self.position = position
        self.resets += 1
        self._reset_serial = self._serial
        states = self._known.states.values()
        self._known.replace([Change(state.topic, 0, state.value) for state in states if not state.deleted])
        self._tombstones.clear()
        self._swept.clear()
        self._unreadable.clear()
        self.begin_lease()
        for held in self.subscriptions.values():
            held.reset()

    # Inside ------------------------------------------------------------------------------------------------------

    def _apply(self, change: Change, covering: Sequence[Certificate], heals: bool) -> bool:
        if heals:  # the certificate of an unreadable topic has ended: an older version that can be read is news
            _, _, told, known_to = self._unreadable.pop(change.topic)
            heals = not told < change.version <= known_to
        if not covering:
            return False
        version, known = change.version, self._known.states.get(change.topic)
        if known is None:
            if _is_none(change.topic):
                return False  # it would enter the tree of known topics as a prefix
        elif version <= known.version:
            self.dropped += version < known.version
            return False
        if version == 0:
            return False
        for held in covering:
            if held.revision is not None and version <= held.revision and not heals:
                return False
        self._keep(change)
        return True

    def _covering(self, topic: str) -> list[Certificate]:
        own = self.subscriptions.get(topic)
        return self._above(topic) if own is None else [own, *self._above(topic)]

    def _above(self, topic: str) -> list[Certificate]:
        return [self.subscriptions[name] for name in reaching(topic) if name in self.subscriptions]

    def _below(self, name: str, but: Container[str] = ()) -> list[str]:
        """List the known topics that a name covers, without what the names in `but` cover."""
        if is_prefix(name):
            return self._known.below(name, but)
        return [name] if name in self._known.states else []

    def _forget(self, topic: str) -> None:
        self._known.forget(topic)
        self._tombstones.pop(topic, None)
        self._swept.discard(topic)

    def _keep(self, change: Change) -> None:
        self._known.keep(change)
        if self._swept:
            self._swept.discard(change.topic)
        if change.deleted:
            self._tombstones[change.topic] = change.version
        elif self._tombstones:
            self._tombstones.pop(change.topic, None)

    def _heal(self, question: Question, whole: Sequence[str], revision: int) -> None:
        """Note the topics that a complete answer was about, and that it no longer calls unreadable."""
        listed = set(whole)
        for topic in list(self._unreadable):
            asked = topic in question.since or not listed.isdisjoint(reaching(topic))
            if asked and topic not in question.unreadable and self._later(question, topic, revision):
                del self._unreadable[topic]

    def _later(self, question: Question, topic: str, revision: int) -> bool:
        """Tell whether a topic is unreadable by an answer before this one."""
        damage = self._unreadable.get(topic)
        return damage is not None and damage[0] <= revision and damage[1] < question.serial

    def _sweep(self, question: Question, whole: Iterable[str], revision: int) -> list[Change]:
        """Delete what a full answer did not list, unless a later revision certified it elsewhere (P-SUB-10)."""
        candidates = dict.fromkeys(topic for name in whole for topic in self._below(name))
        swept = []
        for topic in candidates:
            known = self._known.states[topic]
            # A change at the very revision of the answer is listed in it; the bound keeps deliveries increasing.
            if known.deleted or known.version >= revision or topic in question.listed:
                continue
            if all(held.revision is None or held.revision <= revision for held in self._covering(topic)):
                gone = Change(topic, revision, deleted=True)
                self._keep(gone)
                self._swept.add(topic)
                swept.append(gone)
        return swept

    def _forget_tombstones(self) -> None:
        """Forget tombstones that certificates make superfluous: nothing as old as they are would be applied.

        Those of single topics stay, one per subscription: the next request names their version and is spared them.
        """
        for topic, version in list(self._tombstones.items()):
            if topic in self.subscriptions and topic not in self._swept:
                continue
            if all(held.revision is not None and held.revision >= version for held in self._covering(topic)):
                self._forget(topic)


def _is_none(topic: str) -> bool:
    """Tell whether what a node calls a topic cannot be one."""
    return not topic or is_prefix(topic)
