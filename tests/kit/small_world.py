"""The real client machine against a small model of a store and its node, under faults, with an oracle after every step.

The model is the node's side of PROTOCOL.md, nothing more: leases and renewals, pushes that can be lost,
polls, resumption, restarts (a new lineage row), restored backups. The oracle checks S1 (monotone), S2 (no phantom), S5
(honest age) and S9 (a loud reset) after every step. Once `heal` ends the faults, a test can check convergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from softstate.client.machine.events import (
    Abandon,
    Action,
    Arrived,
    Connect,
    Connected,
    ConnectFailed,
    Deliver,
    Disconnect,
    Event,
    Jumped,
    Lost,
    PollAnswered,
    RequestFailed,
    Reset,
    Send,
    SendPoll,
    Ticked,
    TopicsUnreadable,
    Unwanted,
    Wanted,
)
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.errors import ERRORS_BY_CODE
from softstate.model import Change
from softstate.names import covers, is_prefix
from softstate.position import Position
from softstate.wire.messages import (
    Error,
    Hello,
    Limits,
    Notify,
    Poll,
    PollAdvice,
    Polled,
    PositionMoved,
    RecoverAdvice,
    Renew,
    Renewed,
    Revoked,
    ServerBye,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Welcome,
)
from softstate.wire.subscription_digest import digest_of, digest_text
from tests.kit.machine_rig import URL

TOPICS = ["a", "p/x", "p/y", "p/z"]
NAMES = ["a", "p/", "p/x", "/"]
TTL_S, RENEW_S, TIMEOUT_S = 12.0, 4.0, 1.0
POLL, RECOVER = PollAdvice(3_000, 500), RecoverAdvice(500, 100, 2_000)
LIMITS = Limits(100, 1, 1, 100, 100, 600_000, 1_024, 4_096, 16_384)


@dataclass
class Commits:
    """Commits in order: (time, lineage in force, change or None for a lineage row)."""

    log: list[tuple[float, str, Change | None]] = field(default_factory=list)

    @property
    def head(self) -> int:
        return len(self.log)

    def position(self, revision: int | None = None) -> Position:
        revision = self.head if revision is None else revision
        return Position("e", self.log[revision - 1][1], revision)

    def contains(self, position: Position | None) -> bool:
        return position is None or (position.revision <= self.head and self.position(position.revision) == position)

    def newest(self) -> dict[str, Change]:
        return {change.topic: change for _, _, change in self.log if change is not None}

    def alive_since(self, topic: str) -> float:
        """When `topic` last came to be; infinity if it does not exist."""
        since = math.inf
        for time, _, change in self.log:
            if change is not None and change.topic == topic:
                since = math.inf if change.deleted else min(since, time)
        return since

    def stale_since(self, topic: str, version: int) -> float:
        """When the first change of `topic` above `version` was committed; infinity if there is none."""
        later = (t for t, _, change in self.log[version:] if change is not None and change.topic == topic)
        return next(later, math.inf)


@dataclass
class NodeConnection:
    """The node's side of one connection: what it has written travels in `wire`."""

    conn: int
    names: dict[str, None] = field(default_factory=dict)
    leased: bool = False
    sent: int = 0
    over: bool = False
    """The node has said goodbye: a connection lives in one history, so nothing is read or written any more."""
    wire: list[Any] = field(default_factory=list)
    inbox: list[Any] = field(default_factory=list)


