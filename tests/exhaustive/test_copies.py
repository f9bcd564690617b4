"""The exhaustive check takes machines for equal that freeze to equal tuples. These tests compare what they do."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

import pytest

from softstate.client.machine.connection import Stage
from tests.exhaustive.copies import fork
from tests.exhaustive.parts import Component, Interner, ModelClient, Output, client_key
from tests.exhaustive.search import Search
from tests.exhaustive.state import Bounds

OTHERS_MAX = 3
"""Most machines that are kept for a state, to be compared with the first one."""


class ComparingComponent(Component):
    """Keeps several machines of each state, and checks that every input does the same to all of them."""

    def __init__(self, key: Callable[[Any], Hashable]) -> None:
        super().__init__(key)
        self.others: dict[int, list[Any]] = {}
        self.compared = 0

    @classmethod
    def put_into(cls, search: Search) -> tuple[ComparingComponent, ComparingComponent]:
        """Replace the components of a search."""
        world = search.world
        clients, nodes = cls(world.clients._key), cls(world.nodes._key)
        world.clients, world.nodes = clients, nodes
        return clients, nodes

    def add(self, thing: Any) -> int:
        number = super().add(thing)
        others = self.others.setdefault(number, [])
        if self.states.things[number] is not thing and len(others) < OTHERS_MAX:
            others.append(thing)
        return number

    def step(self, number: int, *given: Hashable) -> tuple[int, tuple[Output, ...]]:
        after, out = super().step(number, *given)
        for other in self.others[number]:
            twin = fork(other, {})
            assert tuple(twin.take(*given)) == out
            assert self._key(twin) == self._key(self.states.things[after])
            self.compared += 1
        return after, out


BOUNDS = Bounds(names=(("a", "/"),), commits=(("a", False), ("b", False), ("a", True)), ticks=2, in_flight_max=99)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("conflates", [False, True])
def test_what_freezes_to_the_same_does_the_same(conflates: bool) -> None:
    faults = replace(BOUNDS, conflates=conflates, cuts=1, rewinds=1, crashes=1, expiries=1, forgets=1)
    walk, search = Search(faults, 0), Search(replace(BOUNDS, conflates=conflates), 10_000)
    compared = [ComparingComponent.put_into(walk), ComparingComponent.put_into(search)]
    walk.walk(seed=3, walks=300, steps_max=50)
    search.run()
    for clients, nodes in compared:
        assert clients.compared > 200
        print(clients.compared, nodes.compared)
        assert nodes.compared > 50


def test_a_copy_is_equal_and_independent() -> None:
    client = ModelClient(Interner(), 0.0, beats=False)
    client.begin(("a", "p/"))
    copied = fork(client, {})
    assert client_key(copied) == client_key(client)
    assert copied.machine._messages._core is copied.machine._core
    copied.take("connected", None)
    assert client_key(copied) != client_key(client)
    assert client.machine._push.connection is not None
    assert client.machine._push.connection.stage is Stage.OPENING
