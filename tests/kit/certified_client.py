"""A client as simple as can be, over a `SessionRig`: it believes what it is sent, and notes what is certified.

`check` compares what it knows with the log of the store: everything up to a revision, or something newer (S7).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from softstate.model import Change, Record
from softstate.names import covers
from softstate.position import Position
from softstate.wire.messages import (
    ClientMessage,
    Error,
    Hello,
    Message,
    Notify,
    Poll,
    Polled,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Welcome,
)
from tests.kit.session_rig import SessionRig, renew, split_known


@dataclass
class Question:
    """A subscribe or poll: what was sent for each name, and what its pages listed."""

    since: dict[str, int]
    lease: int
    joins: bool
    listed: set[str] = field(default_factory=set)


class Client:
    """One client's knowledge. A name is in `wanted` until dropped, in `leased` once this lease answered for it."""

    def __init__(self, rig: SessionRig) -> None:
        self.rig = rig
        self.known: dict[str, Change] = {}
        self.swept: set[str] = set()
        self.wanted: set[str] = set()
        self.leased: set[str] = set()
        self.certified: dict[str, int] = {}
        self.session: str | None = None
        self.position: Position | None = None
        self.asked: dict[object, Question] = {}
        self.renewals: dict[object, tuple[frozenset[str], frozenset[str]]] = {}
        self.lease = 0
        self.serial = 0
        self.notifies = 0
        self.matches = 0
        self.early = False
        """Whether the lease was begun by a subscribe behind hello."""
        self.early_answers = 0

    def drop(self, name: str) -> None:
        """Give up a name, and what was known because of it alone."""
        self.wanted.discard(name)
        self.leased.discard(name)
        self.certified.pop(name, None)
        for question in self.asked.values():
            question.since.pop(name, None)
        self.known = {t: c for t, c in self.known.items() if any(covers(n, t) for n in self.wanted)}

    def number(self) -> int:
        self.serial += 1
        return self.serial

    def break_lease(self) -> None:
        """Begin another lease: it holds no name yet, and no earlier request can add any."""
        self.lease += 1
        self.leased = set()
        self.renewals.clear()
        self.asked.clear()

    def hello(self, *, resume: bool) -> Hello:
        since = min((self.certified.get(name, 0) for name in self.wanted), default=0)
        if resume and since:
            return Hello(self.position, self.session, since)
        return Hello(self.position)

    def since(self, names: set[str]) -> dict[str, int]:
        since = {}
        for name in sorted(names):
            known = self.known.get(name)
            if name.endswith("/"):
                since[name] = self.certified.get(name, 0)
            else:
                since[name] = 0 if known is None or name in self.swept else known.version
        return since

    def subscribe(self, names: set[str], *, replace: bool) -> Subscribe:
        number, since = self.number(), self.since(names)
        if replace:
            self.break_lease()
        self.asked[number] = Question(since, self.lease, joins=True)
        return Subscribe(number, *split_known(since), replace)

    def subscribe_early(self) -> Subscribe:
        """Subscribe the whole set behind hello (P-CONN-16)."""
        self.early = True
        return self.subscribe(set(self.wanted), replace=True)

    def poll(self, names: set[str]) -> Poll:
        number, since = self.number(), self.since(names)
        self.asked[number] = Question(since, self.lease, joins=False)
        topics, prefixes = split_known(since)
        return Poll(number, self.position, topics, prefixes)

    def renew(self) -> ClientMessage:
        number = self.number()
        self.renewals[number] = (frozenset(self.wanted), frozenset(self.leased))
        return renew(number, *self.wanted)

    # Messages written ------------------------------------------------------------------------------------------------

    def read(self, message: Message) -> None:
        match message:
            case Welcome():
                self.welcome(message)
            case Notify():
                self.notifies += 1
                self.apply(Change(message.topic, message.version, deleted=message.deleted))
            case Subscribed() | Polled():
                self.answer(message)
            case Renewed():
                self.renewed(message)
            case Revoked():
                self.break_lease()
            case Error():
                self.error(message)
            case _:
                pass
        position = getattr(message, "position", None)
        if position is not None and (self.position is None or position.revision > self.position.revision):
            self.position = position

    def welcome(self, message: Welcome) -> None:
        assert message.reset is not True
        if self.early and not message.resumed:
            self.early_answers += 1
        else:
            self.break_lease()
        self.early = False
        self.notifies = 0
        self.session = message.session
        if message.resumed:
            self.leased = set(self.wanted)

    def apply(self, change: Change) -> None:
        known = self.known.get(change.topic)
        if known is not None and known.version >= change.version:
            return
        covering = [name for name in self.wanted if covers(name, change.topic)]
        if covering and all(self.certified.get(name, 0) < change.version for name in covering):
            self.known[change.topic] = change
            self.swept.discard(change.topic)

    def answer(self, message: Subscribed | Polled) -> None:
        asked = self.asked.get(message.id)
        if asked is None:
            return
        versions = [change.version for change in message.changes]
        assert versions == sorted(versions)
        for change in message.changes:
            asked.listed.add(change.topic)
            self.apply(change)
        if message.more:
            return
        del self.asked[message.id]
        names = {name for name in asked.since if name in self.wanted}
        revision = message.position.revision
        for name in names:
            self.certify(name, revision)
        if asked.joins and asked.lease == self.lease:
            self.leased |= names
        self.sweep({name for name in names if not asked.since[name] or name in message.compacted}, asked, revision)
        self.check(names, revision)

    def sweep(self, whole: set[str], asked: Question, revision: int) -> None:
        for topic, known in self.known.items():
            listed = topic in asked.listed or known.deleted or known.version > revision
            if not listed and any(covers(name, topic) for name in whole):
                self.known[topic] = Change(topic, revision, deleted=True)
                self.swept.add(topic)

    def renewed(self, message: Renewed) -> None:
        found = self.renewals.pop(message.id, None)
        if found is None or message.store == "down":
            return
        wanted, leased = found
        if not message.match:
            self.break_lease()
            return
        assert message.sent == self.notifies
        if wanted == self.wanted:
            # The sets are equal and every subscribe before was answered, so this certifies the whole set.
            self.matches += 1
            for name in leased & self.leased:
                self.certify(name, message.position.revision)
            self.check(set(leased & self.leased), message.position.revision)

    def error(self, message: Error) -> None:
        asked = self.asked.pop(message.id, None)
        renewal = self.renewals.pop(message.id, None)
        assert message.code in {"unavailable", "overloaded", "no_lease", "compacted"}, message
        if asked is not None and message.code == "compacted":
            for name in asked.since:
                self.certified.pop(name, None)
        if (asked is not None and asked.joins) or (renewal is not None and message.code == "no_lease"):
            self.break_lease()

    def certify(self, name: str, revision: int) -> None:
        self.certified[name] = max(self.certified.get(name, 0), revision)

    def check(self, names: set[str], revision: int) -> None:
        """Check that everything up to `revision` in the scope of `names` is known, or something newer."""
        truth: dict[str, Record] = {}
        for entry in self.rig.log[:revision]:
            if isinstance(entry, Record) and any(covers(name, entry.topic) for name in names):
                truth[entry.topic] = entry
        for topic, record in truth.items():
            known = self.known.get(topic)
            if record.deleted:
                assert known is None or known.deleted or known.version > record.version, (topic, record, known)
            else:
                assert known is not None, (topic, record)
                assert known.version >= record.version, (topic, record, known)
