"""Gives a fresh machine the events of a trace, and compares all that it draws and does."""

from __future__ import annotations

from typing import Any

from softstate.client.machine.machine import Machine
from softstate.testing.conformance.client.draws import DrawsDiffer, GivenDraws
from softstate.testing.conformance.client.form import Json, action_form, event_of, options_of
from softstate.testing.conformance.client.recorder import look_at, state_of
from softstate.testing.conformance.client.trace import Trace

OUTCOMES = ("do", "mode", "due", "age")
"""The parts of a step that must be equal."""


class TraceDiffers(AssertionError):
    """A machine did something else than the trace says; the message names the line and the first difference."""


def replay(trace: Trace) -> None:
    """Replay a trace on a machine of its own. Raises `TraceDiffers` at the first step of which something differs."""
    draws = GivenDraws()
    draws.give(trace.header["draws"])
    machine = Machine(options_of(trace.header["options"]), draws)
    for number, line in enumerate(trace.lines, start=2):
        try:
            _replay_line(machine, draws, line)
        except AssertionError as error:
            raise TraceDiffers(f"{trace.name}, line {number}, {line.get('event', 'look')}: {error}") from None


def _replay_line(machine: Machine, draws: GivenDraws, line: Json) -> None:
    now = float(line["t"])
    if "look" in line:
        _compare(line["look"], look_at(machine, now, line["look"]["known"]))
        return
    for _ in range(line.get("times", 1)):
        draws.give(line.get("draws", ()))
        actions = machine.handle(event_of(line), now)
        draws.check_all_drawn()
        found = {"do": [action_form(action) for action in actions], **state_of(machine, now)}
        _compare({name: line[name] for name in OUTCOMES}, found)


def _compare(wanted: Json, found: Json) -> None:
    for name, item in wanted.items():
        if found[name] != item:
            raise DrawsDiffer(f"`{name}` is {_brief(found[name])}, the trace has {_brief(item)}")


def _brief(item: Any) -> str:
    text = str(item)
    return text if len(text) <= 400 else f"{text[:400]}…"
