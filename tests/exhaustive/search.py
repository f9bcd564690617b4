"""The search: breadth first, with the oracle at every step, and a check that every state converges without faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.exhaustive.oracle import Counterexample
from tests.exhaustive.small_world import SmallWorld
from tests.exhaustive.state import Bounds, WorldState

SETTLE_STEPS_MAX = 2_000
SETTLE_TICKS_MAX = 60
"""Most steps, and timers among them, from any state until each client is live and equal to the store (no faults)."""


@dataclass
class Report:
    """The extent of a search. `exhausted`: every state within the bounds was visited."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    exhausted: bool = False
    pruned: int = 0
    client_states: int = 0
    node_states: int = 0
    machine_runs: int = 0
    settle_steps: int = 0
    settle_ticks: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        end = "exhausted" if self.exhausted else "cut off"
        return (
            f"{self.states} states, {self.transitions} transitions, depth {self.depth} ({end}, {self.pruned} pruned);"
            f" {self.client_states} client and {self.node_states} node states, {self.machine_runs} machine runs;"
            f" settled within {self.settle_steps} steps, {self.settle_ticks} timers; {self.seconds:.1f} s"
        )


class Search:
    """One search, of about `states_max` states at most. `settles`: check that every state converges."""

    def __init__(self, bounds: Bounds, states_max: int, *, settles: bool = True) -> None:
        self.world = SmallWorld(bounds)
        self.report = Report()
        self._states_max = states_max
        self._settles = settles
        self._settled: dict[tuple[object, ...], tuple[int, int]] = {}
        self._states: list[WorldState] = []
        self._from: list[tuple[int, str]] = []

    def run(self) -> Report:
        """Search. Raises `Counterexample` with a trace of the shortest way there."""
        began = time.perf_counter()
        try:
            self._search(self._begin())
        finally:
            self._count(began)
        return self.report

    def _count(self, began: float) -> None:
        report, world = self.report, self.world
        report.states, report.pruned = len(self._states), world.pruned
        report.client_states, report.node_states = len(world.clients.states.things), len(world.nodes.states.things)
        report.machine_runs = world.clients.runs + world.nodes.runs
        report.seconds = time.perf_counter() - began

    def _begin(self) -> WorldState:
        state = self.world.begin()
        if not self.world.bounds.warm:
            return state
        budget = state.budget
        return self._settle(state)[-1]._replace(budget=budget)

    def _search(self, first: WorldState) -> None:
        numbers = {first: 0}
        states, came = self._states, self._from
        states.append(first)
        came.append((0, "begin"))
        depth, at, layer_end = 0, 0, 1
        while at < len(states):
            if at == layer_end:
                depth, layer_end = depth + 1, len(states)
            try:
                for label, after in self.world.steps(states[at]):
                    self.report.transitions += 1
                    if after not in numbers:
                        numbers[after] = len(states)
                        states.append(after)
                        came.append((at, label))
                if self._settles:
                    self._settle(states[at])
            except Counterexample as found:
                found.trace = (*self._trace(at), *found.trace)
                raise
            self.report.depth = depth
            at += 1
            if len(states) > self._states_max:
                return
        self.report.exhausted = True

    def walk(self, seed: int, walks: int, steps_max: int) -> Report:
        """Walk at random instead, deeper than a search gets; the end of each walk has to converge."""
        began, random = time.perf_counter(), Random(seed)
        first = self._begin()
        try:
            for _ in range(walks):
                self._walk(first, random, steps_max)
        finally:
            self._count(began)
        return self.report

    def _walk(self, state: WorldState, random: Random, steps_max: int) -> None:
        world, labels = self.world, []
        try:
            for _ in range(steps_max):
                choices = [*world.fair(state) * 3, *world.faults(state)]
                if not choices:
                    break
                label, act = random.choice(choices)
                state = world.take(state, label, act)
                labels.append(label)
            self._settle(state)
        except Counterexample as found:
            found.trace = (*labels, *found.trace)
            raise
        self.report.transitions += len(labels)
        self.report.depth = max(self.report.depth, len(labels))

    def follow(self, labels: Sequence[str]) -> None:
        """Take the steps of these labels, for a counterexample that lies deeper than a search gets in time."""
        state, world = self._begin(), self.world
        for label in labels:
            choices = dict([*world.fair(state), *world.faults(state)])
            assert label in choices, f"{label!r} is none of {list(choices)}"
            state = world.take(state, label, choices[label])

    def _trace(self, at: int) -> list[str]:
        labels: list[str] = []
        while at:
            at, label = self._from[at]
            labels.append(label)
        return labels[::-1]

    def _settle(self, state: WorldState) -> list[WorldState]:
        """Go on without faults until each client is content. Timers fire only when no other step is left."""
        passed, ticks, labels = [state], [0], []
        world = self.world
        while len(passed) < SETTLE_STEPS_MAX and ticks[-1] < SETTLE_TICKS_MAX:
            known = passed[-1][:-1]
            if known in self._settled:
                break
            fair = world.fair(passed[-1])
            unhappy = [i for i in range(len(state.clients)) if not world.content(passed[-1], i)]
            if fair:
                label, act = fair[0]
            elif unhappy:
                label, act = f"timer of {unhappy[0]}", ("tick", unhappy[0])
            else:
                break
            labels.append(label)
            ticks.append(ticks[-1] + (act[0] == "tick"))
            try:
                passed.append(world.take(passed[-1], label, act))
            except Counterexample as found:
                found.trace = ("| then, without faults:", *labels)
                raise
        else:
            late = Counterexample("L", f"no convergence within {len(passed)} steps and {ticks[-1]} timers")
            late.trace = ("| then, without faults:", *labels[:30], "…")
            raise late
        more_steps, more_ticks = self._settled.get(passed[-1][:-1], (0, 0))
        for at, on_the_way in enumerate(passed):
            steps = len(passed) - 1 - at + more_steps
            self._settled[on_the_way[:-1]] = (steps, ticks[-1] - ticks[at] + more_ticks)
        report, (steps, fired) = self.report, self._settled[state[:-1]]
        report.settle_steps, report.settle_ticks = max(report.settle_steps, steps), max(report.settle_ticks, fired)
        return passed


def explore(bounds: Bounds, states_max: int, *, settles: bool = True) -> Report:
    """Search within bounds, about `states_max` states at most; return what was covered. Raises `Counterexample`."""
    return Search(bounds, states_max, settles=settles).run()
