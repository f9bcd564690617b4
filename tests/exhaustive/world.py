"""The world of the model: which steps a state allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from softstate.model import Record
from softstate.names import covers
from softstate.position import Position
from softstate.store.memory.store import MemoryImage
from tests.exhaustive import oracle
from tests.exhaustive.draft import Draft
from tests.exhaustive.node import EPOCH, Node, Peer, node_key
from tests.exhaustive.oracle import Broken, Entry, Store, View
from tests.exhaustive.parts import Client, Component, Interned, client_key
from tests.exhaustive.state import END, Bounds, Left, Net, State


class World:
    """Makes the steps of a run with certain bounds. Remembers components across states."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.messages = Interned()
        self.clients = Component(client_key)
        self.nodes = Component(node_key)
        self.pruned = 0
        self._images: dict[tuple[Entry, ...], MemoryImage] = {}
        topics = sorted({topic for topic, _ in bounds.commits})
        self.scopes = [tuple(t for t in topics if any(covers(n, t) for n in names)) for names in bounds.names]

    def begin(self) -> State:
        """Return the state in which the first node has just started and every client was just opened."""
        bounds = self.bounds
        row = Position(EPOCH, "l1", 1)
        entries: tuple[Entry, ...] = (row,)
        for _ in range(bounds.first):
            entries = self.committed(entries, len(entries) - 1)
        hub = row.at(len(entries))
        node = self.nodes.add(Node(self.messages, 0, hub, conflates=bounds.conflates))
        count = len(bounds.names)
        left = Left(
            bounds.first, bounds.rewinds, bounds.crashes, bounds.cuts, bounds.expiries, bounds.forgets,
            (bounds.ticks,) * count,
        )  # fmt: skip
        draft = Draft(self, State(Store(entries), node, (0,) * count, (View(),) * count, (Net(),) * count, left))
        for i, names in enumerate(bounds.names):
            client = Client(self.messages, bounds.part)
            out = client.begin(names)
            draft.clients[i] = self.clients.add(client)
            draft.client_did(i, out, None)
        return draft.state()

    def committed(self, entries: tuple[Entry, ...], number: int) -> tuple[Entry, ...]:
        """Return a history with a commit more, the one of that number."""
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

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield what may happen next. Raises `Broken`, with the last step as its trace."""
        for label, act in [*self.fair(state), *self.faults(state)]:
            after = self.take(state, label, act)
            if in_flight(after, self) <= self.bounds.in_flight_max:
                yield label, after
            else:
                self.pruned += 1

    def take(self, state: State, label: str, act: tuple[Any, ...]) -> State:
        """Take one step."""
        draft = Draft(self, state)
        try:
            getattr(draft, act[0])(*act[1:])
        except Broken as broken:
            broken.trace = (label,)
            raise
        return draft.state()

    def fair(self, state: State) -> list[tuple[str, tuple[Any, ...]]]:
        """List the steps that happen sooner or later unless something prevents them, but for timers."""
        found: list[tuple[str, tuple[Any, ...]]] = []
        node: Node = self.nodes.states.things[state.node]
        if node.hub.revision < len(state.store.entries):
            found.append(("hub", ("hub",)))
        for (i, n), peer in node.peers.items():
            if peer.asking is not None and peer.snapshot is None:
                found.append((f"read for {i}.{n}", ("read", (i, n))))
            elif peer.asking is not None and not self.awaits_hub(node, peer):
                found.append((f"answer {i}.{n}", ("answer", (i, n))))
            if peer.pending and state.nets[i].serial == n and state.nets[i].stage == "up":
                name = type(peer.pending[0]).__name__
                found.append((f"{i} gets {name}", ("pop", (i, n))))
        for i, net in enumerate(state.nets):
            found += self._net_steps(i, net, node)
        return found

    def awaits_hub(self, node: Node, peer: Peer) -> bool:
        """Tell whether a renewal has to wait until the hub has reached the head that was read for it."""
        return isinstance(peer.snapshot, int) and node.hub.revision < peer.snapshot

    def _net_steps(self, i: int, net: Net, node: Node) -> Iterator[tuple[str, tuple[Any, ...]]]:
        if net.stage == "opening":
            yield f"{i} connects", ("connect", i)
        conn = (i, net.serial)
        if net.up and not node.peers[conn].machine.busy:
            yield f"node hears {self._name(net.up[0])} of {i}", ("hear", i)
        if net.down:
            yield f"{i} gets {self._name(net.down[0])}", ("arrive", i)
        if net.late:
            yield f"{i} gets late {self._name(net.late[0])}", ("arrive_late", i)
        for at, (old, waiting) in enumerate(net.old_up):
            peer = node.peers.get(old)
            if peer is None or waiting[0] == END or not peer.machine.busy:
                yield f"node hears {self._name(waiting[0])} of old {old}", ("hear_old", i, at)
        if net.poll is not None:
            word, number = net.poll
            if word == "asked":
                yield f"node answers poll of {i}", ("serve_poll", i)
            else:
                yield f"{i} gets poll {self._name(number)}", ("poll_arrives", i)

    def _name(self, number: int) -> str:
        return "end" if number <= END else type(self.messages.things[number]).__name__

    def faults(self, state: State) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield what need not happen, timers that fire early included."""
        left, node = state.left, self.nodes.states.things[state.node]
        if left.commits < len(self.bounds.commits):
            topic, deleted = self.bounds.commits[left.commits]
            yield f"commit {topic}{' deleted' if deleted else ''}", ("commit",)
        if left.crashes:
            yield "crash and restart", ("crash", len(state.store.entries))
        if left.rewinds:
            for keep in range(1, len(state.store.entries)):
                yield f"rewind to {keep}", ("rewind", keep)
                if left.crashes:
                    yield f"crash, rewind to {keep}, restart", ("crash", keep)
        for i, net in enumerate(state.nets):
            if left.cuts and net.stage == "up":
                yield f"cut {i}", ("cut", i)
            if left.expiries and node.leased((i, net.serial)):
                yield f"lease of {i} expires", ("expire", i)
            if left.forgets and node.leased((i, net.serial)):
                yield f"lease of {i} is forgotten", ("forget", i, True)
                yield f"names of {i} are forgotten", ("forget", i, False)
            if left.ticks[i] and self.deadline(state, i) < math.inf:
                yield f"timer of {i}", ("tick", i)

    def deadline(self, state: State, i: int) -> float:
        """Return when a client's next timer fires."""
        return float(self.clients.states.things[state.clients[i]].machine.deadline())

    def content(self, state: State, i: int) -> bool:
        """Tell whether a client is live and equal to the store."""
        client = self.clients.states.things[state.clients[i]]
        return client.machine.mode == "live" and oracle.agrees(state.views[i], state.store, self.scopes[i])


def in_flight(state: State, world: World) -> int:
    """Count the messages on connections."""
    count = sum(len(net.up) + sum(n > END for n in net.down) + len(net.late) for net in state.nets)
    return count + sum(len(peer.pending) for peer in world.nodes.states.things[state.node].peers.values())
