"""A small world of real machines: its first state, and the steps that each state allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from softstate.model import Record
from softstate.names import covers
from softstate.position import Position
from softstate.store.memory.store import MemoryImage
from tests.exhaustive import oracle
from tests.exhaustive.node import EPOCH, ModelGate, ModelNode, ModelPeer, node_key
from tests.exhaustive.oracle import Counterexample, Entry, Store, View
from tests.exhaustive.parts import Component, Interner, ModelClient, client_key
from tests.exhaustive.state import END, Bounds, Budget, Channel, WorldState
from tests.exhaustive.step import Step


class SmallWorld:
    """The steps within certain bounds. It remembers the states of components, so that none is computed twice."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.messages = Interner()
        self.clients = Component(client_key)
        self.nodes = Component(node_key)
        self.pruned = 0
        self._images: dict[tuple[Entry, ...], MemoryImage] = {}
        topics = sorted({topic for topic, _ in bounds.commits})
        later = (bounds.later,) if bounds.later else ()
        self.scopes = [
            tuple(t for t in topics if any(covers(n, t) for n in (*names, *later))) for names in bounds.names
        ]

    def begin(self) -> WorldState:
        """Return the state in which the first node has just started and every client was just opened."""
        bounds = self.bounds
        row = Position(EPOCH, "l1", 1)
        entries: tuple[Entry, ...] = (row,)
        for _ in range(bounds.first):
            entries = self.committed(entries, len(entries) - 1)
        hub = row.at(len(entries))
        wanted = dict.fromkeys([*(name for names in bounds.names for name in names), *filter(None, [bounds.later])])
        gate = ModelGate(tuple(wanted))
        node = self.nodes.add(ModelNode(self.messages, 0, hub, gate, conflates=bounds.conflates))
        count = len(bounds.names)
        budget = Budget(
            bounds.first, bounds.rewinds, bounds.crashes, bounds.cuts, bounds.expiries, bounds.forgets,
            (bounds.ticks,) * count, bounds.beats, bounds.beats, (bounds.later != "",) * count,
            int(bounds.denied != ""),
        )  # fmt: skip
        step = Step(
            self, WorldState(Store(entries), node, (0,) * count, (View(),) * count, (Channel(),) * count, budget)
        )
        for i, names in enumerate(bounds.names):
            client = ModelClient(self.messages, bounds.part, beats=bounds.beats > 0)
            out = client.begin(names)
            step.clients[i] = self.clients.add(client)
            step.client_did(i, out, None)
        return step.state()

    def committed(self, entries: tuple[Entry, ...], number: int) -> tuple[Entry, ...]:
        """Return a history with one commit more: that of this number in the bounds."""
        topic, deleted = self.bounds.commits[number]
        value = None if deleted else f"c{number}".encode()
        return (*entries, Record(topic, len(entries) + 1, value))

    def image(self, entries: tuple[Entry, ...]) -> MemoryImage:
        """Return a history as the store holds it."""
        image = self._images.get(entries)
        if image is None:
            image = self._images[entries] = MemoryImage(EPOCH)
            for revision, entry in enumerate(entries, 1):
                image.head = revision
                if isinstance(entry, Position):
                    image.rows.append(entry)
                else:
                    image.records.pop(image.latest.get(entry.topic, 0), None)
                    image.records[revision] = entry
                    image.latest[entry.topic] = revision
        return image

    # Steps -----------------------------------------------------------------------------------------------------------

    def steps(self, state: WorldState) -> Iterator[tuple[str, WorldState]]:
        """Yield each step that may come next: its label, and the state after it. Raises `Counterexample`."""
        for label, act in [*self.fair(state), *self.faults(state)]:
            after = self.take(state, label, act)
            if in_flight(after, self) <= self.bounds.in_flight_max:
                yield label, after
            else:
                self.pruned += 1

    def take(self, state: WorldState, label: str, act: tuple[Any, ...]) -> WorldState:
        """Return the state after one step: a method of `Step`, and its arguments. Raises `Counterexample`."""
        step = Step(self, state)
        try:
            getattr(step, act[0])(*act[1:])
        except Counterexample as found:
            found.trace = (label,)
            raise
        return step.state()

    def fair(self, state: WorldState) -> list[tuple[str, tuple[Any, ...]]]:
        """List the steps that happen sooner or later unless a fault prevents them (fairness), without timers."""
        found: list[tuple[str, tuple[Any, ...]]] = []
        node: ModelNode = self.nodes.states.things[state.node]
        if state.store.unseen is not None:
            found.append(("the rewind is noticed", ("notice",)))
        elif node.hub.revision < len(state.store.entries):
            found.append(("hub", ("hub",)))
        if node.head is not None and node.hub.revision >= node.head.revision:
            found.append(("level", ("level",)))
        for (i, n), peer in node.peers.items():
            if peer.asking is not None and peer.snapshot is None:
                found.append((f"read for {i}.{n}", ("read", (i, n))))
            elif peer.asking is not None and not self.awaits_hub(node, peer):
                found.append((f"answer {i}.{n}", ("answer", (i, n))))
            if peer.pending and state.channels[i].serial == n and state.channels[i].stage == "up":
                name = type(peer.pending[0]).__name__
                found.append((f"{i} gets {name}", ("pop", (i, n))))
        for i, channel in enumerate(state.channels):
            found += self._channel_steps(i, channel, node)
        return found

    def awaits_hub(self, node: ModelNode, peer: ModelPeer) -> bool:
        """Tell whether a renewal has to wait until the hub has reached the head that was read for it."""
        head = peer.snapshot
        return isinstance(head, Position) and not (head.same_lineage(node.hub) and head.revision <= node.hub.revision)

    def _channel_steps(self, i: int, channel: Channel, node: ModelNode) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if channel.stage == "opening":
            yield f"{i} connects", ("connect", i)
        conn = (i, channel.serial)
        if channel.up and not node.peers[conn].machine.busy:
            yield f"node hears {self._name(channel.up[0])} of {i}", ("hear", i)
        if channel.down:
            yield f"{i} gets {self._name(channel.down[0])}", ("arrive", i)
        if channel.late:
            yield f"{i} gets late {self._name(channel.late[0])}", ("arrive_late", i)
        for at, (old, waiting) in enumerate(channel.old_up):
            peer = node.peers.get(old)
            if peer is None or waiting[0] == END or not peer.machine.busy:
                yield f"node hears {self._name(waiting[0])} of old {old}", ("hear_old", i, at)
        if channel.poll is not None:
            word, number = channel.poll
            if word == "asked":
                yield f"node answers poll of {i}", ("serve_poll", i)
            else:
                yield f"{i} gets poll {self._name(number)}", ("poll_arrives", i)

    def _name(self, number: int) -> str:
        return "end" if number <= END else type(self.messages.things[number]).__name__

    def faults(self, state: WorldState) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the steps that need not happen: commits, faults, and timers that fire while others could act."""
        budget, node = state.budget, self.nodes.states.things[state.node]
        if budget.commits < len(self.bounds.commits):
            topic, deleted = self.bounds.commits[budget.commits]
            yield f"commit {topic}{' deleted' if deleted else ''}", ("commit",)
        if budget.crashes:
            yield "crash and restart", ("crash", len(state.store.entries))
        if budget.rewinds:
            for keep in range(1, len(state.store.entries)):
                yield f"rewind to {keep}", ("rewind", keep)
                if self.bounds.unnoticed:
                    yield f"rewind to {keep}, unnoticed", ("rewind_unnoticed", keep)
                if budget.crashes:
                    yield f"crash, rewind to {keep}, restart", ("crash", keep)
        if budget.denials:
            yield f"{self.bounds.denied} is denied", ("deny",)
        if budget.levels and node.head is None:
            yield "head is read for the level", ("read_head",)
        for i, channel in enumerate(state.channels):
            if budget.beats and node.beats((i, channel.serial)):
                yield f"beat for {i}", ("beat", i)
            if budget.later[i]:
                yield f"{i} wants {self.bounds.later}", ("want", i)
            if budget.cuts and channel.stage == "up":
                yield f"cut {i}", ("cut", i)
            if budget.expiries and node.leased((i, channel.serial)):
                yield f"lease of {i} expires", ("expire", i)
            if budget.forgets and node.leased((i, channel.serial)):
                yield f"lease of {i} is forgotten", ("forget", i, True)
                yield f"names of {i} are forgotten", ("forget", i, False)
            if budget.ticks[i] and self.deadline(state, i) < math.inf:
                yield f"timer of {i}", ("tick", i)

    def deadline(self, state: WorldState, i: int) -> float:
        """Return when a client's next timer fires."""
        return float(self.clients.states.things[state.clients[i]].machine.deadline())

    def content(self, state: WorldState, i: int) -> bool:
        """Tell whether a client is live and equal to the store."""
        client = self.clients.states.things[state.clients[i]]
        return client.machine.mode == "live" and oracle.agrees(state.views[i], state.store, self.scope(state, i))

    def scope(self, state: WorldState, i: int) -> tuple[str, ...]:
        """Return the topics that the names cover which a client wants by now."""
        wanted = self.clients.states.things[state.clients[i]].machine._knowledge.subscriptions
        return tuple(topic for topic in self.scopes[i] if any(covers(name, topic) for name in wanted))


def in_flight(state: WorldState, world: SmallWorld) -> int:
    """Count the messages on connections."""
    count = sum(len(channel.up) + sum(n > END for n in channel.down) + len(channel.late) for channel in state.channels)
    return count + sum(len(peer.pending) for peer in world.nodes.states.things[state.node].peers.values())
