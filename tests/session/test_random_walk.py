"""Random steps of a client, a node and its store: a matching `renewed` at R covers every change up to R (S7).

After every walk all converges. The client here is as simple as can be: it believes what it is sent, and notes what
is certified.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator
from dataclasses import dataclass, field, replace
from random import Random
from typing import cast

import pytest

from softstate.errors import Overloaded, Rewound, Unavailable
from softstate.lease import Lease, LeaseTable
from softstate.model import READ_COST_MAX, Change, Page, Query, Record
from softstate.names import covers
from softstate.position import Position
from softstate.session import Effect, State
from softstate.session.state import SessionCore
from softstate.session.table import TABLE
from softstate.session.termination import expire
from softstate.store.rules.history import Snapshot
from softstate.store.rules.paging import answer
from softstate.wire.messages import (
    ClientBye,
    ClientMessage,
    Error,
    Hello,
    Message,
    Notify,
    Poll,
    Polled,
    Reason,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from tests.kit import session_rig
from tests.kit.session_rig import Peer, SessionRig, renew, split_known

TOPICS = ["a", "p/a", "p/b", "p/c", "p/q/a", "p/q/b"]
SEEDS = 60
ROUNDS = 3
SEEDS_OF_COSTS = 30
STEPS = 300
FAULTS = ["down", "crowd", "expired", "slow_consumer", "overloaded", "forgotten", "bye", "late", "overdue", "swept"]
NAMES = ["a", "p/a", "p/q/b", "p/", "p/q/", "/"]


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
        self.break_lease()
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


class RandomWalk:
    """One client, at times two connections of it, one node; `random` decides what happens next."""

    def __init__(self, random: Random, page_cost: int = READ_COST_MAX, *, rows: bool = True) -> None:
        self.random = random
        self.rig = SessionRig(
            gap_topics_max=random.randint(1, 3),
            page_limit=random.randint(1, 4),
            page_cost=page_cost,
            sessions_max=2,
            names_per_turn=random.choice([1, 2, 256]),
        )
        self.client = Client(self.rig)
        self.peer: Peer = self.rig.connect()
        self.peer.receive(self.client.hello(resume=False))
        self.welcomed = False
        self.turns = 0
        self.events = {
            self.subscribe: 4,
            self.subscribe_all: 3,
            self.unsubscribe: 1,
            self.renew: 6,
            self.poll: 2,
            self.commit: 6,
            self.row: int(rows),
            self.feed: 6,
            self.turn: 12,
            self.begin: 4,
            self.deliver: 8,
            self.race: 4,
            self.serve: 8,
            self.compact: 1,
            self.stall: 1,
            self.cut_off: 1,
            self.fault: 1,
        }

    def run(self, steps: int) -> None:
        for event in self.random.choices(list(self.events), list(self.events.values()), k=steps):
            event()
            if self.peer.stalled and self.random.random() < 0.3:
                self.stall()
            if self.peer.closed is not None and self.random.random() < 0.3:
                self.reconnect(resume=True, noticed=True)
            self.sinks_are_those_of_living_sessions()
            self.gap_buffers_are_bounded_and_belong_to_a_lease()
        self.converge()

    def some(self, names: list[str], most: int) -> list[str]:
        return [self.random.choice(names) for _ in range(self.random.randint(1, most))]

    # The client ------------------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the client has a welcome, and a connection to speak on."""
        return self.peer.closed is None and len(self.peer.inbox) < 3 and self.welcomed

    def read(self) -> None:
        for message in self.peer.take():
            self.client.read(message)
            self.welcomed = self.welcomed or isinstance(message, Welcome)

    def say(self, message: ClientMessage) -> None:
        self.peer.inbox.append(message)
        self.peer.pump()
        self.read()

    def subscribe(self) -> None:
        if self.ready:
            names = set(self.some(NAMES, 3))
            self.client.wanted |= names
            self.say(self.client.subscribe(names, replace=False))

    def subscribe_all(self) -> None:
        if self.ready and self.client.leased != self.client.wanted:
            self.say(self.client.subscribe(set(self.client.wanted), replace=True))

    def unsubscribe(self) -> None:
        name, client = self.random.choice(NAMES), self.client
        client.drop(name)
        if self.ready and self.random.random() < 0.8:
            topics, prefixes = split_known({name: 0})
            self.say(Unsubscribe(list(topics), list(prefixes)))

    def renew(self) -> None:
        if self.ready:
            self.say(self.client.renew())

    def poll(self) -> None:
        if self.ready:
            self.say(self.client.poll(set(self.client.wanted)))

    def reconnect(self, *, resume: bool, noticed: bool) -> None:
        hello = self.client.hello(resume=resume)
        if noticed or hello.since is None:
            self.peer.lose()
        self.client.break_lease()
        self.peer, self.welcomed = self.rig.connect(), False
        self.peer.inbox.append(hello)
        self.peer.pump()

    def cut_off(self) -> None:
        self.reconnect(resume=self.random.random() < 0.8, noticed=self.random.random() < 0.5)
        if self.random.random() < 0.5:
            self.race()

    # The node and its store ------------------------------------------------------------------------------------------

    def commit(self) -> None:
        self.rig.commit(*self.some(TOPICS, 3), cbor=None if self.random.random() < 0.3 else b"\x01")

    def row(self) -> None:
        self.rig.commit_lineage_row()

    def feed(self) -> None:
        self.rig.feed(min(self.rig.hub + self.random.randint(1, 6), self.rig.image.head))
        self.read()

    def turn(self) -> None:
        if self.peer.turn is not None:
            self.peer.take_turn()
            self.turns += 1
            self.read()

    def begin(self) -> None:
        if self.peer.reading is not None:
            self.peer.begin()

    def deliver(self) -> None:
        if self.peer.snapshot is not None:
            self.peer.deliver()
            self.read()

    def serve(self) -> None:
        for _ in range(self.random.randint(1, 12)):
            if self.peer.turn is not None:
                self.turn()
            elif self.peer.reading is not None:
                self.peer.begin()
                self.peer.deliver()
        self.read()

    def race(self) -> None:
        """Push changes while the store is read, just before or just after the snapshot."""
        before = self.random.random() < 0.5
        if before:
            self.rig.push(*self.some(TOPICS, 4))
        self.begin()
        if not before:
            self.rig.push(*self.some(TOPICS, 4))
        self.deliver()

    def compact(self) -> None:
        self.rig.image.compact(tombstones=self.rig.hub, keys=0)

    def stall(self) -> None:
        self.peer.stalled = not self.peer.stalled
        self.peer.flush()
        self.read()

    def fault(self) -> None:
        fault, rig, peer = self.random.choice(FAULTS), self.rig, self.peer
        match fault:
            case "down" | "crowd" if peer.reading is not None:
                peer.fail(Overloaded("crowd") if fault == "crowd" else Unavailable("down"))
            case "expired" | "slow_consumer" | "overloaded" if peer.closed is None:
                peer.carry_out(peer.machine.revoked(cast("Reason", fault), 0))
            case "forgotten":
                rig.forget_lease(peer)
            case "bye" if self.ready:
                self.say(ClientBye())
            case "late" | "overdue":
                # A push in between does not go out, although no sweep has found the lease to be over.
                rig.now += 5.5 if fault == "late" else 11.5
                rig.push("p/a")
            case "swept":
                rig.now += 5.5
                rig.sweep()
            case _:
                pass
        self.read()

    # Invariants ------------------------------------------------------------------------------------------------------

    def sinks_are_those_of_living_sessions(self) -> None:
        for lease in self.rig.table._leases.values():
            if lease.sink is not None:
                assert isinstance(lease.sink, Peer)
                assert lease.sink.machine.lease is lease
                assert lease.sink.machine.state in (State.GREETING, State.OPEN)

    def gap_buffers_are_bounded_and_belong_to_a_lease(self) -> None:
        for peer in self.rig.peers:
            gap_buffer = peer.machine.gap_buffer
            if gap_buffer is not None:
                assert len(gap_buffer._held) <= peer.machine.gap_topics_max
                assert peer.machine.state in (State.GREETING, State.OPEN)
            assert peer.reading is not None or peer.turn is not None or not peer.machine.busy

    def serve_all(self) -> None:
        while self.peer.reading is not None or self.peer.turn is not None:
            self.serve()

    def converge(self) -> None:
        """End with one more connection and one subscribe, after which the client equals the store."""
        rig, client = self.rig, self.client
        rig.now += 100
        rig.sweep()
        rig.feed()
        self.reconnect(resume=False, noticed=True)
        if not client.wanted:
            return
        for _ in range(3):
            self.serve_all()
            self.say(client.subscribe(set(client.wanted), replace=True))
        rig.commit("p/a", "a")
        self.serve_all()
        matches = client.matches
        self.say(client.renew())
        self.serve_all()
        assert client.matches == matches + 1
        assert client.leased == client.wanted
        client.check(set(client.wanted), rig.image.head)
        for topic, known in client.known.items():
            if not known.deleted:
                assert rig.image.latest[topic] == known.version


