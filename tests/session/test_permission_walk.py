"""Random walks of one session under rules that change: what is written is what it may read, and counted right."""

from __future__ import annotations

from random import Random

import pytest

from softstate.names import covered
from softstate.session.state import State
from softstate.wire.messages import (
    Auth,
    DeniedNames,
    Hello,
    Notify,
    Poll,
    Polled,
    Renewed,
    Revoked,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from tests.kit.rules_gate import RulesGate
from tests.kit.session_rig import Peer, SessionRig, renew, split_known

NAMES = ["a", "b", "p/", "p/q/", "/"]
TOPICS = ["a", "b", "p/1", "p/q/1", "z"]
RIGHTS = [["/"], ["p/"], ["p/q/", "a"], ["a"], []]


class Walk:
    """One session, the client's idea of its set, and the rights that are in force."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.gate = RulesGate()
        self.rights = ["/"]
        self.gate.may("u", read=self.rights)
        self.gate.issue("t0", "u")
        self.tokens = 1
        self.rig = SessionRig(
            names_max=100, names_per_turn=self.random.choice([1, 256]), page_limit=self.random.choice([1, 100])
        )
        self.rig.gate = self.gate
        self.peer: Peer = self.rig.connect()
        self.peer.ask(Hello(token="t0"))
        self.wanted: set[str] = set()
        self.notified = 0
        self.number = self.seen = 0

    def step(self) -> None:
        """Do something at random, and look at all that is written."""
        random, peer = self.random, self.peer
        self.number += 1
        match random.randrange(10):
            case 0 | 1:
                self.rig.push(random.choice(TOPICS))
            case 2:
                self.rights = random.choice(RIGHTS)
                self.gate.may("u", read=self.rights)
            case 3:
                names = random.sample(NAMES, random.randint(0, 3))
                replace = random.random() < 0.5
                self.wanted = set(names) if replace else self.wanted | set(names)
                topics, prefixes = split_known(dict.fromkeys(names, 0))
                peer.receive(Subscribe(self.number, topics, prefixes, replace or peer.machine.state is State.LAPSED))
                self.between()
            case 4:
                names = random.sample(NAMES, 1)
                self.wanted -= set(names)
                topics, prefixes = split_known(dict.fromkeys(names, 0))
                peer.ask(Unsubscribe(list(topics), list(prefixes)))
            case 5 | 6:
                peer.ask(renew(self.number, *self.wanted))
            case 7:
                self.gate.issue(f"t{self.tokens}", "u")
                peer.ask(Auth(self.number, f"t{self.tokens}"))
                self.tokens += 1
            case 8:
                topics, prefixes = split_known(dict.fromkeys(random.sample(NAMES, 2), 0))
                peer.receive(Poll(self.number, topics=topics, prefixes=prefixes))
                self.between()
            case 9:
                peer.stalled = True
                self.rig.push(*TOPICS)
                self.rights = random.choice(RIGHTS)
                self.gate.may("u", read=self.rights)
                peer.ask(renew(self.number, *self.wanted))
                peer.stalled = False
                peer.flush()
        peer.serve()
        self.look()

    def between(self) -> None:
        """Have the rules change while the store is read, perhaps."""
        if self.peer.reading is not None and self.random.random() < 0.3:
            self.peer.begin()
            self.rights = self.random.choice(RIGHTS)
            self.gate.may("u", read=self.rights)
            self.peer.deliver()

    def look(self) -> None:
        """Check all that was written since the last look."""
        written = self.peer.written[self.seen :]
        self.seen = len(self.peer.written)
        denied = False
        for message in written:
            match message:
                case Notify(topic):
                    self.notified += 1
                    assert not denied or covered(self.wanted, topic)
                case DeniedNames(names):
                    denied = True
                    self.wanted -= set(names)
                case Renewed():
                    assert message.sent == self.notified
                case Subscribed() | Polled() if not message.more:
                    assert all(covered(self.rights, change.topic) for change in message.changes)
                    if isinstance(message, Subscribed):
                        self.wanted -= set(message.denied)
                case Revoked():
                    raise AssertionError("nothing ends the lease")
        lease = self.peer.machine.held_lease()
        assert lease is not None
        assert lease.identity is not None
        assert all(lease.identity.grant.may_read(name) for name in lease.names)


@pytest.mark.parametrize("seed", range(60))
def test_what_is_written_is_what_may_be_read(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(150):
        walk.step()
    walk.peer.ask(renew(9_999, *walk.wanted))
    walk.look()
    walk.peer.ask(renew(10_000, *walk.wanted))
    renewed = walk.peer.written[-1]
    assert isinstance(renewed, Renewed)
    assert renewed.match
    assert not walk.rig.repairs
