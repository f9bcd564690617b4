"""Random steps of a client, a node and its store over a `SessionRig`; after every walk all converges.

::

    RandomWalk(Random(seed)).run(300)                             # raises AssertionError if a promise is broken
"""

from __future__ import annotations

from random import Random
from typing import cast

from softstate.errors import Overloaded, Unavailable
from softstate.model import READ_COST_MAX
from softstate.session import State
from softstate.wire.messages import ClientBye, ClientMessage, Reason, Unsubscribe, Welcome
from tests.kit.certified_client import Client
from tests.kit.session_rig import Peer, SessionRig, split_known

TOPICS = ["a", "p/a", "p/b", "p/c", "p/q/a", "p/q/b"]
FAULTS = ["down", "crowd", "expired", "slow_consumer", "overloaded", "forgotten", "bye", "late", "overdue", "swept"]
NAMES = ["a", "p/a", "p/q/b", "p/", "p/q/", "/"]


class RandomWalk:
    """One client, at times two connections of it, one node; `random` decides what happens next."""

    def __init__(self, random: Random, page_cost: int = READ_COST_MAX, *, rows: bool = True) -> None:
        self.random = random
        self.rows = rows
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
        if hello.since is None and self.client.wanted and self.random.random() < 0.5:
            self.peer.inbox.append(self.client.subscribe_early())
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
        # Beyond the client's position, the row that its lineage is of might be forgotten, which it does not expect.
        position = self.client.position
        upto = self.rig.hub if position is None or not self.rows else min(self.rig.hub, position.revision)
        self.rig.image.compact(tombstones=upto, keys=0)

    def stall(self) -> None:
        self.peer.stalled = not self.peer.stalled
        self.peer.flush()
        self.read()

    def fault(self) -> None:
        fault, rig, peer = self.random.choice(FAULTS), self.rig, self.peer
        match fault:
            case "down" | "crowd" if peer.reading is not None:
                peer.fail_read(Overloaded("crowd") if fault == "crowd" else Unavailable("down"))
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
                lease = peer.machine.held_lease()
                assert lease is None or {*gap_buffer._answered, *(gap_buffer._fresh or ())} <= lease.names.keys()
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