def test_the_walks_match_resume_overflow_and_lose_their_lease() -> None:
    """Else the walks below would prove nothing."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        walk = RandomWalk(Random(seed))
        walk.run(STEPS)
        seen += walk.rig.repairs
        seen["match"] += walk.client.matches
        seen["turns"] += walk.turns
    assert all(seen[kind] > 5 for kind in ("match", "resumed", "hold_overflow", "no_lease", "turns"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_random_walk_certifies_nothing_that_is_missing(seed: int) -> None:
    for number in range(ROUNDS):
        RandomWalk(Random(seed * ROUNDS + number)).run(STEPS)


@pytest.mark.parametrize("page_cost", [1, 4])
def test_a_random_walk_of_pages_that_end_by_their_cost_certifies_nothing_that_is_missing(page_cost: int) -> None:
    for seed in range(SEEDS_OF_COSTS):
        # Without lineage rows: a position whose row is compacted is off the history, which this client does not expect.
        RandomWalk(Random(seed), page_cost, rows=False).run(STEPS)


@pytest.mark.parametrize("mutant", ["it is the last", "it reaches the head"])
def test_the_walks_find_a_page_that_hides_that_its_cost_ended_it(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = 0

    def hiding(query: Query, snapshot: Snapshot) -> Page | Rewound:
        nonlocal cut
        page = answer(query, snapshot)
        if not isinstance(page, Page) or page.upto is None:
            return page
        cut += 1
        if mutant == "it is the last":
            return replace(page, more=False, upto=None)
        return replace(page, upto=page.position.revision)

    monkeypatch.setattr(session_rig, "answer", hiding)
    with pytest.raises(AssertionError):
        for seed in range(200):
            RandomWalk(Random(seed), page_cost=2, rows=False).run(STEPS)
    assert cut > 0


# Mutants: each takes a rule of portions out, and some walk must notice ------------------------------------------------


def the_last_portion_is_left_out(patch: pytest.MonkeyPatch) -> None:
    """The read begins although the last names of a subscribe have not entered the lease."""

    def careless(
        names: Collection[str], size: int, act: Callable[[Collection[str]], object]
    ) -> Generator[int, None, None]:
        rest = list(names)
        while len(rest) > size:
            yield size
            act(rest[:size])
            del rest[:size]
        if len(names) <= size:
            act(names)

    patch.setattr("softstate.session.state.in_portions", careless)


def a_request_outlives_its_lease(patch: pytest.MonkeyPatch) -> None:
    """The rest of a subscribe is done though the lease that it began with is over."""

    def stubborn(session: SessionCore, reason: Reason, retry_ms: int | None) -> list[Effect]:
        pending = session.pending
        effects = expire(session, reason, retry_ms)
        session.pending = pending
        return effects

    for cell, rule in list(TABLE.items()):
        if rule.act is expire:
            patch.setitem(TABLE, cell, rule._replace(act=stubborn))


def a_lease_that_is_over_takes_names(patch: pytest.MonkeyPatch) -> None:
    """A lease keeps its deadline while its names are reaped, as if it lived."""

    def late(table: LeaseTable, lease: Lease) -> None:
        del table._leases[lease.token]
        table._reapable.append(lease)

    patch.setattr(LeaseTable, "_end", late)


@pytest.mark.parametrize(
    "mutant", [the_last_portion_is_left_out, a_request_outlives_its_lease, a_lease_that_is_over_takes_names]
)
def test_a_walk_notices_a_rule_that_is_missing(
    mutant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    for seed in range(SEEDS):
        try:
            RandomWalk(Random(seed)).run(STEPS)
        except (AssertionError, KeyError):
            return
    raise AssertionError(f"no walk of {SEEDS} noticed: {mutant.__doc__}")
