"""A small world of credentials: one node, one client, and every order of what can happen to its tokens and rights.

The session machine and the lease table are the product's; the node around them, its gate and its hub are those of
`tests.kit.session_rig`. A step is one request, one answer of the store, one change of the rules, a revocation, a
commit, a step of time, or the loss of the connection. Each state is reached by the steps that led there first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from softstate.names import covers
from softstate.position import Position
from softstate.wire.messages import (
    Auth,
    Authenticated,
    ClientMessage,
    DeniedNames,
    Hello,
    Message,
    Notify,
    Renew,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Welcome,
)
from tests.exhaustive.oracle import Counterexample
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import Peer, SessionRig, renew, subscribe

START, STEP_S = 100.0, 3.0

SUBJECTS = {"first": "u", "next": "u", "other": "v", "bad": ""}
ENDS = {"first": START + 1.5 * STEP_S, "next": START + 3.5 * STEP_S, "other": math.inf, "bad": -math.inf}
"""The tokens: whose they are, and when they end. `next` is what `first` is refreshed by, in place or after it."""

NAMES = ("a", "p/")
TOPICS = {"a": "a", "p/": "p/x"}
RIGHTS: dict[str, tuple[str, ...]] = {"all": NAMES, "a": ("a",), "p": ("p/",), "nothing": ()}


class Bounds(NamedTuple):
    """How often each thing may happen."""

    rules: int = 1
    revocations: int = 0
    steps: int = 2
    commits: int = 1
    requests: int = 2
    auths: int = 1
    losses: int = 0


@dataclass
class Asked:
    """A request under way: how many changes of the rules there were when it came, and whether any credentials held."""

    message: ClientMessage
    rules: int
    good: bool


@dataclass
class World:
    """One state, reached by `labels`. `held` is what the client takes for the set of its lease, `certified` the
    position of the last answer that told it so much.
    """

    bounds: Bounds
    labels: tuple[str, ...] = ()
    rig: SessionRig = field(default_factory=SessionRig)
    gate: RulesGate = field(default_factory=RulesGate)
    peer: Peer | None = None
    session: str | None = None
    certified: Position | None = None
    opened_by: str = ""
    accepted: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()
    rights: list[tuple[str, ...]] = field(default_factory=list)
    judged: int = 0
    asked: dict[int | str, Asked] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        self.rig.gate = self.gate
        self.rig.now = START
        for token, subject in SUBJECTS.items():
            if subject:
                self.gate.issue(token, subject, ENDS[token])
        self.gate.may("v", read=NAMES)
        self._may("all")

    # Steps -----------------------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[str]:
        """Yield each step that may come next."""
        left, peer = self.bounds, self.peer
        if peer is None or peer.closed is not None:
            yield from (f"hello {token}" for token in SUBJECTS)
        else:
            if peer.reading is not None or peer.turn is not None:
                yield "serve"
            if left.requests and not peer.machine.busy:
                yield "subscribe"
                yield "renew"
            if left.auths and not peer.machine.busy:
                yield from (f"auth {token}" for token in SUBJECTS)
            if left.losses:
                yield "lose"
        if left.rules:
            yield from (f"may {what}" for what, names in RIGHTS.items() if names != self.rights[-1])
        if left.revocations:
            yield from (f"revoke {token}" for token in ("first", "next") if token in self.gate.tokens)
        if left.commits:
            yield from (f"commit {name}" for name in NAMES)
        if left.steps:
            yield "time"

    def take(self, label: str) -> None:
        """Take a step, and check what was written. Raises `Counterexample`."""
        word, _, what = label.partition(" ")
        self.labels = (*self.labels, label)
        match word:
            case "hello":
                self._hello(what)
            case "serve":
                self._serve()
            case "subscribe":
                self._ask(subscribe(self._next(), *NAMES), requests=-1)
            case "renew":
                self._ask(renew(self._next(), *self.held), requests=-1)
            case "auth":
                self._ask(Auth(self._next(), what), auths=-1)
            case "lose":
                self._spend(losses=-1)
                self._peer.lose()
                self.held, self.asked = self.held, {}
            case "may":
                self._spend(rules=-1)
                self._may(what)
            case "revoke":
                self._spend(revocations=-1)
                self.gate.revoke(what)
            case "commit":
                self._spend(commits=-1)
                self.rig.push(TOPICS[what])
            case "time":
                self._spend(steps=-1)
                self.rig.now += STEP_S
        self._read()

    @property
    def _peer(self) -> Peer:
        assert self.peer is not None
        return self.peer

    def _spend(self, **by: int) -> None:
        self.bounds = self.bounds._replace(**{name: getattr(self.bounds, name) + n for name, n in by.items()})

    def _next(self) -> int:
        self.number += 1
        return self.number

    def _may(self, what: str) -> None:
        self.rights.append(RIGHTS[what])
        self.gate.may("u", read=RIGHTS[what])

    def _hello(self, token: str) -> None:
        self.peer = self.rig.connect()
        self.accepted = ()
        self.asked = {0: Asked(Hello(token=token), len(self.rights) - 1, self._good(token))}
        if self.session is None:
            self.held = frozenset()
        hello = Hello(token=token)
        if self.certified is not None:
            hello = Hello(self.certified, self.session, self.certified.revision, token=token)
        self.peer.receive(hello)
        self.peer.taken = 0

    def _ask(self, message: Auth | Subscribe | Renew, **by: int) -> None:
        self._spend(**by)
        tokens = (message.token or "",) if isinstance(message, Auth) else self.accepted or (self._presented,)
        self.asked[message.id] = Asked(message, len(self.rights) - 1, any(map(self._good, tokens)))
        taken = self._peer.taken
        self._peer.receive(message)
        self._peer.taken = taken

    @property
    def _presented(self) -> str:
        """The token of the hello that waits for its welcome."""
        message = self.asked[0].message
        assert isinstance(message, Hello)
        return message.token or ""

    def _serve(self) -> None:
        peer, taken = self._peer, self._peer.taken
        if peer.turn is not None:
            peer.take_turn()
        else:
            peer.begin()
            peer.deliver()
        peer.taken = taken

    def _good(self, token: str) -> bool:
        return token in self.gate.tokens and ENDS[token] > self.rig.now

    # The oracle ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self.peer is not None:
            for message in self.peer.take():
                self._check(message)
        if self.rig.repairs["mismatch"]:
            raise Counterexample("S17", "a renewal found another set than the client was told")

    def _check(self, message: Message) -> None:
        match message:
            case Welcome():
                self._welcomed(message)
            case Notify():
                self._pushed(message.topic)
            case Subscribed() | Renewed() | Authenticated():
                self._answered(message)
            case DeniedNames():
                self.held -= set(message.names)
            case Revoked():
                self.held = frozenset()
            case _:
                pass  # an error tells nothing

    def _welcomed(self, message: Welcome) -> None:
        asked = self.asked.pop(0)
        assert isinstance(asked.message, Hello)
        token = asked.message.token or ""
        if not asked.good:
            raise Counterexample("S15", f"welcomed with {token}, which is not good")
        if message.resumed and self.opened_by != SUBJECTS[token]:
            raise Counterexample("S16", f"{SUBJECTS[token]} has resumed the session of {self.opened_by}")
        if not message.resumed:
            self.held, self.certified = frozenset(), None
        self.accepted, self.session, self.opened_by = (token,), message.session, SUBJECTS[token]
        self.judged = asked.rules

    def _answered(self, message: Subscribed | Renewed | Authenticated) -> None:
        asked = self.asked.pop(message.id)
        name = type(message).__name__
        if not asked.good:
            raise Counterexample("S12", f"{name} answers a request of which no credentials were good")
        self.judged = max(self.judged, asked.rules)
        if not isinstance(message, Authenticated):
            self.certified = message.position
        if isinstance(asked.message, Auth):
            if SUBJECTS[asked.message.token] != self.opened_by:
                raise Counterexample("S16", f"the session of {self.opened_by} is another's now")
            self.accepted = (*self.accepted, asked.message.token)
        if isinstance(message, Subscribed):
            self._take_names(set(NAMES) - set(message.denied), asked.rules)
            for change in message.changes:
                self._may_read(change.topic, asked.rules)

    def _take_names(self, names: set[str], since: int) -> None:
        self.held |= names
        if self.opened_by == "u" and not names <= set().union(*self.rights[since:]):
            raise Counterexample("S13", f"{sorted(names)} are held, not all of which may be read")

    def _pushed(self, topic: str) -> None:
        if max((ENDS[token] for token in self.accepted), default=-math.inf) < self.rig.now:
            raise Counterexample("S12", f"{topic} was pushed behind the end of all that was presented")
        self._may_read(topic, self.judged)

    def _may_read(self, topic: str, since: int) -> None:
        if self.opened_by == "v":
            return
        if not any(covers(name, topic) for rights in self.rights for name in rights):
            raise Counterexample("S13", f"{topic} was told, which no right has ever covered")
        if not any(covers(name, topic) for rights in self.rights[since:] for name in rights):
            raise Counterexample("S12", f"{topic} was told, which may not be read since the last answer")

    # The end ---------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Let the client do what it does with a token that is good, without faults: it has to get all that it may."""
        self.gate.issue("late", "u")
        peer = self.peer
        while peer is not None and peer.closed is None and (peer.reading is not None or peer.turn is not None):
            self._serve()
            self._read()
        self.peer = peer = self.rig.connect()
        peer.ask(Hello(token="late"))
        answers = [*peer.ask(subscribe(1, *NAMES)), *peer.ask(renew(2, *self.rights[-1]))]
        matches = [answer.match for answer in answers if isinstance(answer, Renewed)]
        if matches != [True]:
            raise Counterexample("S14", f"a client with a good token gets {answers}")

    def key(self) -> Hashable:
        """Return a key that is equal for states with the same future, and the same promises."""
        rig, peer = self.rig, self.peer
        machine: Hashable = None
        leases = tuple(
            (
                lease.token, tuple(sorted(lease.names)), lease.deadline, lease.until, lease.sink is peer,
                lease.identity and (lease.identity.token, lease.identity.generation),
            )
            for lease in rig.table._leases.values()
        )  # fmt: skip
        if peer is not None:
            m = peer.machine
            machine = (
                m.state, m.token, m.denied, m.unaware, m.unresumed, m.agreed, m.identity.token, m.identity.generation,
                repr(m.pending), m.gap_buffer is None, repr(peer.reading), repr(peer.turn), peer.closed is None,
                len(peer.written) - peer.taken, m.lease and m.lease.token,
            )  # fmt: skip
        asked = tuple((number, repr(each)) for number, each in self.asked.items())
        told = (self.session, str(self.certified), self.opened_by, self.accepted, self.held, self.judged, asked)
        return self.bounds, rig.now, rig.hub, tuple(self.gate.tokens), tuple(self.rights), leases, machine, told


@dataclass
class Report:
    """The extent of a search."""

    states: int = 0
    transitions: int = 0
    exhausted: bool = False


def reached(bounds: Bounds, labels: Sequence[str]) -> World:
    """Return the state that these steps lead to."""
    world = World(bounds)
    for label in labels:
        world.take(label)
    return world


def explore(bounds: Bounds, states_max: int, visit: Callable[[World], None] = World.settle) -> Report:
    """Visit every state within bounds, about `states_max` at most.

    Raises `Counterexample`, with one of the shortest ways there.
    """
    first = World(bounds)
    seen, waiting, report = {first.key()}, [first.labels], Report(1)
    for labels in waiting:
        for label in list(reached(bounds, labels).steps()):
            world = reached(bounds, labels)
            report.transitions += 1
            try:
                world.take(label)
                key = world.key()
                if key in seen:
                    continue
                seen.add(key)
                waiting.append(world.labels)
                visit(world)
            except Counterexample as found:
                found.trace = world.labels
                raise
        if len(waiting) > states_max:
            report.states = len(waiting)
            return report
    report.states, report.exhausted = len(waiting), True
    return report
