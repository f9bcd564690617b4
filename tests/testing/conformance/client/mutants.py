"""The mutants of the client's machine that traces have to kill: those of all tests, and broken rows of its table."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import TypeAlias

import pytest

from softstate.client.machine.table import ROWS, TABLE, Row
from softstate.model import Mode
from softstate.testing.conformance.client.replayer import replay
from softstate.testing.conformance.client.trace import Trace
from tests.client.machine import (
    test_beats,
    test_one_flight_mutants,
    test_pace_mutants,
    test_reach_mutants,
    test_small_world,
)
from tests.exhaustive import mutants as small_worlds
from tests.simulation import beat_mutants, mutants as worlds, permission_mutants

Mutate: TypeAlias = Callable[[pytest.MonkeyPatch], None]

MODULES: tuple[ModuleType, ...] = (
    test_beats,
    test_one_flight_mutants,
    test_pace_mutants,
    test_reach_mutants,
    test_small_world,
    small_worlds,
    worlds,
    beat_mutants,
    permission_mutants,
)
"""Each function of these with the one parameter `patch` is a mutant."""

NOTICED = (AssertionError, AttributeError, LookupError, TypeError, ValueError)
"""Errors of a machine that a rule is missing of: it does something else, or breaks."""


def mutants_of(module: ModuleType) -> Iterator[tuple[str, Mutate]]:
    """List the mutants that a module defines, by their names."""
    for name, function in vars(module).items():
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if own and list(inspect.signature(function).parameters) == ["patch"]:
            yield f"{module.__name__.removeprefix('tests.')}:{name.strip('_')}", function


MUTANTS: dict[str, Mutate] = dict(pair for module in MODULES for pair in mutants_of(module))


def rows_name(number: int) -> str:
    """Return a name for a row of the literal."""
    modes, triggers, _, _ = ROWS[number]
    return f"{'+'.join(modes)}/{'+'.join(trigger.name for trigger in triggers)}"


def change_row(patch: pytest.MonkeyPatch, number: int, row: Row) -> None:
    """Put another row into every cell of one of the literal."""
    modes, triggers, _, _ = ROWS[number]
    for mode in modes:
        for trigger in triggers:
            patch.setitem(TABLE, (mode, trigger), row)


def rows_broken() -> Iterator[tuple[str, int, Row]]:
    """List each row of the table with one action less, with two in another order, and with another next mode."""
    for number, (modes, _, to, actions) in enumerate(ROWS):
        for at, action in enumerate(actions):
            yield f"{rows_name(number)} without {action.__name__}", number, Row(to, (*actions[:at], *actions[at + 1 :]))
        if to is not None:
            other: Mode = "polling" if to != "polling" else "syncing"
            yield f"{rows_name(number)} to {other}", number, Row(other, actions)
            if modes != (to,):
                yield f"{rows_name(number)} stays", number, Row(None, actions)


def first_failure(traces: Sequence[Trace]) -> str | None:
    """Replay traces until one fails; return what fails then, None if nothing does."""
    for trace in traces:
        try:
            replay(trace)
        except NOTICED as error:
            return f"{trace.name}: {error}"
    return None
