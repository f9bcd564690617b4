"""``python -m tests.testing.conformance.client.cut SEED STEPS NAME`` cuts a trace from a small world.

It is the life of the world's machine from its beginning, so many steps of it. Choose one that kills what no other trace
does; from then on it is recorded again from itself.
"""

from __future__ import annotations

import sys
from typing import Any

from softstate.client.machine.events import Action, Event, Opened, Wanted
from softstate.client.machine.state import MachineOptions
from softstate.testing.conformance.client.cells import covered
from softstate.testing.conformance.client.draws import RecordedDraws
from softstate.testing.conformance.client.recorder import Recorder
from softstate.testing.conformance.client.trace import Trace, path_of
from tests.kit.machine_rig import URL
from tests.kit.small_world import NAMES, SmallWorld

LOOK_EVERY = 10


class RecordedMachine:
    """Stands for the machine of a world, and records it up to a number of steps."""

    def __init__(self, recorder: Recorder, steps: int) -> None:
        self._recorder = recorder
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder.machine, name)

    def handle(self, event: Event, now: float) -> list[Action]:
        if self._steps <= 0:
            return self._recorder.machine.handle(event, now)
        self._steps -= 1
        actions = self._recorder.handle(event, now)
        if self._steps % LOOK_EVERY == 0:
            self._recorder.look(now, NAMES)
        return actions

    @property
    def done(self) -> bool:
        return self._steps <= 0


def cut(seed: int, steps: int, name: str) -> Trace:
    """Run a small world until its machine has had so many events; return its trace."""
    about = f"Cut from a small world, seed {seed}: commits, damage, doubts, restored backups, lost and late messages."
    options = MachineOptions((URL,), connect_timeout_s=1.0, poll_timeout_s=1.0)
    recorder = Recorder(f"cut/{name}", about, options, RecordedDraws(seed))
    world = SmallWorld(seed)
    machine = RecordedMachine(recorder, steps)
    world.machine = machine  # type: ignore[assignment]
    world.handle(Wanted(["a", "p/"]))
    world.handle(Opened())
    while not machine.done:
        world.step()
    trace = recorder.trace
    trace.header["covers"] = covered(trace)
    return trace


def main(seed: str, steps: str, name: str) -> None:
    trace = cut(int(seed), int(steps), name)
    path = path_of(trace.name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(trace.text(), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