class SmallWorld:
    """A client machine, a node and its store; `step` does one random thing, and the oracle checks what came of it."""

    def __init__(self, seed: int) -> None:
        self.damaged: set[str] = set()
        self.unreadable: list[str] = []
        self.random = Random(seed)
        self.machine = Machine(MachineOptions((URL,), connect_timeout_s=1.0, poll_timeout_s=1.0), Random(seed))
        self.store = Commits([(0.0, "l0", None)])
        self.now = 0.0
        self.lineages = self.tokens = 0
        self.conn: NodeConnection | None = None
        self.opening: int | None = None
        self.session: tuple[str, dict[str, None]] | None = None
        self.polls: dict[int, Poll] = {}
        self.answers: dict[int, Event] = {}
        self.copy: dict[str, Change] = {}
        self.was: set[Change] = set()
        self.faulty = True

    # The client's side -----------------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        self.unreadable = self.machine.unreadable()
        for action in self.machine.handle(event, self.now):
            self._perform(action)
        self._check()

    def _perform(self, action: Action) -> None:
        match action:
            case Connect():
                self.opening = action.conn
            case Disconnect():
                self.conn = self.opening = None
            case Send() if self.conn is not None and self.conn.conn == action.conn:
                self.conn.inbox.append(action.message)
            case SendPoll():
                self.polls[action.request] = action.message
            case Abandon():
                self.polls.pop(action.request, None)
                self.answers.pop(action.request, None)
            case Deliver(changes):
                for change in changes:
                    held = self.copy.get(change.topic)
                    assert held is None or change.version > held.version, "S1"
                    self.copy[change.topic] = change
                    assert change.deleted or change in self.was, "S2"
                    self._check_sweep(change)
            case TopicsUnreadable(topics):
                assert set(topics).isdisjoint(self.unreadable), "told once"
            case Reset():
                # Versions start over; values that are held stay readable, of no version.
                self.copy = {
                    topic: Change(topic, 0, held.value) for topic, held in self.copy.items() if not held.deleted
                }
            case _:
                pass

    def _check(self) -> None:
        """S5: for every name and topic, what is held was the newest at some time not longer ago than the age says."""
        held_names = self.machine._knowledge.subscriptions
        for topic in list(self.copy):
            if not any(covers(name, topic) for name in held_names):
                del self.copy[topic]
        for name in held_names:
            age = self.machine.age(self.now, [name])
            if age == math.inf:
                continue
            for topic in TOPICS:
                if covers(name, topic):
                    self._check_topic(topic, age)

    def _check_sweep(self, change: Change) -> None:
        """A topic that is taken for deleted without a tombstone has no value at that revision, damaged or not."""
        if not change.deleted or change in self.was or not self.store.contains(self.machine.position):
            return
        newest = self.store.newest().get(change.topic)
        assert newest is None or newest.deleted or newest.version > change.version, f"swept: {newest}"

    def _check_topic(self, topic: str, age: float) -> None:
        held = self.copy.get(topic)
        if topic in self.machine.unreadable():
            return  # it was reported, and has no age
        position = self.machine.position
        if not self.store.contains(position):
            return  # a rewound store of which the client cannot know yet: its age is about the history it saw
        if held is not None and not held.deleted:
            stale_since = self.store.stale_since(topic, held.version)
        else:
            stale_since = self.store.alive_since(topic)
        assert self.now - stale_since <= age + 1e-9, f"S5: {topic} {held} age {age}"

    # The node's side -------------------------------------------------------------------------------------------------

    def answer(self, since: dict[str, int]) -> tuple[list[Change], list[str], bool]:
        """Return what differs, what is damaged, and whether a version proves that the store was rewound."""
        newest, changes, damaged = self.store.newest(), {}, set()
        for name, known in since.items():
            for topic, change in newest.items():
                if not covers(name, topic):
                    continue
                if topic in self.damaged:
                    if not is_prefix(name) or change.version > known:
                        damaged.add(topic)
                    continue
                if is_prefix(name):
                    wanted = change.version > known and not (known == 0 and change.deleted)
                else:
                    if known > change.version:
                        return [], [], True
                    wanted = change.version != known and not (known == 0 and change.deleted)
                if wanted:
                    changes[topic] = change
        rewound = any(known > self.store.head for known in since.values())
        return sorted(changes.values(), key=lambda change: change.version), sorted(damaged), rewound

    def node_reads(self) -> None:
        """The node takes one message from the connection."""
        conn = self.conn
        if conn is None or conn.over or not conn.inbox:
            return
        message = conn.inbox.pop(0)
        match message:
            case Hello():
                self._hello(conn, message)
            case Subscribe():
                if message.replace:
                    conn.names.clear()
                conn.names.update(dict.fromkeys([*message.topics, *message.prefixes]))
                conn.leased = True
                if self.faulty and self.random.random() < 0.05:
                    for name in (*message.topics, *message.prefixes):
                        conn.names.pop(name, None)
                    conn.wire.append(Error("unavailable", "down", message.id, retry_ms=200))
                    return
                self._answer(conn, message.id, {**message.topics, **message.prefixes})
            case Unsubscribe():
                for name in (*message.topics, *message.prefixes):
                    conn.names.pop(name, None)
            case Renew() if not conn.leased:
                conn.wire.append(Error("no_lease", "over", message.id))
            case Renew():
                match = (digest_text(digest_of(conn.names)), len(conn.names)) == (message.digest, message.count)
                store = "down" if self.faulty and self.random.random() < 0.05 else "ok"
                conn.wire.append(
                    Renewed(message.id, match, self.store.position(), conn.sent, int(TTL_S * 1000),
                            int(RENEW_S * 1000), POLL, RECOVER, store)  # type: ignore[arg-type]
                )  # fmt: skip
            case Poll():
                self._answer(conn, message.id, {**message.topics, **message.prefixes}, poll=True)
            case _:
                pass

    def _answer(self, conn: NodeConnection, message_id: Any, since: dict[str, int], *, poll: bool = False) -> None:
        changes, damaged, rewound = self.answer(since)
        position = self.store.position()
        if rewound:
            conn.wire.append(Error("rewound", "gone", message_id, position=position))
        elif poll:
            conn.wire.append(Polled(message_id, position, changes, unreadable=damaged))
        else:
            cut = self.random.randint(0, len(changes))
            if cut:
                page = Subscribed(message_id, position, changes[:cut], more=True, unreadable=damaged)
                conn.wire.append(page)
                damaged = []
            conn.wire.append(Subscribed(message_id, position, changes[cut:], unreadable=damaged))

    def _hello(self, conn: NodeConnection, hello: Hello) -> None:
        reset = not self.store.contains(hello.position)
        resumed = not reset and self.session is not None and hello.session == self.session[0]
        conn.leased = True
        if resumed and self.session is not None:
            conn.names = dict(self.session[1])
        else:
            self.tokens += 1
        self.session = (f"s{self.tokens}", conn.names)
        flags: dict[str, Any] = {"reset": True} if reset else {}
        conn.wire.append(
            Welcome(f"s{self.tokens}", resumed, "n", self.store.position(), int(TTL_S * 1000), int(RENEW_S * 1000),
                    int(TIMEOUT_S * 1000), POLL, RECOVER, LIMITS, "durable", **flags)  # type: ignore[arg-type]
        )  # fmt: skip
        if resumed:
            for change in self.store.newest().values():
                if change.version > (hello.since or 0) and any(covers(name, change.topic) for name in conn.names):
                    self._push(conn, change)

    def _push(self, conn: NodeConnection, change: Change) -> None:
        conn.sent += 1
        if self.faulty and self.random.random() < 0.1:
            return  # lost: `sent` will tell
        unknown = change.topic in self.damaged or (self.faulty and self.random.random() < 0.05)
        conn.wire.append(Notify(change.topic, change.version, change.value, change.deleted and not unknown, unknown))

    def commit(self, topic: str = "") -> None:
        topic, version = topic or self.random.choice(TOPICS), self.store.head + 1
        deleted = self.random.random() < 0.3
        value = None if deleted else f"{topic}@{version}/{self.lineages}"
        change = Change(topic, version, value, deleted)
        self.store.log.append((self.now, self.store.log[-1][1], change))
        self.was.add(change)
        self.damaged.discard(topic)  # any publish heals
        if self.faulty and self.random.random() < 0.1:
            self.damaged.add(topic)
        conn = self.conn
        if conn is not None and conn.leased and any(covers(name, topic) for name in conn.names):
            self._push(conn, change)

    def _lineage_row(self, *, all_told: bool) -> None:
        self.lineages += 1
        self.store.log.append((self.now, f"l{self.lineages}", None))
        if all_told and self.conn is not None and not self.conn.over:
            self.conn.wire.insert(0, PositionMoved(self.store.position()))

    # Faults ----------------------------------------------------------------------------------------------------------

    def cut(self) -> None:
        conn = self.conn
        if conn is not None:
            self.conn = None
            self.handle(Lost(conn.conn, None, "cut"))

    def restore(self) -> None:
        """Put an older backup in place of the store; the node notices, and ends its connection."""
        keep = self.random.randint(1, self.store.head)
        del self.store.log[keep:]
        self.damaged.clear()
        self.was = {change for _, _, change in self.store.log if change is not None} | self.was
        self._lineage_row(all_told=False)
        self.session = None
        if self.conn is not None:
            self.conn.wire.append(ServerBye("rewound", 0, 100))
            self.conn.leased, self.conn.over = False, True
        for _ in range(self.random.randrange(4)):
            self.commit()

    def reopen(self) -> None:
        """Another node opens the store: a lineage row passes, and all clients are told."""
        self._lineage_row(all_told=True)

    def amnesia(self) -> None:
        self.session = None
        if self.conn is not None and not self.conn.over:
            self.conn.names.clear()
            self.conn.leased = self.random.random() < 0.5

    def revoke(self) -> None:
        if self.conn is not None and self.conn.leased:
            self.conn.leased = False
            self.conn.wire.append(Revoked("expired", 100, 200))

    # The path in between ---------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Let one message arrive."""
        if self.conn is not None and self.conn.wire:
            self.handle(Arrived(self.conn.conn, self.conn.wire.pop(0)))

    def connect(self) -> None:
        if self.opening is None:
            return
        conn, self.opening = self.opening, None
        if self.faulty and self.random.random() < 0.3:
            self.handle(ConnectFailed(conn, "refused"))
        else:
            self.conn = NodeConnection(conn)
            self.handle(Connected(conn))

    def poll_reads(self) -> None:
        """The node answers a poll; the answer is on its way."""
        if not self.polls:
            return
        request, poll = self.polls.popitem()
        if self.faulty and self.random.random() < 0.2:
            self.answers[request] = RequestFailed(request, "cut")
            return
        changes, damaged, rewound = self.answer({**poll.topics, **poll.prefixes})
        if rewound or not self.store.contains(poll.position):
            error = ERRORS_BY_CODE["rewound"]("gone", position=self.store.position())
            self.answers[request] = RequestFailed(request, "gone", error)
        else:
            self.answers[request] = PollAnswered(request, Polled(0, self.store.position(), changes, unreadable=damaged))

    def poll_arrives(self) -> None:
        if self.answers:
            self.handle(self.answers.popitem()[1])

    def pass_time(self) -> None:
        due = self.machine.deadline()
        self.now = min(max(self.now, due), self.now + self.random.choice([0.01, 0.1, 1.0]))
        if self.now >= due:
            self.handle(Ticked())

    def want(self) -> None:
        name = self.random.choice(NAMES)
        if name in self.machine._knowledge.subscriptions:
            if self.random.random() < 0.5:
                self.handle(Unwanted([name]))
        else:
            self.handle(Wanted([name]))

    # Running ---------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        usual = [self.deliver, self.node_reads, self.connect, self.poll_reads, self.poll_arrives, self.pass_time]
        faults = [self.cut, self.amnesia, self.revoke, self.reopen]
        chance = self.random.random()
        if chance < 0.85:
            self.random.choice(usual)()
        elif chance < 0.94:
            self.commit()
        elif chance < 0.96:
            self.want()
        elif chance < 0.99:
            self.random.choice(faults)()
        elif chance < 0.995:
            self.handle(Jumped())
        else:
            self.restore()
        self._check()

    def heal(self) -> None:
        """End all faults, and let everything flow until nothing is owed for a few renewals."""
        self.faulty = False
        for topic in sorted(self.damaged)[1:]:
            self.commit(topic)
        self.handle(Wanted([name for name in NAMES if name not in self.machine._knowledge.subscriptions]))
        end, repairs = self.now + 60.0, 0
        while self.now < end:
            for _ in range(6):
                self.connect()
                self.node_reads()
                self.deliver()
                self.poll_reads()
                self.poll_arrives()
            if self.now < end - 20.0:
                repairs = self.machine.statistics().repairs_mismatch
            self.now = min(self.now + 0.1, end)
            if self.now >= self.machine.deadline():
                self.handle(Ticked())
        assert self.machine.statistics().repairs_mismatch == repairs, "both sides hold the same set, and stay so"
