"""The machine in JavaScript beside the one in Python: any events in any order, and the same comes of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from softstate.client.machine.events import (
    Action,
    Arrived,
    Event,
    Forked,
    Narrowing,
    Opened,
    TokenFailed,
    TokenGot,
    TokenRefused,
)
from softstate.client.machine.machine import MachineOptions
from softstate.errors import Denied, Unauthenticated, Unavailable
from softstate.testing.conformance.client.draws import RecordedDraws
from softstate.testing.conformance.client.form import Json
from softstate.testing.conformance.client.recorder import Recorder
from softstate.wire.messages import Authenticated, Beat, DeniedNames, Error
from tests.client.machine.test_random_walk import NAMES, _Chaos
from tests.kit.machine_rig import OTHER, URL
from tests.kit.node_js import JsMachine

STEPS = 250
SEEDS = 60
OUTCOMES = ("do", "mode", "due", "age")


class _Twins:
    """The Python machine, as the walk uses it, and the one in JavaScript, which is given and asked the same."""

    def __init__(self, js: JsMachine, options: MachineOptions, seed: int) -> None:
        self._js = js
        self._recorder = Recorder("walk", "", options, RecordedDraws(seed))
        js.ask(self._recorder.trace.header)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder.machine, name)

    def handle(self, event: Event, now: float) -> list[Action]:
        actions = self._recorder.handle(event, now)
        self._recorder.look(now, NAMES)
        step, look = self._recorder.trace.lines[-2:]
        found, told = self._js.ask(step, look)
        assert found == {name: step[name] for name in OUTCOMES}, f"after {step}"
        assert told["look"] == look["look"], f"after {step}"
        return actions


class _Walk(_Chaos):
    """The walk, with credentials, beats and narrowing among its events."""

    def __init__(self, js: JsMachine, seed: int) -> None:
        super().__init__(seed, push=seed % 4 > 0, urls=1 + seed % 2)
        urls = (URL, OTHER)[: 1 + seed % 2]
        options = MachineOptions(
            urls, push=seed % 4 > 0, provider=seed % 3 == 0, publishes_waiting_max=6, inflight_max=2
        )
        self.machine: Any = _Twins(js, options, seed)

    def event(self) -> Event:
        more: list[Callable[[], Event]] = [
            lambda: Arrived(self._conn(), self._beat()),
            lambda: Arrived(self._conn(), Authenticated(self._id(), self._ms())),
            lambda: Arrived(self._conn(), DeniedNames([self.random.choice(NAMES)], {"p/": ["p/x"]})),
            lambda: Arrived(self._conn(), Error("unauthenticated", "no", self._id(), why="expired")),
            lambda: Narrowing(frozenset(self.random.sample(NAMES, 2))),
            lambda: TokenGot(self.random.randrange(9), self.random.choice("abc")),
            lambda: TokenFailed(self.random.randrange(9), Unavailable("later")),
            lambda: TokenFailed(self.random.randrange(9), Denied("never"), final=self.random.random() < 0.1),
            lambda: TokenRefused(self.random.choice([None, *"abc"]), Unauthenticated("no", why="expired")),
            lambda: Forked(self.random.randrange(9)),
        ]
        return self.random.choice(more)() if self.random.random() < 0.15 else super().event()

    def _beat(self) -> Beat:
        position = self._position() if self.random.random() < 0.8 else None
        return Beat(1_000, self.random.choice([0, 0, 1]), position, int(self.now * 1_000))


@pytest.mark.parametrize("part", range(4))
def test_the_same_comes_of_the_same_events(part: int) -> None:
    with JsMachine() as js:
        for seed in range(part, SEEDS, 4):
            walk = _Walk(js, seed)
            walk.machine.handle(Opened(), 0.0)
            for _ in range(STEPS):
                walk.machine.handle(walk.event(), walk.now)


def test_a_walk_meets_a_difference() -> None:
    """The comparison can fail: a machine that was told something else differs soon."""
    with JsMachine() as js:
        walk = _Walk(js, 1)
        walk.machine.handle(Opened(), 0.0)
        walk.machine._recorder.handle(Opened(), 0.0)
        wanted: Json = {"t": 1.0, "event": "closed"}
        assert js.ask(wanted)[0]["mode"] == "closed"
        with pytest.raises(AssertionError):
            for _ in range(STEPS):
                walk.machine.handle(walk.event(), walk.now)
