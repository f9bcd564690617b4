"""The state of the memory, by two counts: at its bounds, and after much was freed."""

from __future__ import annotations

import pytest

from softstate.server.memory.pressure import Fill, Pressure


def fills(*parts: float) -> list[str]:
    pressure = Pressure(1_000)
    found = []
    for part in parts:
        pressure.look(round(1_000 * part), 0)
        found.append(str(pressure.fill))
    return found


@pytest.mark.parametrize(
    ("parts", "states"),
    [
        ((0.899, 0.9, 0.999, 1.0), "easy tight tight full"),
        ((0.9, 0.85, 0.849), "tight tight easy"),
        ((1.0, 0.9, 0.899, 0.849), "full full tight easy"),
        ((1.0, 0.849), "full easy"),
        ((0.86, 0.9, 0.86, 0.84, 0.86), "easy tight tight easy easy"),
    ],
)
def test_states(parts: tuple[float, ...], states: str) -> None:
    assert fills(*parts) == states.split()


def test_a_change_of_state_is_told_once() -> None:
    pressure = Pressure(1_000)
    assert [pressure.look(size, 0) for size in (0, 900, 950, 1_000, 1_200, 950, 100, 0)] == [
        False, True, False, True, False, False, True, False,
    ]  # fmt: skip


def test_the_larger_count_is_believed() -> None:
    pressure = Pressure(1_000)
    pressure.look(500, 700)
    assert pressure.used == 700
    pressure.look(800, 700)
    assert pressure.used == 800


def test_memory_that_was_freed_and_stays_resident_is_free() -> None:
    """Without that, leases would be ended until none is left: the system does not get it back."""
    pressure = Pressure(1_000)
    pressure.look(950, 1_000)
    assert pressure.fill is Fill.FULL
    pressure.look(600, 1_000)
    assert (pressure.used, pressure.fill) == (650, Fill.EASY)
    pressure.look(600, 800)
    assert pressure.used == 650, "the system took a part of it back"
    pressure.look(600, 640)
    assert pressure.used == 640
    pressure.look(950, 1_000)
    assert pressure.used == 1_000
    pressure.look(600, 1_200)
    assert pressure.used == 850, "something else has grown"


def test_leases_have_room_until_it_is_tight_whatever_else_there_is() -> None:
    pressure = Pressure(1_000)
    pressure.look(400, 600)
    assert pressure.room(200) == 500
    pressure.look(400, 950)
    assert pressure.room(200) == 150


def test_leases_give_back_what_is_too_much_but_not_all_that_they_hold() -> None:
    pressure = Pressure(1_000)
    pressure.look(999, 0)
    assert pressure.excess(800) == 0
    pressure.look(1_050, 0)
    assert pressure.excess(800) == 150
    assert pressure.excess(200) == 100
    assert pressure.excess(90) == 0, "they are not what fills it"
    pressure.look(950, 0)
    assert pressure.excess(800) == 50
    pressure.look(899, 0)
    assert pressure.excess(800) == 0
