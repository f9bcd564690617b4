"""A machine whose every event is recorded, with what it drew and did, as the lines of a trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import final

from softstate.client.machine.events import Action, Event
from softstate.client.machine.machine import Machine, MachineOptions
from softstate.testing.conformance.client.draws import GivenDraws, RecordedDraws
from softstate.testing.conformance.client.form import (
    Json,
    action_form,
    event_form,
    event_of,
    options_form,
    options_of,
    plain,
)
from softstate.testing.conformance.client.trace import FORMAT, Trace


@final
class Recorder:
    """Records one machine, which draws from `draws`. `trace` grows with each event."""

    def __init__(self, name: str, about: str, options: MachineOptions, draws: RecordedDraws | GivenDraws) -> None:
        self._draws = draws
        self.machine = Machine(options, self._draws)
        header = {"trace": name, "format": FORMAT, "about": about, "options": options_form(options), "covers": []}
        self.trace = Trace({**header, "draws": self._draws.take()})

    def handle(self, event: Event, now: float, times: int = 1) -> list[Action]:
        """Give the machine an event at `now`, and record that; `times` in a row, if the same comes of each.

        Raises `ValueError` if something else comes of a repetition.
        """
        actions = self._machine_takes(event, now)
        step = self._step(event, now, actions)
        for _ in range(times - 1):
            again = self._step(event, now, self._machine_takes(event, now))
            if again != step:
                raise ValueError(f"what comes of {event} changes with its repetition: {step} and {again}")
        if times > 1:
            step = {"t": now, "times": times, **step}
        self.trace.lines.append(step)
        return actions

    def look(self, now: float, names: Iterable[str]) -> None:
        """Record what the machine answers to questions about `names`, and about itself."""
        self.trace.lines.append({"t": now, "look": look_at(self.machine, now, names)})

    def _machine_takes(self, event: Event, now: float) -> list[Action]:
        return self.machine.handle(event, now)

    def _step(self, event: Event, now: float, actions: Iterable[Action]) -> Json:
        step: Json = {"t": now, **event_form(event)}
        if draws := self._draws.take():
            step["draws"] = draws
        step["do"] = [action_form(action) for action in actions]
        if cells := [f"{mode}/{trigger.name}" for mode, trigger in self.machine.describe().fired]:
            step["cells"] = cells
        return {**step, **state_of(self.machine, now)}


def record_again(trace: Trace) -> Trace:
    """Record a trace once more from its own events, times and draws: of a world that is not at hand.

    Raises `DrawsDiffer` if the machine draws otherwise by now: then the trace has to be cut from its world again.
    """
    draws = GivenDraws()
    draws.give(trace.header["draws"])
    recorder = Recorder(trace.name, trace.header["about"], options_of(trace.header["options"]), draws)
    for line in trace.lines:
        if "look" in line:
            recorder.look(line["t"], line["look"]["known"])
            continue
        draws.give(line.get("draws", ()))
        recorder.handle(event_of(line), line["t"], line.get("times", 1))
        draws.check_all_drawn()
    return recorder.trace


def state_of(machine: Machine, now: float) -> Json:
    """Return what every step tells of its machine: mode, the time of the next tick, and the age of all it wants."""
    return {"mode": machine.mode, "due": plain(machine.deadline()), "age": plain(machine.age(now))}


def look_at(machine: Machine, now: float, names: Iterable[str]) -> Json:
    """Return what a look tells: position, knowledge and age of each name, damage, counters, the last error."""
    names = list(names)
    return {
        "position": plain(machine.position),
        "known": {name: plain(machine.known(name)) for name in names},
        "ages": {name: plain(machine.age(now, [name])) for name in names},
        "unreadable": machine.unreadable(),
        "value_bytes_max": machine.value_bytes_max,
        "last_error": plain(machine.last_error),
        "statistics": {name: count for name, count in asdict(machine.statistics()).items() if count},
    }
