"""The session's table: each cell is a row or a named reason, and no other code asks for the state."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

import softstate.session
from softstate.session import events
from softstate.session.events import EVENTS, NodeEvent
from softstate.session.machine import FAREWELLS, LEASE_ENDS
from softstate.session.state import State
from softstate.session.table import IGNORED, MESSAGES, TABLE, Key
from softstate.wire.messages import ClientBye, ClientMessage, Farewell, Reason
from tests.kit.session_rig import SessionRig

KEYS: list[Key] = [*MESSAGES, *EVENTS]
SOURCES = sorted(Path(softstate.session.__path__[0]).glob("*.py"))


@pytest.mark.parametrize("key", KEYS, ids=lambda key: getattr(key, "__name__", repr(key)))
@pytest.mark.parametrize("state", State)
def test_every_cell_is_a_row_or_ignored_for_a_named_reason(state: State, key: Key) -> None:
    assert ((state, key) in TABLE) != ((state, key) in IGNORED)


def test_the_tables_hold_nothing_else() -> None:
    assert len(TABLE) + len(IGNORED) == len(State) * len(KEYS) == 5 * 30
    assert all(IGNORED.values())


def test_no_message_and_no_event_is_left_out() -> None:
    assert set(MESSAGES) == set(get_args(ClientMessage))
    defined = [event for event in vars(events).values() if isinstance(event, NodeEvent)]
    assert sorted(map(repr, EVENTS)) == sorted(map(repr, defined))


def test_every_reason_and_every_farewell_is_an_event() -> None:
    assert set(LEASE_ENDS) == set(get_args(Reason))
    assert set(FAREWELLS) == set(get_args(Farewell))


def test_a_cell_leads_to_states_and_every_state_but_the_first_is_led_to() -> None:
    assert all(rule.to for rule in TABLE.values())
    led_to = {to for (state, _), rule in TABLE.items() for to in rule.to if to is not state}
    assert led_to == set(State) - {State.NEW}


def test_an_ended_session_does_nothing() -> None:
    assert not [cell for cell in TABLE if cell[0] is State.ENDED]


def readers_of_the_state(source: Path) -> set[str]:
    """Find the functions that read an attribute `state`."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {
        f"{source.stem}.{function.name}"
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "state" and isinstance(node.ctx, ast.Load)
    }


def test_only_the_look_up_reads_the_state() -> None:
    readers = set().union(*map(readers_of_the_state, SOURCES))
    assert readers == {"machine._receive", "machine._take"}


def test_a_function_that_leads_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = (State.OPEN, ClientBye)
    monkeypatch.setitem(TABLE, cell, TABLE[cell]._replace(to=(State.OPEN,)))
    peer = SessionRig().open_session()
    with pytest.raises(AssertionError):
        peer.machine.received(ClientBye(), 100.0)
